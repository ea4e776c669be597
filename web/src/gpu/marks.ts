/** When alerts fired, as marks on charts: a line where one began, a band at the top for as long as it lasted. */

import uPlot from "uplot";
import { inOrder, severityRank } from "../alerts/alerts";
import type { Alert, AlertEvent } from "../alerts/api";
import { seconds } from "../format";
import type { Colours } from "../ui/theme";
import type { Span } from "./range";

export interface Mark {
  /** The alert's. */
  id: string;
  label: string;
  severity: string;
  from: number;
  /** Infinity while it fires. */
  to: number;
}

/** More would hide the chart, and say nothing. */
const MARKS_MAX = 50;

/** The times at which alerts fired, from what is known now and from the history (newest first), within a span. */
export function marksOf(now: Iterable<Alert>, events: readonly AlertEvent[], span: Span): Mark[] {
  const marks = new Map<string, Mark>();
  const add = (mark: Mark): void => {
    if (mark.to >= span.from && mark.from <= span.to) marks.set(`${mark.id} ${Math.round(mark.from)}`, mark);
  };
  const ends = new Map<string, number>();
  for (const event of events) {
    const at = seconds(event.at);
    if (event.state === "resolved") ends.set(event.alert_id, at);
    if (event.state !== "firing") continue;
    const severity = event.labels.severity ?? "";
    add({ id: event.alert_id, label: event.rule, severity, from: at, to: ends.get(event.alert_id) ?? Infinity });
    ends.delete(event.alert_id);
  }
  // Those that ended in the span, and began before the history that was asked for.
  for (const event of events) {
    if (event.state !== "resolved" || ends.get(event.alert_id) !== seconds(event.at)) continue;
    const severity = event.labels.severity ?? "";
    add({ id: event.alert_id, label: event.rule, severity, from: -Infinity, to: seconds(event.at) });
  }
  for (const { id, rule, severity, firing_since, resolved_at } of inOrder(now)) {
    if (firing_since === null) continue;
    add({ id, label: rule, severity, from: seconds(firing_since), to: resolved_at ? seconds(resolved_at) : Infinity });
  }
  return [...marks.values()].sort(byWeight).slice(0, MARKS_MAX);
}

/** The worst first, then the newest. */
const byWeight = (a: Mark, b: Mark): number => severityRank(a.severity) - severityRank(b.severity) || b.from - a.from;

const BAND = 4;
/** Charts this low have no room for words. */
const LABEL_HEIGHT_MIN = 120;

/** Times of one rule that are nearer than this look like one. */
const JOIN_PX = 8;

/** Pixels of the canvas; what is out of the span ends at its edge. */
function placeOf(plot: uPlot, instant: number): number {
  const { left, width } = plot.bbox;
  const x = Number.isFinite(instant) ? plot.valToPos(instant, "x", true) : instant;
  return Math.min(left + width, Math.max(left, x));
}

/** Joins what follows on itself within `near`, so that an alert that comes and goes does not hide the chart. */
export function joined(marks: readonly Mark[], near: number): Mark[] {
  const all: Mark[] = [];
  const last = new Map<string, Mark>();
  for (const mark of marks.toSorted((a, b) => a.from - b.from)) {
    const before = last.get(mark.label);
    if (before && mark.from - before.to < near) before.to = Math.max(before.to, mark.to);
    else {
      const begun = { ...mark };
      last.set(mark.label, begun);
      all.push(begun);
    }
  }
  return all.sort(byWeight);
}

export function drawMarks(plot: uPlot, marks: readonly Mark[], colours: Colours): void {
  const { ctx: context, bbox } = plot;
  const ratio = uPlot.pxRatio;
  const right = bbox.left + bbox.width;
  const near = plot.posToVal(JOIN_PX, "x") - plot.posToVal(0, "x");
  context.save();
  // The worst is drawn last, on top.
  for (const mark of joined(marks, near).toReversed()) {
    const [from, to] = [placeOf(plot, mark.from), placeOf(plot, mark.to)];
    const colour = colourOf(mark, colours);
    context.fillStyle = colour;
    context.globalAlpha = 0.07;
    context.fillRect(from, bbox.top, to - from, bbox.height);
    context.globalAlpha = 1;
    context.fillRect(from, bbox.top, Math.max(to - from, 2 * ratio), BAND * ratio);
    if (from > bbox.left) context.fillRect(from, bbox.top, Math.max(1, ratio), bbox.height);
    if (to < right) context.fillRect(to - Math.max(1, ratio), bbox.top, Math.max(1, ratio), BAND * 2 * ratio);
  }
  context.restore();
}

/** Their words, on top of the lines; the worst first, as far as there is room. */
export function drawMarkLabels(plot: uPlot, marks: readonly Mark[], colours: Colours): void {
  const { ctx: context, bbox } = plot;
  const ratio = uPlot.pxRatio;
  if (bbox.height / ratio < LABEL_HEIGHT_MIN) return;
  const right = bbox.left + bbox.width;
  const taken: [number, number][] = [];
  const said = new Set<string>();
  context.save();
  context.font = `${12 * ratio}px system-ui, sans-serif`;
  context.textAlign = "left";
  context.textBaseline = "top";
  for (const mark of marks) {
    const from = placeOf(plot, mark.from);
    const place = `${mark.label} ${Math.round(from / (40 * ratio))}`;
    const width = context.measureText(mark.label).width;
    const begin = Math.max(bbox.left, Math.min(from + 5 * ratio, right - width));
    if (said.has(place) || width > bbox.width || taken.some(([from, to]) => begin < to && begin + width > from))
      continue;
    said.add(place);
    taken.push([begin, begin + width + 8 * ratio]);
    const y = bbox.top + (BAND + 3) * ratio;
    context.strokeStyle = colours.bg;
    context.lineWidth = 4 * ratio;
    context.lineJoin = "round";
    context.strokeText(mark.label, begin, y);
    context.fillStyle = colourOf(mark, colours);
    context.fillText(mark.label, begin, y);
  }
  context.restore();
}

function colourOf({ severity }: Mark, colours: Colours): string {
  if (severity === "critical") return colours.critical;
  return severity === "warning" ? colours.warning : colours.muted;
}
