/** Alerts over REST: shapes, and what can be asked. */

import { get, query, send } from "../api";

export const STATES = ["firing", "pending", "resolved"] as const;
export type AlertState = (typeof STATES)[number];

export interface Alert {
  id: string;
  rule: string;
  group: string;
  state: AlertState;
  severity: string;
  /** Empty when it is about no GPU, or about many. */
  gpu: string;
  host: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  value: number | null;
  active_since: string;
  firing_since: string | null;
  resolved_at: string | null;
  silenced_by: string[];
}

/** `event: alerts` of the stream: the alerts that changed, and how many there are now. */
export interface AlertNews {
  alerts: Alert[];
  firing: number;
  pending: number;
}

export interface Rule {
  id: string;
  /** A recording rule has neither severity nor alerts. */
  type: "alerting" | "recording";
  name: string;
  expr: string;
  for_s: number;
  keep_firing_for_s: number;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  state: "inactive" | "pending" | "firing";
  health: "ok" | "err";
  last_error: string;
  last_evaluation: string | null;
  evaluation_s: number | null;
  active: number;
}

export interface RuleGroup {
  name: string;
  file: string;
  interval_s: number;
  rules: Rule[];
}

export interface Rules {
  groups: RuleGroup[];
  loaded_at: string | null;
  /** Why the newest file was refused; empty when it was not. */
  error: string;
}

export const OPERATORS = ["=", "!=", "=~", "!~"] as const;
export interface Matcher {
  name: string;
  value: string;
  op: (typeof OPERATORS)[number];
}

export interface NewSilence {
  matchers: Matcher[];
  starts_at?: string;
  ends_at: string;
  author: string;
  comment: string;
}

export interface Silence extends Required<NewSilence> {
  id: string;
  state: "active" | "pending" | "expired";
}

export interface AlertEvent {
  id: string;
  alert_id: string;
  rule: string;
  gpu: string;
  host: string;
  labels: Record<string, string>;
  state: AlertState;
  at: string;
  value: number | null;
}

interface AlertPage {
  alerts: Alert[];
  next_page_token: string;
  total: number;
}

export interface EventPage {
  events: AlertEvent[];
  next_page_token: string;
}

export interface HistoryQuestion {
  start: number;
  end?: number;
  rule?: string;
  gpu?: string;
  /** One alert. */
  alert?: string;
  pageToken?: string;
}

/** Of alerts. */
export const PAGE_SIZE = 1000;
/** Alerts beyond this many are counted, not listed. */
export const LISTED_MAX = 5000;

const instant = (seconds: number): string => new Date(seconds * 1000).toISOString();
/** Parameters that are not empty. */
const some = (value: string | undefined): string | undefined => value || undefined;

export const alertsApi = {
  /** All alerts, up to a bound; `total` counts the others too. */
  async all(signal?: AbortSignal): Promise<{ alerts: Alert[]; total: number }> {
    const alerts: Alert[] = [];
    let page: AlertPage = { alerts: [], next_page_token: "", total: 0 };
    do {
      const asked = { state: STATES, page_size: PAGE_SIZE, page_token: some(page.next_page_token) };
      page = await get<AlertPage>(`alerts${query(asked)}`, signal);
      alerts.push(...page.alerts);
    } while (page.next_page_token && alerts.length < LISTED_MAX);
    return { alerts, total: page.total };
  },
  rules: (signal?: AbortSignal) => get<Rules>("alerts/rules", signal),
  silences: (signal?: AbortSignal) => get<{ silences: Silence[] }>("alerts/silences?page_size=1000", signal),
  silence: (silence: NewSilence) => send<Silence>("POST", "alerts/silences", silence),
  expire: (id: string) => send<void>("DELETE", `alerts/silences/${encodeURIComponent(id)}`),
  history: ({ start, end, rule, gpu, alert, pageToken }: HistoryQuestion, signal?: AbortSignal) =>
    get<EventPage>(
      `alerts/history${query({
        start_time: instant(start),
        end_time: end === undefined ? undefined : instant(end),
        rule: some(rule),
        gpu: some(gpu),
        alert: some(alert),
        page_size: 200,
        page_token: some(pageToken),
      })}`,
      signal,
    ),
};
