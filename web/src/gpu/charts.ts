/** Which charts a GPU gets: four that everyone looks at, and a small one for every other metric. */

import { type Catalogue, metricTitle, unitOf } from "../metrics";
import type { Column, Series } from "./series";

/** Memory used as a share of what there is, computed here so that it shares an axis with the utilisation. */
export const MEMORY_SHARE = "memory_share";

export interface Line {
  metric: string;
  label: string;
}

export interface ChartSpec {
  title: string;
  unit: string;
  lines: readonly Line[];
  /** A line across: at the value of a metric, such as the slowdown point or the cap, or at a number. */
  reference?: { metric: string | number; label: string; critical: boolean };
  /** Ends of the value axis, where they are known beforehand. */
  min?: number;
  max?: number;
}

const MAIN: readonly ChartSpec[] = [
  {
    title: "Utilisation and memory",
    unit: "%",
    lines: [
      { metric: "utilization", label: "GPU busy" },
      { metric: MEMORY_SHARE, label: "Memory used" },
    ],
    min: 0,
    max: 100,
  },
  {
    title: "Temperature",
    unit: "°C",
    lines: [
      { metric: "temperature", label: "Core" },
      { metric: "memory_temperature", label: "Memory" },
    ],
    reference: { metric: "slowdown_temperature", label: "slows down at", critical: true },
  },
  {
    title: "Power",
    unit: "W",
    lines: [{ metric: "power_draw", label: "Draw" }],
    reference: { metric: "power_limit", label: "cap", critical: false },
    min: 0,
  },
  {
    title: "Clocks",
    unit: "MHz",
    lines: [
      { metric: "sm_clock", label: "SM" },
      { metric: "memory_clock", label: "Memory" },
      { metric: "graphics_clock", label: "Graphics" },
    ],
    min: 0,
  },
];

/** Said by a line across another chart, or by the share; a chart of its own would be a flat line. */
const SAID_ELSEWHERE = new Set(["slowdown_temperature", "power_limit", "memory_total"]);

/** The metrics with those of the main charts first and in their order. */
export function mostWanted(metrics: readonly string[]): string[] {
  const first = new Set([
    ...MAIN.flatMap((chart) => [...chart.lines.map((line) => line.metric), String(chart.reference?.metric ?? "")]),
    "memory_used",
    "memory_total",
    "memory_free",
  ]);
  const known = new Set(metrics);
  return [...[...first].filter((metric) => known.has(metric)), ...metrics.filter((metric) => !first.has(metric))];
}

export function chartsFor(series: Series, catalogue: Catalogue): { main: ChartSpec[]; other: ChartSpec[] } {
  const present = (metric: string): boolean => (series.mean[metric] ?? []).some((value) => value !== null);
  const main = MAIN.map((chart) => ({ ...chart, lines: chart.lines.filter((line) => present(line.metric)) })).filter(
    (chart) => chart.lines.length > 0,
  );
  const taken = new Set([...main.flatMap((chart) => chart.lines.map((line) => line.metric)), ...SAID_ELSEWHERE]);
  const other = Object.keys(series.mean)
    .filter((metric) => !taken.has(metric) && present(metric))
    .sort()
    .map((metric) => {
      const unit = unitOf(catalogue, metric);
      const bounds = unit === "%" ? { min: 0, max: 100 } : {};
      return { title: metricTitle(metric), unit, lines: [{ metric, label: metricTitle(metric) }], ...bounds };
    });
  return { main, other };
}

/** `series` with the share of memory in use, where it can be known. */
export function withMemoryShare(series: Series): Series {
  const { memory_total: totals, memory_used: used, memory_free: free } = series.mean;
  const total = totals?.findLast((value) => value !== null);
  const last = used?.findLastIndex((value, at) => value !== null && typeof free?.[at] === "number") ?? -1;
  const size = total ?? (last >= 0 ? (used?.[last] as number) + (free?.[last] as number) : null);
  if (!used || !size) return series;
  const share = (column: Column | undefined): Column =>
    (column ?? used).map((value) => (value === null ? null : (100 * value) / size));
  return {
    ...series,
    mean: { ...series.mean, [MEMORY_SHARE]: share(used) },
    low: { ...series.low, [MEMORY_SHARE]: share(series.low.memory_used) },
    high: { ...series.high, [MEMORY_SHARE]: share(series.high.memory_used) },
  };
}

/** The last known value of a metric that is drawn as a line across; a number is its own. */
export function referenceValue(series: Series, metric: string | number): number | null {
  if (typeof metric === "number") return metric;
  return series.mean[metric]?.findLast((value) => value !== null) ?? null;
}
