/** The alerts as they are now: a list, then what the stream says has changed. */

import { useSyncExternalStore } from "react";
import { ApiError } from "../api";
import { live } from "../live";
import { type AlertMap, count, type Loud, loudest, mergeAlerts } from "./alerts";
import { type Alert, type AlertNews, alertsApi, LISTED_MAX, PAGE_SIZE } from "./api";

export interface Alerts {
  /** "absent": the alert service does not answer. */
  phase: "loading" | "ok" | "absent" | "failed";
  error: ApiError | null;
  all: AlertMap;
  loud: Loud;
  /** All there are; more than `all` holds where that are too many. */
  total: number;
}

/** What the store needs; tests bring their own. */
export interface Surroundings {
  list(signal: AbortSignal): Promise<{ alerts: Alert[]; total: number }>;
  onNews(listener: (news: AlertNews) => void): () => void;
  /** Calls when what the stream said may have been missed. */
  onMissed(listener: () => void): () => void;
  isPaused(): boolean;
  /** Seconds since 1970. */
  now(): number;
}

/**
 * The list is read again this often: the stream tells of alerts that begin, end or are silenced at once, but not of their
 * values and texts. Long lists move more seldom.
 */
export const RELOAD_MS = 5000;
export const RELOAD_LONG_MS = 20_000;
export const RETRY_MS = 10_000;
/** The list is read again this long after news that do not add up. */
const CATCH_UP_MS = 1000;

const NOBODY: Loud = { gpus: new Map(), hosts: new Map() };

export class AlertStore {
  private state: Alerts = { phase: "loading", error: null, all: new Map(), loud: NOBODY, total: 0 };
  private readonly listeners = new Set<() => void>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asking: AbortController | null = null;
  /** News that came while the list was on its way, and that the list may not know. */
  private early: Alert[] = [];

  constructor(private readonly around: Surroundings) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): Alerts => this.state;

  /** Keep up until the function returned is called. */
  readonly start = (): (() => void) => {
    const ends = [this.around.onNews((news) => this.receive(news)), this.around.onMissed(this.reload)];
    this.reload();
    return () => {
      for (const end of ends) end();
      clearTimeout(this.timer);
      this.asking?.abort();
    };
  };

  readonly reload = (): void => {
    clearTimeout(this.timer);
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    this.early = [];
    if (this.around.isPaused()) {
      this.timer = setTimeout(this.reload, RETRY_MS);
      return;
    }
    this.around.list(asking.signal).then(
      ({ alerts, total }) => {
        if (asking.signal.aborted) return;
        const listed = mergeAlerts(new Map(), alerts, this.around.now());
        const all = mergeAlerts(listed, this.early, this.around.now());
        this.asking = null;
        this.change({ phase: "ok", error: null, all, total });
        this.timer = setTimeout(this.reload, total > PAGE_SIZE ? RELOAD_LONG_MS : RELOAD_MS);
      },
      (problem) => {
        if (asking.signal.aborted) return;
        this.asking = null;
        const error =
          problem instanceof ApiError ? problem : new ApiError(0, "The alerts cannot be read", String(problem));
        this.change({ phase: error.status === 503 || error.status === 404 ? "absent" : "failed", error });
        this.timer = setTimeout(this.reload, RETRY_MS);
      },
    );
  };

  private receive({ alerts, firing, pending }: AlertNews): void {
    if (this.asking) this.early.push(...alerts);
    else if (this.state.phase !== "ok") this.reload();
    const all = mergeAlerts(this.state.all, alerts, this.around.now());
    const known = count(all.values());
    this.change({ all, total: firing + pending + known.resolved });
    // A stream that was asked for one host's GPUs leaves the others' alerts out, but counts them.
    const isWhole = known.firing === firing && known.pending === pending;
    if (!isWhole && !this.asking && all.size < LISTED_MAX) {
      clearTimeout(this.timer);
      this.timer = setTimeout(this.reload, CATCH_UP_MS);
    }
  }

  private change(part: Partial<Alerts>): void {
    const state = { ...this.state, ...part };
    if (part.all) state.loud = loudest(part.all.values());
    this.state = state;
    for (const listener of this.listeners) listener();
  }
}

/** Calls at each new snapshot of the fleet but the first: the stream was broken, paused, or had a gap. */
function onMissed(listener: () => void): () => void {
  let seen = Math.max(1, live.snapshot().snapshots);
  return live.subscribe(() => {
    const { snapshots } = live.snapshot();
    if (snapshots > seen) listener();
    seen = Math.max(seen, snapshots);
  });
}

export const alertStore = new AlertStore({
  list: alertsApi.all,
  onNews: live.onAlerts,
  onMissed,
  isPaused: () => live.snapshot().phase === "paused",
  now: () => live.now(),
});

export const useAlerts = (): Alerts => useSyncExternalStore(alertStore.subscribe, alertStore.snapshot);
