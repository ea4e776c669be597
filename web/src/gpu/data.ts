/** Gets what a GPU's page shows: who it is, its past from the store, its present from the stream. */

import { useCallback, useEffect, useState } from "react";
import { ApiError, api, type Completeness, type Gpu, SERIES_METRICS_MAX } from "../api";
import { seconds } from "../format";
import { live, useLive } from "../live";
import { mostWanted } from "./charts";
import { type RangeChoice, type Span, spanOf } from "./range";
import { append, type Series, sampleOf, seriesFrom } from "./series";

const RETRY_MS = 5000;

const COMPLETE: Completeness = { partial: false, warnings: [] };

/** Answers that asking again does not change: the name is wrong, unknown, or could be several. */
const FINAL: ReadonlySet<number> = new Set([400, 404, 409]);

export interface GpuData {
  gpu: Gpu;
  series: Series;
  span: Span;
  /** The newest sample, seconds since 1970. */
  lastSeen: number;
  completeness: Completeness;
}

interface Result {
  data: GpuData | null;
  error: ApiError | null;
  loading: boolean;
  retry: () => void;
}

export function useGpuData(id: string, range: RangeChoice): Result {
  const [data, setData] = useState<GpuData | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [loading, setLoading] = useState(true);
  const [attempt, setAttempt] = useState(0);
  const { snapshots } = useLive();
  const retry = useCallback(() => setAttempt((last) => last + 1), []);

  const { range: name, zoom } = range;
  const [from, to] = [zoom?.from, zoom?.to];
  // After each new snapshot the past is read again, because the stream has missed a part of it.
  const missed = Math.max(1, snapshots);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `attempt` and `missed` start it anew
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    setLoading(true);
    const choice = { range: name, zoom: from !== undefined && to !== undefined ? { from, to } : null };
    load(id, choice, abort.signal).then(
      (loaded) => {
        setData(loaded);
        setError(null);
        setLoading(false);
      },
      (problem) => {
        if (abort.signal.aborted) return;
        const known =
          problem instanceof ApiError ? problem : new ApiError(0, "The GPU cannot be shown", String(problem));
        setError(known);
        setLoading(false);
        if (!FINAL.has(known.status)) timer = setTimeout(retry, RETRY_MS);
      },
    );
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [id, name, from, to, attempt, missed]);

  const identity = data?.gpu.gpu;
  useEffect(() => {
    if (identity === undefined) return;
    return live.onUpdate((update) => {
      const sample = sampleOf(update, identity);
      if (!sample) return;
      setData((last) => {
        if (!last || sample.time < last.lastSeen) return last;
        const choice = { range: name, zoom: from !== undefined && to !== undefined ? { from, to } : null };
        const span = spanOf(choice, seconds(last.gpu.first_seen), sample.time);
        const series = choice.zoom ? last.series : append(last.series, sample, span.from);
        return { ...last, series, span, lastSeen: sample.time };
      });
    });
  }, [identity, name, from, to]);

  return { data, error, loading, retry };
}

async function load(id: string, range: RangeChoice, signal: AbortSignal): Promise<GpuData> {
  const gpu = await api.gpu(id, signal);
  const lastSeen = seconds(gpu.last_seen);
  const span = spanOf(range, seconds(gpu.first_seen), lastSeen);
  if (Number.isNaN(lastSeen) || gpu.metrics.length === 0) {
    const now = live.now();
    const none: Series = { step: 0, times: [], mean: {}, low: {}, high: {}, weight: 0 };
    return { gpu, series: none, span: { from: now - 60, to: now }, lastSeen: now, completeness: COMPLETE };
  }
  const metrics = mostWanted(gpu.metrics).slice(0, SERIES_METRICS_MAX);
  const { series, completeness } = await loadSeries(gpu.gpu, metrics, span, lastSeen, signal);
  return { gpu, series, span, lastSeen, completeness };
}

/** Some metrics of a GPU over a span. */
export async function loadSeries(
  gpu: string,
  metric: readonly string[],
  span: Span,
  lastSeen: number,
  signal: AbortSignal,
): Promise<{ series: Series; completeness: Completeness }> {
  // The end is exclusive: a moment more brings the newest sample in.
  const question = { gpu, metric, start: span.from, end: span.to + 0.001 };
  const [mean, low, high] = await Promise.all(
    (["avg", "min", "max"] as const).map((agg) => api.series({ ...question, agg }, signal)),
  );
  if (!mean || !low || !high) throw new Error("unreachable: three were asked for");
  return { series: seriesFrom(mean, low, high, lastSeen), completeness: mean.completeness };
}
