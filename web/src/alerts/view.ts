/** What of the alerts is shown, as the address says it. */

import { withQuery } from "../router";
import { inOrder, summaryOf } from "./alerts";
import type { Alert } from "./api";

export const TABS = ["firing", "pending", "resolved", "history", "silences", "rules"] as const;
export type Tab = (typeof TABS)[number];

export interface View {
  tab: Tab;
  severity: string;
  rule: string;
  /** A GPU, exactly. */
  gpu: string;
  /** Words that must all occur. */
  filter: string;
  /** The alert that is open. */
  alert: string;
  /** The rule that is open, on the tab of the rules. */
  ruleId: string;
  /** The span of the history, as in `HISTORY_SPANS`. */
  span: HistorySpan;
}

export const HISTORY_SPANS = { "1h": 3600, "6h": 21_600, "24h": 86_400, "7d": 604_800 } as const;
export type HistorySpan = keyof typeof HISTORY_SPANS;

const DEFAULT_SPAN: HistorySpan = "24h";

export function readView(search: string): View {
  const query = new URLSearchParams(search);
  const get = (name: string): string => query.get(name) ?? "";
  const tab = get("tab") as Tab;
  const span = get("span") as HistorySpan;
  return {
    tab: TABS.includes(tab) ? tab : "firing",
    severity: get("severity"),
    rule: get("rule"),
    gpu: get("gpu"),
    filter: get("filter"),
    alert: get("alert"),
    ruleId: get("ruleid"),
    span: span in HISTORY_SPANS ? span : DEFAULT_SPAN,
  };
}

/** `search` with `change` applied. What is as by default is left out. */
export function writeView(search: string, change: Partial<View>): string {
  const view = { ...readView(search), ...change };
  return withQuery(search, {
    tab: view.tab === "firing" ? "" : view.tab,
    severity: view.severity,
    rule: view.rule,
    gpu: view.gpu,
    filter: view.filter,
    alert: view.alert,
    ruleid: view.ruleId,
    span: view.span === DEFAULT_SPAN ? "" : view.span,
  });
}

export const alertsPath = (change: Partial<View>): string => `/alerts${writeView("", change)}`;

function says(alert: Alert, words: readonly string[]): boolean {
  const text = [alert.rule, alert.gpu, alert.host, summaryOf(alert), ...Object.values(alert.labels)]
    .join("\n")
    .toLowerCase();
  return words.every((word) => text.includes(word));
}

type Wanted = Pick<View, "severity" | "rule" | "gpu" | "filter">;

/** The alerts in a state that the filters let through, what needs somebody first. */
export function select(alerts: Iterable<Alert>, state: Alert["state"], wanted: Wanted): Alert[] {
  const words = wanted.filter.toLowerCase().split(/\s+/).filter(Boolean);
  return inOrder(alerts).filter(
    (alert) =>
      alert.state === state &&
      (!wanted.severity || alert.severity === wanted.severity) &&
      (!wanted.rule || alert.rule === wanted.rule) &&
      (!wanted.gpu || alert.gpu === wanted.gpu) &&
      says(alert, words),
  );
}

/** How many of each, the most first; for choosing one. */
export function tally(values: Iterable<string>): [value: string, count: number][] {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
}
