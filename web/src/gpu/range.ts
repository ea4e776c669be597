/** The span of time the charts show: a length that ends at the newest sample, or a part chosen by dragging. */

import { withQuery } from "../router";

export const RANGES = { "5m": 300, "15m": 900, "1h": 3600, "6h": 21_600, "24h": 86_400, all: Infinity } as const;
export type RangeName = keyof typeof RANGES;

export const DEFAULT_RANGE: RangeName = "15m";

/** A span shorter than this is widened, so that a single sample has an axis. */
const SPAN_MIN_S = 10;

/** Newest samples older than this are pointed out. */
export const OLD_S = 60;

export interface Span {
  from: number;
  to: number;
}

/** What the address asks for. `zoom` wins while there is one. */
export interface RangeChoice {
  range: RangeName;
  zoom: Span | null;
}

export function readRange(search: string): RangeChoice {
  const query = new URLSearchParams(search);
  const range = query.get("range") ?? "";
  const [from, to] = [Number(query.get("from") ?? Number.NaN), Number(query.get("to") ?? Number.NaN)];
  return {
    range: range in RANGES ? (range as RangeName) : DEFAULT_RANGE,
    zoom: to > from ? { from, to } : null,
  };
}

export function writeRange(search: string, choice: RangeChoice): string {
  return withQuery(search, {
    range: choice.range === DEFAULT_RANGE ? "" : choice.range,
    from: choice.zoom ? choice.zoom.from.toFixed(1) : "",
    to: choice.zoom ? choice.zoom.to.toFixed(1) : "",
  });
}

/** The span for a GPU first and last seen then. It never begins before there was anything to see. */
export function spanOf({ range, zoom }: RangeChoice, firstSeen: number, lastSeen: number): Span {
  if (zoom) return zoom;
  const from = Math.max(lastSeen - RANGES[range], Number.isNaN(firstSeen) ? -Infinity : firstSeen);
  return { from: Math.min(from, lastSeen - SPAN_MIN_S), to: lastSeen };
}
