// SVG to PNG with resvg, compiled to WASM, and the font Inter: the same picture on every machine, whatever fonts it has.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { initWasm, Resvg } from "@resvg/resvg-wasm";

/** Pixels a unit of the SVG: sharp on dense screens. */
const SCALE = 2;

/** Parts of Inter, by script and weight; resvg takes from another part what one lacks. */
const FONTS = ["latin", "latin-ext", "greek", "cyrillic"].flatMap((script) =>
  [400, 600].map((weight) => `inter-${script}-${weight}-normal.woff2`),
);

let ready: Promise<Uint8Array[]> | undefined;

/** Draws an SVG as PNG, `scale` pixels a unit. */
export async function toPng(svg: string, scale: number = SCALE): Promise<Uint8Array> {
  ready ??= load();
  const fontBuffers = await ready;
  const drawing = new Resvg(svg, {
    fitTo: { mode: "zoom", value: scale },
    font: { fontBuffers, defaultFontFamily: "Inter", sansSerifFamily: "Inter" },
  });
  try {
    const image = drawing.render();
    const png = image.asPng();
    image.free();
    return png;
  } finally {
    drawing.free();
  }
}

async function load(): Promise<Uint8Array[]> {
  const file = (specifier: string): Promise<Uint8Array> => readFile(fileURLToPath(import.meta.resolve(specifier)));
  const [wasm, ...fonts] = await Promise.all([
    file("@resvg/resvg-wasm/index_bg.wasm"),
    ...FONTS.map((font) => file(`@fontsource/inter/files/${font}`)),
  ]);
  await initWasm(wasm);
  return fonts;
}
