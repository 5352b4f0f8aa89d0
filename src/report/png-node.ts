// SVG to PNG with resvg, compiled to WASM, and the font Inter: the same picture on every machine, whatever fonts it has.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { initWasm, Resvg } from "@resvg/resvg-wasm";

/** Pixels a unit of the SVG: sharp on dense screens. */
const SCALE = 2;

/** Parts of Inter: what every chart needs, and scripts that names may have. Reading a part takes resvg some 30 ms. */
const LATIN = fontFiles("latin");
const OTHERS = fontFiles("latin-ext", "greek", "cyrillic");

function fontFiles(...scripts: readonly string[]): string[] {
  return scripts.flatMap((script) => [400, 600].map((weight) => `inter-${script}-${weight}-normal.woff2`));
}

interface Fonts {
  readonly latin: Uint8Array[];
  readonly all: Uint8Array[];
}

let ready: Promise<Fonts> | undefined;

/** Draws an SVG as PNG, `scale` pixels a unit. */
export async function toPng(svg: string, scale: number = SCALE): Promise<Uint8Array> {
  ready ??= load();
  const { latin, all } = await ready;
  const fontBuffers = /[\u0100-\u1fff]/.test(svg) ? all : latin;
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

async function load(): Promise<Fonts> {
  const file = (specifier: string): Promise<Uint8Array> => readFile(fileURLToPath(import.meta.resolve(specifier)));
  const fonts = (names: readonly string[]): Promise<Uint8Array[]> =>
    Promise.all(names.map((name) => file(`@fontsource/inter/files/${name}`)));
  const [wasm, latin, others] = await Promise.all([
    file("@resvg/resvg-wasm/index_bg.wasm"),
    fonts(LATIN),
    fonts(OTHERS),
  ]);
  await initWasm(wasm);
  return { latin, all: [...latin, ...others] };
}
