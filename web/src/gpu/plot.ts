/** One uPlot chart: how it looks, and the line across it. */

import uPlot from "uplot";
import { ticks, time, type Zone } from "../format";
import type { Colours } from "../ui/theme";
import { drawMarkLabels, drawMarks, type Mark } from "./marks";
import type { Span } from "./range";

export interface PlotOptions {
  width: number;
  height: number;
  unit: string;
  lines: number;
  min: number | undefined;
  max: number | undefined;
  colours: Colours;
  zone: Zone;
  /** Read at each drawing, so that they may change without a new chart. */
  span: () => Span;
  reference: () => { value: number; label: string; critical: boolean } | null;
  marks: () => readonly Mark[];
  onCursor: (index: number | null) => void;
  onZoom: (span: Span) => void;
}

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif';

/** Steps of an axis in MiB that are round numbers in GiB too. */
const BINARY_STEPS = Array.from({ length: 24 }, (_, power) => 2 ** power);

/** The second and third line differ in their dashes too, not in colour alone. */
export const DASHES: readonly (readonly number[])[] = [[], [7, 4], [2, 3]];
export const lineColour = (colours: Colours, line: number): string => colours[`line-${(line % 3) + 1}` as "line-1"];

export function plotOptions(options: PlotOptions): uPlot.Options {
  const { colours, unit, zone } = options;
  const grid = { stroke: colours.line, width: 1 };
  const axis = { stroke: colours.muted, font: FONT, grid, ticks: { show: false } };
  return {
    width: options.width,
    height: options.height,
    padding: [8, 20, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      sync: { key: "gpu" },
      drag: { x: true, y: false, setScale: false },
      points: { size: 8, width: 2, fill: colours.bg },
    },
    scales: {
      x: { time: true, range: () => [options.span().from, options.span().to] },
      y: { range: (_plot, low, high) => valueRange(low, high, options) },
    },
    axes: [
      {
        ...axis,
        size: 26,
        gap: 6,
        space: 80,
        values: (_plot, splits, _axis, _space, step) => splits.map((instant) => tick(instant, step, zone)),
      },
      {
        ...axis,
        size: 52,
        gap: 8,
        space: 36,
        ...(unit === "MiB" ? { incrs: BINARY_STEPS } : {}),
        values: (_plot, splits) => ticks(splits, unit),
      },
    ],
    series: [
      {},
      ...Array.from({ length: options.lines }, (_, line) => ({
        stroke: lineColour(colours, line),
        width: 1.75,
        dash: [...(DASHES[line % DASHES.length] ?? [])],
        points: { size: 6, fill: lineColour(colours, line) },
      })),
    ],
    hooks: {
      drawClear: [(plot) => drawMarks(plot, options.marks(), colours)],
      draw: [(plot) => drawReference(plot, options), (plot) => drawMarkLabels(plot, options.marks(), colours)],
      setCursor: [(plot) => options.onCursor(plot.cursor.idx ?? null)],
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width < 8) return;
          options.onZoom({ from: plot.posToVal(left, "x"), to: plot.posToVal(left + width, "x") });
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    },
  };
}

/** A span that a change must fill before it looks like one: a GPU that is one degree warmer is not on fire. */
const SPAN_MIN: Readonly<Record<string, number>> = { "°C": 10, MHz: 100, "": 2 };

function valueRange(low: number | null, high: number | null, options: PlotOptions): [number, number] {
  const across = options.reference()?.value;
  const bottom = options.min ?? Math.min(low ?? 0, across ?? Infinity);
  const top = Math.max(options.max ?? high ?? 1, across ?? -Infinity);
  const span = Math.max(SPAN_MIN[options.unit] ?? 0, (top - bottom) * 1.2, Math.abs(top) * 0.04, 1e-9);
  const room = (span - (top - bottom)) / 2;
  // What is never negative has no axis below zero.
  return [options.min ?? Math.max(bottom - room, bottom >= 0 ? 0 : -Infinity), options.max ?? top + room];
}

function tick(instant: number, step: number, zone: Zone): string {
  if (step >= 86_400) return time.day[zone](instant);
  return step < 60 ? time.clock[zone](instant) : time.minute[zone](instant);
}

function drawReference(plot: uPlot, { reference, colours }: PlotOptions): void {
  const across = reference();
  if (!across) return;
  const { ctx: context, bbox } = plot;
  const y = Math.round(plot.valToPos(across.value, "y", true)) + 0.5;
  const ratio = uPlot.pxRatio;
  context.save();
  const colour = across.critical ? colours.critical : colours.muted;
  context.strokeStyle = colour;
  context.lineWidth = ratio;
  context.setLineDash([3 * ratio, 3 * ratio]);
  context.beginPath();
  context.moveTo(bbox.left, y);
  context.lineTo(bbox.left + bbox.width, y);
  context.stroke();
  context.setLineDash([]);
  context.fillStyle = colour;
  context.font = FONT.replace("12px", `${12 * ratio}px`);
  // At the left: what fires now has its words at the right.
  context.textAlign = "left";
  context.textBaseline = "bottom";
  // In the page's colour first, so that it reads on top of the lines.
  context.strokeStyle = colours.bg;
  context.lineWidth = 4 * ratio;
  context.lineJoin = "round";
  const [x, above] = [bbox.left + 4 * ratio, Math.max(y - 3 * ratio, bbox.top + 14 * ratio)];
  context.strokeText(across.label, x, above);
  context.fillText(across.label, x, above);
  context.restore();
}
