/** A small line without axes: only whether it rises, falls or stands. The number beside it says how much. */

import { memo } from "react";

const WIDTH = 100;
const HEIGHT = 24;

export const Sparkline = memo(function Sparkline({
  values,
  className,
}: {
  values: readonly number[];
  className?: string;
}) {
  const path = sparkPath(values);
  return (
    <svg
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      aria-hidden
      className={`text-strong ${className ?? "h-6 w-full"}`}
    >
      <path d={path} fill="none" stroke="currentColor" strokeWidth="1.5" vectorEffect="non-scaling-stroke" />
    </svg>
  );
});

/** Fewer values than this leave room on the left, so that the first two do not look like a history. */
const SLOTS_MIN = 30;
/** The height stands for at least this share of the values, so that noise does not look like a change. */
const SPAN_MIN = 0.04;

/** An SVG path through the values, the newest at the right, the highest at the top; gaps are left out. */
export function sparkPath(values: readonly number[]): string {
  const known = values.filter(Number.isFinite);
  if (known.length < 2) return "";
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const span = Math.max(high - low, Math.abs(high) * SPAN_MIN, Number.MIN_VALUE);
  const middle = (high + low) / 2;
  const slots = Math.max(values.length, SLOTS_MIN);
  const x = (at: number): number => ((slots - values.length + at) / (slots - 1)) * WIDTH;
  const y = (value: number): number => HEIGHT / 2 - ((value - middle) / span) * (HEIGHT - 4);
  let pen = "M";
  let path = "";
  for (const [at, value] of values.entries()) {
    if (!Number.isFinite(value)) {
      pen = "M";
      continue;
    }
    path += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  }
  return path;
}
