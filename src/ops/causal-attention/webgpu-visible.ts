/**
 * WGSL: the first key that any query of a tile of ROWS sees. Uniform: it decides how far a loop with barriers goes. For
 * kernels with `params.length`, the buffer `firstVisible` and tiles of COLUMNS keys.
 */
export const FIRST_VISIBLE: string = /* wgsl */ `
var<workgroup> tile_begin: u32;
fn first_visible(sequence: u32, row: u32) -> u32 {
  return u32(firstVisible[params.firstVisible_at + sequence * params.firstVisible_stride + row]);
}
fn find_begin(sequence: u32, tile_row: u32, thread: u32) -> u32 {
  if (thread == 0u) {
    var least = params.length;
    for (var row = tile_row; row < min(tile_row + ROWS, params.length); row++) { least = min(least, first_visible(sequence, row)); }
    tile_begin = least / COLUMNS * COLUMNS;
  }
  return workgroupUniformLoad(&tile_begin);
}`;

/** WGSL: where a tile begins to see, and `first`, the first key that the thread's own row sees. */
export const BEGIN_OF_DOCUMENTS: string = /* wgsl */ `
  let begin = find_begin(sequence, tile_row, thread);
  let first = first_visible(sequence, min(row, params.length - 1u));`;
