/** The live fleet: one snapshot, then one stream of deltas, merged at most once a frame. */

import { useSyncExternalStore } from "react";
import type { AlertNews } from "./alerts/api";
import { ApiError, api, type FleetResponse, type StreamSelection, type StreamUpdate, streamUrl } from "./api";
import { type Fleet, fleetFrom, mergeUpdates } from "./fleet/fleet";
import { type History, remember } from "./fleet/summary";

export type Phase = "loading" | "live" | "reconnecting" | "paused";

export interface Live {
  phase: Phase;
  fleet: Fleet | null;
  history: History;
  /** Why the snapshot or the stream failed last; null once it works again. */
  error: ApiError | null;
  /** When the last update came, by this machine's clock, seconds since 1970; NaN before the first. */
  arrival: number;
  /** The server's clock minus this machine's, seconds. */
  skew: number;
  /** Updates since the page was opened. */
  updates: number;
  /** Snapshots fetched: one at the start, one after each gap, pause or lost connection. */
  snapshots: number;
}

/** What the store needs from the browser; tests bring their own. */
export interface Surroundings {
  fetchFleet(): Promise<FleetResponse>;
  openStream(url: string): EventSource;
  /** Call once before the next paint; in a hidden tab once a second. */
  nextFrame(callback: () => void): void;
  /** Seconds since 1970. */
  now(): number;
}

/** Updates are merged at once when this many wait, so that a tab that never paints stays small. */
const PENDING_MAX = 64;
const RETRY_MS_MAX = 15_000;

export class LiveStore {
  private state: Live = {
    phase: "loading",
    fleet: null,
    history: [],
    error: null,
    arrival: Number.NaN,
    skew: 0,
    updates: 0,
    snapshots: 0,
  };
  private readonly listeners = new Set<() => void>();
  private readonly updateListeners = new Set<(update: StreamUpdate) => void>();
  private readonly alertListeners = new Set<(news: AlertNews) => void>();
  private stream: EventSource | null = null;
  private selection: StreamSelection = {};
  private pending: StreamUpdate[] = [];
  private frameAsked = false;
  private failures = 0;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  /** Counts connections, so that a late answer to an earlier one is ignored. */
  private session = 0;

  constructor(private readonly around: Surroundings) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): Live => this.state;

  /** Hear every update as it comes, for charts. */
  readonly onUpdate = (listener: (update: StreamUpdate) => void): (() => void) => {
    this.updateListeners.add(listener);
    return () => this.updateListeners.delete(listener);
  };

  /** Hear of alerts that change. */
  readonly onAlerts = (listener: (news: AlertNews) => void): (() => void) => {
    this.alertListeners.add(listener);
    return () => this.alertListeners.delete(listener);
  };

  /** Seconds since 1970 by the server's clock. */
  now(): number {
    return this.around.now() + this.state.skew;
  }

  start(): void {
    if (!this.stream && this.state.phase !== "paused") this.connect();
  }

  pause(): void {
    this.disconnect();
    this.change({ phase: "paused" });
  }

  /** Go on; what was missed comes with a new snapshot. */
  resume(): void {
    if (this.state.phase === "paused") this.connect();
  }

  readonly toggle = (): void => (this.state.phase === "paused" ? this.resume() : this.pause());

  readonly retryNow = (): void => {
    if (this.state.phase !== "paused") this.connect();
  };

  /** Ask the stream for other things than before. */
  select(selection: StreamSelection): void {
    if (streamUrl(selection) === streamUrl(this.selection)) return;
    this.selection = selection;
    if (this.stream) this.connect();
  }

  private connect(): void {
    this.disconnect();
    const session = ++this.session;
    const current = (): boolean => session === this.session;
    if (this.state.phase === "paused") this.change({ phase: "reconnecting" });

    // The stream first: what it sends while the snapshot travels waits in `pending`.
    const stream = this.around.openStream(streamUrl(this.selection));
    this.stream = stream;
    stream.addEventListener("open", () => {
      if (current() && this.state.fleet) this.change({ phase: "live" });
    });
    stream.addEventListener("update", (event) => {
      if (current()) this.receive(JSON.parse((event as MessageEvent<string>).data) as StreamUpdate);
    });
    stream.addEventListener("alerts", (event) => {
      if (!current()) return;
      const news = JSON.parse((event as MessageEvent<string>).data) as AlertNews;
      for (const listener of this.alertListeners) listener(news);
    });
    stream.addEventListener("gap", () => {
      if (current()) void this.fetchSnapshot(current);
    });
    stream.addEventListener("error", () => {
      if (!current()) return;
      const error = new ApiError(0, "The live stream broke", "");
      this.change({ phase: this.state.fleet ? "reconnecting" : "loading", error });
      // The browser tries again by itself, except after an answer that is no stream.
      if (stream.readyState === stream.CLOSED) this.retryLater();
    });
    void this.fetchSnapshot(current);
  }

  private disconnect(): void {
    this.session += 1;
    clearTimeout(this.retryTimer);
    this.stream?.close();
    this.stream = null;
    this.pending = [];
  }

  private async fetchSnapshot(current: () => boolean): Promise<void> {
    try {
      const response = await this.around.fetchFleet();
      if (!current()) return;
      this.failures = 0;
      const fleet = fleetFrom(response);
      this.change({
        phase: this.stream?.readyState === this.stream?.OPEN ? "live" : "reconnecting",
        fleet,
        history: remember(this.state.history, fleet),
        error: null,
        skew: response.time - this.around.now(),
        snapshots: this.state.snapshots + 1,
      });
      this.flush();
    } catch (error) {
      if (!current()) return;
      const known = error instanceof ApiError ? error : new ApiError(0, "The fleet cannot be read", String(error));
      this.change({ phase: this.state.fleet ? "reconnecting" : "loading", error: known });
      this.retryLater();
    }
  }

  private retryLater(): void {
    clearTimeout(this.retryTimer);
    const wait = Math.min(RETRY_MS_MAX, 1000 * 2 ** this.failures) * (0.5 + Math.random() / 2);
    this.failures += 1;
    this.retryTimer = setTimeout(() => this.connect(), wait);
  }

  private receive(update: StreamUpdate): void {
    this.pending.push(update);
    for (const listener of this.updateListeners) listener(update);
    if (this.pending.length >= PENDING_MAX) this.flush();
    else if (!this.frameAsked) {
      this.frameAsked = true;
      this.around.nextFrame(() => {
        this.frameAsked = false;
        this.flush();
      });
    }
  }

  private flush(): void {
    if (!this.pending.length) return;
    if (!this.state.fleet) {
      // Still waiting for the snapshot: keep the newest.
      this.pending = this.pending.slice(-PENDING_MAX);
      return;
    }
    const updates = this.pending;
    this.pending = [];
    const fleet = mergeUpdates(this.state.fleet, updates, this.now());
    this.change({
      phase: "live",
      error: null,
      fleet,
      history: remember(this.state.history, fleet),
      arrival: this.around.now(),
      updates: this.state.updates + updates.length,
    });
  }

  private change(part: Partial<Live>): void {
    this.state = { ...this.state, ...part };
    for (const listener of this.listeners) listener();
  }
}

export const live = new LiveStore({
  fetchFleet: () => api.fleet(),
  openStream: (url) => new EventSource(url),
  nextFrame: (callback) => {
    if (document.hidden) setTimeout(callback, 1000);
    else requestAnimationFrame(callback);
  },
  now: () => Date.now() / 1000,
});

/** The live fleet; renders again at most once a frame. */
export const useLive = (): Live => useSyncExternalStore(live.subscribe, live.snapshot);
