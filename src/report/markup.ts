// HTML as tagged templates: what is put in is a text, and escaped, unless it is markup itself.

export interface Markup {
  readonly markup: string;
}

type Part = string | number | Markup | readonly Markup[];

export function html(texts: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  let markup = texts[0];
  for (const [i, part] of parts.entries()) markup += toMarkup(part) + texts[i + 1];
  return { markup };
}

/** A text that is HTML (or SVG) already. */
export function raw(markup: string): Markup {
  return { markup };
}

function toMarkup(part: Part): string {
  if (typeof part === "string" || typeof part === "number") return escapeHtml(String(part));
  return "markup" in part ? part.markup : part.map(({ markup }) => markup).join("");
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

export function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (letter) => ENTITIES[letter]);
}
