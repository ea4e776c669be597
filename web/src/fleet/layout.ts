/** Where the heatmap's squares go: as large as fit, hosts as blocks in a grid, long groups as bands of the full width. */

/** Squares are whole pixels between these, gaps included. */
const PITCH_MAX = 72;
const PITCH_MIN = 4;
const LABEL_HEIGHT = 18;
/** Labels are left out where squares are smaller, or where a block is too narrow to read one. */
const LABEL_PITCH_MIN = 9;
const LABEL_WIDTH_MIN = 34;
/** Groups up to this size stand side by side as blocks. */
const BLOCK_SIZE_MAX = 32;

export interface Block {
  x: number;
  y: number;
  width: number;
  columns: number;
  count: number;
}

export interface Layout {
  /** Distance from one square to the next. */
  pitch: number;
  /** Side of a square. */
  side: number;
  labels: boolean;
  blocks: Block[];
  width: number;
  height: number;
}

/** Lay out groups of the given sizes in `width` pixels, and in `height` if squares of the smallest size allow. */
export function layOut(sizes: readonly number[], width: number, height: number): Layout {
  const largest = Math.max(1, ...sizes);
  const labelled = sizes.length > 1;
  const inBlocks = labelled && largest <= BLOCK_SIZE_MAX;
  const choices = inBlocks
    ? [1, 2, 4, 8, 16, 32].filter((columns) => columns === 1 || columns < largest * 2)
    : [Infinity];
  let best: Layout | undefined;
  for (let pitch = PITCH_MAX; pitch >= PITCH_MIN; pitch--) {
    for (const columns of choices) {
      const layout = place(sizes, width, pitch, Math.min(columns, largest), labelled && pitch >= LABEL_PITCH_MIN);
      if (layout.width > width && pitch > PITCH_MIN) continue;
      if (layout.height <= height && (!best || layout.height < best.height)) best = layout;
    }
    if (best) return best;
  }
  // Nothing fits: the smallest squares, as tall as it takes.
  return place(sizes, width, PITCH_MIN, Math.min(choices.at(-1) as number, largest), false);
}

function place(sizes: readonly number[], width: number, pitch: number, columnsWanted: number, labels: boolean): Layout {
  const columns = Math.max(1, Math.min(columnsWanted, Math.floor(width / pitch)));
  const blockWidth = columns * pitch;
  const labelsFit = labels && blockWidth >= LABEL_WIDTH_MIN;
  const gap = Math.max(3, Math.round(pitch / 3));
  const head = labelsFit ? LABEL_HEIGHT : 0;
  const blocks: Block[] = [];
  let [x, y, tallest, right] = [0, 0, 0, 0];
  for (const count of sizes) {
    const tall = head + Math.ceil(count / columns) * pitch;
    if (x > 0 && x + blockWidth > width) {
      [x, y, tallest] = [0, y + tallest + gap, 0];
    }
    blocks.push({ x, y: y + head, width: blockWidth, columns, count });
    tallest = Math.max(tallest, tall);
    right = Math.max(right, x + blockWidth);
    x += blockWidth + gap;
  }
  spread(blocks, width - right, gap);
  const side = pitch - (pitch >= 16 ? 2 : 1);
  const reach = Math.max(0, ...blocks.map((block) => block.x + block.width));
  return { pitch, side, labels: labelsFit, blocks, width: reach, height: y + tallest };
}

/** Give the room that is left on the right to the gaps between blocks, when there is more than one line of them. */
function spread(blocks: Block[], room: number, gap: number): void {
  const inFirstLine = blocks.filter((block) => block.y === blocks[0]?.y).length;
  if (inFirstLine < 2 || inFirstLine === blocks.length || room <= 0) return;
  const more = Math.floor(Math.min(room / (inFirstLine - 1), 2 * gap + 8));
  for (const [index, block] of blocks.entries()) block.x += (index % inFirstLine) * more;
}

/** The square's upper left corner. */
export function squareAt(layout: Layout, block: number, place: number): { x: number; y: number } {
  const { x, y, columns } = layout.blocks[block] as Block;
  return { x: x + (place % columns) * layout.pitch, y: y + Math.floor(place / columns) * layout.pitch };
}

/** The block and the place in it at a point, or `null` between the squares. */
export function hit(layout: Layout, x: number, y: number): { block: number; place: number } | null {
  for (const [index, block] of layout.blocks.entries()) {
    const column = Math.floor((x - block.x) / layout.pitch);
    const row = Math.floor((y - block.y) / layout.pitch);
    if (column < 0 || column >= block.columns || row < 0) continue;
    const place = row * block.columns + column;
    if (place < block.count) return { block: index, place };
  }
  return null;
}
