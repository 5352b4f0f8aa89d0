// The looks of the page: dark text on white, wide tables that scroll by themselves, figures that no page break cuts.
import { FONT, GRID, INK, MUTED } from "./style.ts";

export const PAGE_STYLE: string = `
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: ${INK}; font: 16px/1.55 ${FONT}; }
main { max-width: 788px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 16px 0 8px; }
h2 { font-size: 1.2rem; margin: 40px 0 12px; padding-bottom: 4px; border-bottom: 1px solid ${GRID}; }
h3 { font-size: 0.95rem; margin: 0 0 4px; }
.quiet, figcaption { color: ${MUTED}; font-size: 0.9rem; }
.answer { padding-left: 20px; font-size: 1.05rem; }
.answer li + li { margin-top: 6px; }
.scroll { overflow-x: auto; }
.wide { margin: 0 calc((100% - min(1160px, 100vw - 48px)) / 2); }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: 6px 10px; text-align: right; vertical-align: top; border-bottom: 1px solid ${GRID}; }
thead th { font-weight: 600; vertical-align: bottom; min-width: 86px; }
th[scope="row"], thead th:first-child, .texts th, .texts td { text-align: left; }
th[scope="row"] { font-weight: 600; min-width: 200px; }
th small { display: block; font-weight: 400; color: ${MUTED}; }
.swatch { width: 10px; height: 10px; }
figure { margin: 0 0 36px; break-inside: avoid; }
figure svg { display: block; width: 100%; min-width: 600px; height: auto; }
figcaption { margin: 4px 16px 0; }
.settings { margin-bottom: 24px; display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 20px 28px; font-size: 0.85rem; }
dl { margin: 0; }
dl div { display: flex; justify-content: space-between; gap: 12px; border-bottom: 1px solid ${GRID}; padding: 2px 0; }
dt { color: ${MUTED}; }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
pre { background: #f6f8fa; padding: 12px; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.85rem; }
@media (max-width: 850px) { .wide { margin: 0; } }
@media print {
  main { max-width: none; padding: 0; }
  body { font-size: 11pt; }
  .scroll { overflow: visible; }
  .wide { margin: 0; }
  table { font-size: 7.5pt; }
  th, td { padding: 3px 5px; }
  thead th, th[scope="row"] { min-width: 0; }
  figure svg { min-width: 0; }
  h2 { break-after: avoid; }
  pre { border: 1px solid ${GRID}; }
}
`;
