import { describe, expect, test } from "vitest";
import type { SeriesResponse } from "../api";
import { chartsFor, MEMORY_SHARE, mostWanted, withMemoryShare } from "./charts";
import { append, drawable, type Sample, type Series, seriesFrom, statistics } from "./series";

const answer = (columns: SeriesResponse["columns"], timestamps = [100, 110, 120]): SeriesResponse => ({
  gpu: "a",
  step_s: 10,
  timestamps,
  columns,
  completeness: { partial: false, warnings: [] },
});
const series = (columns: SeriesResponse["columns"] = { temperature: [60, 61, 62] }): Series =>
  seriesFrom(answer(columns), answer(columns), answer(columns), 122);
const sample = (time: number, value: number): Sample => ({
  time,
  values: { temperature: { last: value, min: value - 5, max: value + 5 } },
});

describe("live samples", () => {
  test("open a step of their own, or join the last with their due weight", () => {
    const opened = append(series(), sample(133, 70), 0);
    expect(opened.times).toEqual([100, 110, 120, 130]);
    expect(opened.mean.temperature).toEqual([60, 61, 62, 70]);
    const joined = append(opened, sample(134, 80), 0);
    expect(joined.times).toHaveLength(4);
    expect(joined.mean.temperature?.at(-1)).toBe(75);
    expect(append(joined, sample(135, 90), 0).mean.temperature?.at(-1)).toBe(80);
  });

  test("leave the series they came to as it was", () => {
    const before = series();
    append(before, sample(133, 70), 0);
    expect(before.times).toHaveLength(3);
  });

  test("from before the last step change nothing", () => {
    const before = series();
    expect(append(before, sample(90, 70), 0)).toBe(before);
  });

  test("push out what has left the span, but for the point that the line comes from", () => {
    expect(append(series(), sample(133, 70), 115).times).toEqual([110, 120, 130]);
  });

  test("begin a series that had none", () => {
    const empty = seriesFrom(
      answer({ temperature: [] }, []),
      answer({ temperature: [] }, []),
      answer({ temperature: [] }, []),
      122,
    );
    expect(append(empty, sample(133, 70), 0)).toMatchObject({ times: [130], mean: { temperature: [70] } });
  });
});

test("statistics take the extremes of the samples, not of the means", () => {
  const mean = answer({ temperature: [60, null, 70] });
  const low = answer({ temperature: [50, null, 65] });
  const high = answer({ temperature: [88, null, 75] });
  expect(statistics(seriesFrom(mean, low, high, 122), "temperature")).toEqual({ last: 70, min: 50, mean: 65, max: 88 });
  expect(statistics(series(), "unknown")).toEqual({ last: null, min: null, mean: null, max: null });
});

describe("what is drawn", () => {
  test("a line crosses the empty steps between samples that are merely far apart", () => {
    expect(drawable([0, 1, 2, 3, 4], [[5, null, 6, null, 7]])).toEqual([
      [0, 2, 4],
      [5, 6, 7],
    ]);
  });

  test("a line breaks where nothing came for long", () => {
    const times = [0, 1, 2, 3, 4, 40, 41];
    const [shown, values] = drawable(times, [[1, 1, 1, 1, 1, 2, 2]]);
    expect(shown).toEqual([0, 1, 2, 3, 4, 22, 40, 41]);
    expect(values?.[5]).toBeNull();
  });

  test("nothing, and a single sample, are no trouble", () => {
    expect(drawable([], [[]])).toEqual([[], []]);
    expect(drawable([7], [[1]])).toEqual([[7], [1]]);
  });
});

describe("charts", () => {
  test("memory is shown as a share where its size is known or can be", () => {
    const told = withMemoryShare(series({ memory_used: [0, 20, 40], memory_total: [80, 80, 80] }));
    expect(told.mean[MEMORY_SHARE]).toEqual([0, 25, 50]);
    const summed = withMemoryShare(series({ memory_used: [0, 20, 40], memory_free: [80, 60, 40] }));
    expect(summed.mean[MEMORY_SHARE]).toEqual([0, 25, 50]);
    expect(withMemoryShare(series({ memory_used: [0, 20, 40] })).mean[MEMORY_SHARE]).toBeUndefined();
  });

  test("every metric with a value is shown once, and one without is not", () => {
    const { main, other } = chartsFor(
      series({ temperature: [1, 2, 3], fan_speed: [1, 2, 3], energy: [null, null, null], power_limit: [7, 7, 7] }),
      new Map(),
    );
    expect(main.map((chart) => chart.title)).toEqual(["Temperature"]);
    expect(other.map((chart) => chart.title)).toEqual(["Fan speed"]);
  });

  test("when there are too many metrics, those of the main charts come first", () => {
    expect(mostWanted(["aa", "temperature", "zz", "power_limit"])).toEqual(["temperature", "power_limit", "aa", "zz"]);
  });
});
