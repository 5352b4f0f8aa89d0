// What all charts share: a document to draw in, the title, the texts for those who do not see, and the final SVG.
import { parseHTML } from "linkedom";
import { FONT, INK, MUTED } from "./style.ts";

export const WIDTH: number = 720;
export const TEXT_SIZE: number = 12;
const SVG = "http://www.w3.org/2000/svg";

export interface Heading {
  readonly title: string;
  /** The unit, and which direction is better. */
  readonly subtitle: string;
  /** What the chart shows, in a sentence, for those who do not see it. */
  readonly description: string;
}

/** A document for Plot, which makes elements and nothing else of it. */
export function newDocument(): Document {
  return parseHTML("<!doctype html><html><body></body></html>").document;
}

/** An SVG element with attributes and a text. */
export function element(
  document: Document,
  name: string,
  attributes: Readonly<Record<string, string | number>>,
  text?: string,
): Element {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes))
    made.setAttribute(key, typeof value === "number" ? String(Math.round(value * 100) / 100) : value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** How wide a text is about, in pixels: there is no font to measure with. */
export function widthOf(text: string, size: number = TEXT_SIZE): number {
  let units = 0;
  for (const letter of text)
    units += "iljtfrI.,:;|!' ()[]".includes(letter) ? 0.34 : /[A-Zmw@%—]/.test(letter) ? 0.74 : 0.58;
  // A twentieth more, for a reader's font may be wider than Inter.
  return units * size * 1.05;
}

/** Cuts a text that is wider than `most` pixels. */
export function fitted(text: string, most: number, size: number = TEXT_SIZE): string {
  if (widthOf(text, size) <= most) return text;
  let cut = text.length - 1;
  while (cut > 1 && widthOf(`${text.slice(0, cut)}…`, size) > most) cut--;
  return `${text.slice(0, cut).trimEnd()}…`;
}

/** Gives Plot's SVG its paper, heading and description, and makes it a text that stands alone as a file. */
export function finish(document: Document, svg: Element, heading: Heading): string {
  for (const style of svg.querySelectorAll("style")) style.remove();
  svg.removeAttribute("class");
  for (const [name, value] of Object.entries({
    xmlns: SVG,
    role: "img",
    fill: INK,
    "font-family": FONT,
    "font-size": String(TEXT_SIZE),
    "text-anchor": "middle",
  }))
    svg.setAttribute(name, value);
  const paper = element(document, "rect", { width: "100%", height: "100%", fill: "#ffffff" });
  const title = element(
    document,
    "text",
    { x: 16, y: 26, "font-size": 15, "font-weight": 600, "text-anchor": "start" },
    fitted(heading.title, WIDTH - 32, 15),
  );
  const subtitle = element(
    document,
    "text",
    { x: 16, y: 45, fill: MUTED, "text-anchor": "start" },
    fitted(heading.subtitle, WIDTH - 32),
  );
  const first = svg.firstChild;
  for (const child of [
    element(document, "title", {}, heading.title),
    element(document, "desc", {}, heading.description),
    paper,
    title,
    subtitle,
  ])
    svg.insertBefore(child, first);
  return raisePowers(svg.outerHTML);
}

/** `2^10` and `10^15` with a small, raised exponent: not every font has raised digits. */
function raisePowers(svg: string): string {
  return svg.replaceAll(/(<(?:text|tspan)\b[^>]*>)([^<]*\b(?:2|10)\^\d[^<]*)/g, (_, tag: string, text: string) => {
    return (
      tag +
      text.replaceAll(/\b(2|10)\^(\d+)/g, '$1<tspan dy="-4" font-size="9">$2</tspan><tspan dy="4">&#8203;</tspan>')
    );
  });
}
