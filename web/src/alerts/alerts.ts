/** What is made of a list of alerts: merged with news, in order, by GPU, and counted. */

import { seconds } from "../format";
import type { Alert } from "./api";

export type AlertMap = ReadonlyMap<string, Alert>;

/** Resolved alerts are shown for this long; the history goes further back. */
export const RESOLVED_S = 900;

const SEVERITIES = ["critical", "warning", "info"];

/** The worst first; severities that nobody knows come last. */
export const severityRank = (severity: string): number => {
  const rank = SEVERITIES.indexOf(severity);
  return rank < 0 ? SEVERITIES.length : rank;
};

/** Whether it is to be dealt with now: it fires, and nobody has silenced it. */
export const isLoud = (alert: Alert): boolean => alert.state === "firing" && alert.silenced_by.length === 0;

/** `all` with those that changed. What was pending and is no more was never an alert, and goes. */
export function mergeAlerts(all: AlertMap, changed: readonly Alert[], now: number): AlertMap {
  const next = new Map(all);
  for (const alert of changed) {
    if (alert.state === "resolved" && alert.firing_since === null) next.delete(alert.id);
    else next.set(alert.id, alert);
  }
  for (const [id, alert] of next) {
    if (alert.state === "resolved" && now - seconds(alert.resolved_at) > RESOLVED_S) next.delete(id);
  }
  return next;
}

/** When it came into the state it is in. */
export function since(alert: Alert): number {
  if (alert.state === "resolved") return seconds(alert.resolved_at);
  return seconds(alert.state === "firing" ? alert.firing_since : alert.active_since);
}

/** What needs somebody first: not silenced, worst, newest. */
export function inOrder(alerts: Iterable<Alert>): Alert[] {
  return [...alerts].sort(
    (a, b) =>
      Number(a.silenced_by.length > 0) - Number(b.silenced_by.length > 0) ||
      severityRank(a.severity) - severityRank(b.severity) ||
      since(b) - since(a) ||
      a.rule.localeCompare(b.rule) ||
      a.id.localeCompare(b.id),
  );
}

export interface AlertCount {
  firing: number;
  pending: number;
  resolved: number;
  silenced: number;
  /** Of those that are loud. */
  critical: number;
  warning: number;
}

export function count(alerts: Iterable<Alert>): AlertCount {
  const counted: AlertCount = { firing: 0, pending: 0, resolved: 0, silenced: 0, critical: 0, warning: 0 };
  for (const alert of alerts) {
    counted[alert.state] += 1;
    if (alert.state !== "firing") continue;
    if (alert.silenced_by.length > 0) counted.silenced += 1;
    else if (alert.severity === "critical") counted.critical += 1;
    else if (alert.severity === "warning") counted.warning += 1;
  }
  return counted;
}

/** The worst loud alert of each GPU, and of each host of which no single GPU is meant. */
export interface Loud {
  gpus: ReadonlyMap<string, Alert>;
  hosts: ReadonlyMap<string, Alert>;
}

export function loudest(alerts: Iterable<Alert>): Loud {
  const [gpus, hosts] = [new Map<string, Alert>(), new Map<string, Alert>()];
  for (const alert of inOrder(alerts)) {
    if (!isLoud(alert)) continue;
    if (alert.gpu) {
      if (!gpus.has(alert.gpu)) gpus.set(alert.gpu, alert);
    } else if (alert.host && !hosts.has(alert.host)) hosts.set(alert.host, alert);
  }
  return { gpus, hosts };
}

/** How many fired at each of `points` instants up to `now`, as far as those still known tell. */
export function firingOver(alerts: Iterable<Alert>, now: number, points = 60, length = RESOLVED_S): number[] {
  const counts = new Array<number>(points).fill(0);
  const at = (point: number): number => now - length + (length * (point + 1)) / points;
  for (const alert of alerts) {
    const from = seconds(alert.firing_since);
    const to = alert.state === "firing" ? Infinity : seconds(alert.resolved_at);
    for (let point = 0; point < points; point++) {
      if (from <= at(point) && at(point) < to) counts[point] = (counts[point] as number) + 1;
    }
  }
  return counts;
}

/** What it is called in one line. */
export const summaryOf = (alert: Alert): string => alert.annotations.summary || alert.rule;
