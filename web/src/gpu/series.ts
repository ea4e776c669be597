/** A GPU's metrics over time, as columns that live samples are appended to. */

import type { SeriesResponse, StreamUpdate } from "../api";

export type Column = readonly (number | null)[];
type Columns = Readonly<Record<string, Column>>;

export interface Series {
  /** Length of a step in seconds; each point stands for one. */
  step: number;
  times: readonly number[];
  /** Mean, smallest and largest value of each step. */
  mean: Columns;
  low: Columns;
  high: Columns;
  /** Samples that the last point's mean is made of, so that the next one gets its due weight. */
  weight: number;
}

/** One GPU's part of an update. */
export interface Sample {
  time: number;
  values: Readonly<Record<string, { last: number | null; min: number | null; max: number | null }>>;
}

export function seriesFrom(mean: SeriesResponse, low: SeriesResponse, high: SeriesResponse, lastSeen: number): Series {
  const times = mean.timestamps;
  // Min and max of the same steps; when a sample came between the requests, the means will do.
  const same = (other: SeriesResponse): Columns =>
    other.timestamps.length === times.length ? other.columns : mean.columns;
  return {
    step: mean.step_s,
    times,
    mean: mean.columns,
    low: same(low),
    high: same(high),
    weight: Math.max(1, Math.round(lastSeen - (times.at(-1) ?? lastSeen))),
  };
}

export function sampleOf(update: StreamUpdate, gpu: string): Sample | null {
  const at = update.gpus.indexOf(gpu);
  if (at < 0) return null;
  const values = Object.entries(update.columns).map(([metric, { last, min, max }]) => [
    metric,
    { last: last[at] ?? null, min: min?.[at] ?? last[at] ?? null, max: max?.[at] ?? last[at] ?? null },
  ]);
  return { time: update.timestamps[at] as number, values: Object.fromEntries(values) };
}

/** `series` with a live sample: folded into the last step, or as a step of its own. Samples from before change nothing. */
export function append(series: Series, sample: Sample, from: number): Series {
  const lastTime = series.times.at(-1) ?? -Infinity;
  if (sample.time < lastTime) return series;
  const opens = sample.time >= lastTime + series.step;
  const time = series.step > 0 ? Math.floor(sample.time / series.step) * series.step : sample.time;
  // Points that have left the span go, but for one that the line comes from.
  const drop = opens ? Math.max(0, series.times.findIndex((instant) => instant >= from) - 1) : 0;

  const map = (columns: Columns, value: (metric: string, before: number | null) => number | null): Columns =>
    Object.fromEntries(
      Object.entries(columns).map(([metric, column]) => {
        const kept = opens ? column.slice(drop) : column.slice(0, -1);
        return [metric, [...kept, value(metric, opens ? null : (column.at(-1) ?? null))]];
      }),
    );
  const { weight } = series;
  return {
    ...series,
    times: opens ? [...series.times.slice(drop), time] : series.times,
    mean: map(series.mean, (metric, before) => {
      const value = sample.values[metric]?.last ?? null;
      if (before === null || value === null) return value ?? before;
      return (before * weight + value) / (weight + 1);
    }),
    low: map(series.low, (metric, before) => least(before, sample.values[metric]?.min ?? null)),
    high: map(series.high, (metric, before) => most(before, sample.values[metric]?.max ?? null)),
    weight: opens ? 1 : weight + 1,
  };
}

const least = (a: number | null, b: number | null): number | null => (a === null ? b : b === null ? a : Math.min(a, b));
const most = (a: number | null, b: number | null): number | null => (a === null ? b : b === null ? a : Math.max(a, b));

export interface Statistics {
  last: number | null;
  min: number | null;
  mean: number | null;
  max: number | null;
}

export function statistics(series: Series, metric: string): Statistics {
  const known = (series.mean[metric] ?? []).filter((value) => value !== null);
  return {
    last: known.at(-1) ?? null,
    min: (series.low[metric] ?? []).reduce(least, null),
    mean: known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null,
    max: (series.high[metric] ?? []).reduce(most, null),
  };
}

/** How many usual distances between samples make a gap that the line does not cross. */
const GAP_FACTOR = 5;

/**
 * Times and columns ready to draw: steps without any value are left out, and a step of nulls stands where there was
 * nothing for long, so that lines break there and not between samples that are merely far apart.
 */
export function drawable(times: readonly number[], columns: readonly Column[]): [number[], ...(number | null)[][]] {
  const rows: number[] = [];
  for (let row = 0; row < times.length; row++) {
    if (columns.some((column) => typeof column[row] === "number")) rows.push(row);
  }
  const distances = rows.slice(1).map((row, at) => (times[row] as number) - (times[rows[at] as number] as number));
  const usual = distances.toSorted((a, b) => a - b)[Math.floor(distances.length / 2)] ?? 0;

  const shownTimes: number[] = [];
  const shown: (number | null)[][] = columns.map(() => []);
  for (const [at, row] of rows.entries()) {
    const distance = distances[at - 1] ?? 0;
    if (usual > 0 && distance > GAP_FACTOR * usual) {
      shownTimes.push((times[row] as number) - distance / 2);
      for (const column of shown) column.push(null);
    }
    shownTimes.push(times[row] as number);
    for (const [index, column] of columns.entries()) shown[index]?.push(column[row] ?? null);
  }
  return [shownTimes, ...shown];
}
