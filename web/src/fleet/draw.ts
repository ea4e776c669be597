/** Draws the heatmap on a canvas: shape before colour for what is wrong. */

import { css, inkOn, type Scale } from "../colour";
import { quantity } from "../format";
import type { Colours } from "../ui/theme";
import type { Fleet } from "./fleet";
import { type Layout, squareAt } from "./layout";
import type { RowGroup } from "./select";
import type { Status } from "./status";

/** Squares of this side and more carry their value as text. */
const TEXT_SIDE_MIN = 26;
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif';

export interface Picture {
  fleet: Fleet;
  statuses: readonly Status[];
  groups: readonly RowGroup[];
  layout: Layout;
  metric: string;
  unit: string;
  scale: Scale;
  colours: Colours;
}

export function drawHeatmap(canvas: HTMLCanvasElement, picture: Picture): void {
  const { layout, groups, colours } = picture;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.ceil(layout.width * ratio), Math.ceil(layout.height * ratio)];
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  if (!context) return;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, layout.width, layout.height);
  context.font = FONT;
  const column = picture.fleet.columns.get(picture.metric);
  for (const [block, group] of groups.entries()) {
    if (layout.labels) drawLabel(context, group.label, layout, block, colours);
    for (const [place, row] of group.rows.entries()) {
      const { x, y } = squareAt(layout, block, place);
      drawSquare(context, x, y, layout.side, column?.[row] ?? Number.NaN, picture.statuses[row] as Status, picture);
    }
  }
}

function drawSquare(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  side: number,
  value: number,
  status: Status,
  { scale, unit, colours }: Picture,
): void {
  const lost = status.condition === "lost";
  const empty = lost || Number.isNaN(value);
  const colour = empty ? null : scale(value);
  context.globalAlpha = status.condition === "stale" ? 0.35 : 1;
  context.fillStyle = colour ? css(colour) : colours.empty;
  fill(context, x, y, side);
  if (lost) hatch(context, x, y, side, colours.hatch);
  if (colour && side >= TEXT_SIDE_MIN) {
    context.fillStyle = inkOn(colour);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(quantity(value, unit).text, x + side / 2, y + side / 2 + 0.5, side - 4);
  }
  context.globalAlpha = 1;
  if (status.alert)
    ring(context, x, y, side, status.alert.severity === "critical" ? colours.critical : colours.warning, colours.bg);
  else if (status.level === "critical" && !lost) ring(context, x, y, side, colours.critical, colours.bg);
  else if (status.level === "warning" && side >= 5) corner(context, x, y, side, colours);
}

function fill(context: CanvasRenderingContext2D, x: number, y: number, side: number): void {
  if (side < 12) {
    context.fillRect(x, y, side, side);
    return;
  }
  context.beginPath();
  context.roundRect(x, y, side, side, 3);
  context.fill();
}

function hatch(context: CanvasRenderingContext2D, x: number, y: number, side: number, colour: string): void {
  const spacing = Math.max(4, Math.round(side / 5));
  context.save();
  context.beginPath();
  context.rect(x, y, side, side);
  context.clip();
  context.beginPath();
  for (let offset = spacing / 2; offset < 2 * side; offset += spacing) {
    context.moveTo(x + offset, y);
    context.lineTo(x + offset - side, y + side);
  }
  context.strokeStyle = colour;
  context.lineWidth = side < 12 ? 1 : 2;
  context.stroke();
  context.restore();
}

/** A ring inside the square, set off from its fill by a line of the page's colour. */
function ring(context: CanvasRenderingContext2D, x: number, y: number, side: number, colour: string, bg: string): void {
  const width = side < 12 ? 1.5 : 3;
  for (const [inset, stroke, line] of [
    [width + 0.5, bg, 1.5],
    [width / 2, colour, width],
  ] as const) {
    context.strokeStyle = stroke;
    context.lineWidth = line;
    context.strokeRect(x + inset, y + inset, side - 2 * inset, side - 2 * inset);
  }
}

/** The upper right corner turned down. */
function corner(context: CanvasRenderingContext2D, x: number, y: number, side: number, colours: Colours): void {
  const size = Math.max(3, Math.min(12, side * 0.4));
  for (const [length, colour] of [
    [size + 2, colours.bg],
    [size, colours.warning],
  ] as const) {
    context.fillStyle = colour;
    context.beginPath();
    context.moveTo(x + side - length, y);
    context.lineTo(x + side, y);
    context.lineTo(x + side, y + length);
    context.fill();
  }
}

function drawLabel(
  context: CanvasRenderingContext2D,
  label: string,
  layout: Layout,
  block: number,
  colours: Colours,
): void {
  const { x, y, width } = layout.blocks[block] as Layout["blocks"][number];
  context.fillStyle = colours.muted;
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  context.fillText(shortened(context, label, width - 2), x, y - 5);
}

/** The end of a host's name tells it from the others, so that is what is kept. */
function shortened(context: CanvasRenderingContext2D, label: string, width: number): string {
  if (context.measureText(label).width <= width) return label;
  for (let from = 1; from < label.length; from++) {
    const text = `…${label.slice(from)}`;
    if (context.measureText(text).width <= width) return text;
  }
  return "";
}
