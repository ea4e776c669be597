import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { AlertNews } from "./alerts/api";
import { ApiError, type FleetResponse, type StreamUpdate } from "./api";
import { valueAt } from "./fleet/fleet";
import { response, update } from "./fleet/samples";
import { LiveStore } from "./live";

/** A stream that a test drives. */
class FakeStream extends EventTarget {
  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSED = 2;
  readyState = 0;

  constructor(readonly url: string) {
    super();
  }

  open(): void {
    this.readyState = this.OPEN;
    this.dispatchEvent(new Event("open"));
  }

  send(data: StreamUpdate): void {
    this.dispatchEvent(new MessageEvent("update", { data: JSON.stringify(data) }));
  }

  tell(news: AlertNews): void {
    this.dispatchEvent(new MessageEvent("alerts", { data: JSON.stringify(news) }));
  }

  fail(state: number): void {
    this.readyState = state;
    this.dispatchEvent(new Event("error"));
  }

  close(): void {
    this.readyState = this.CLOSED;
  }
}

function setUp(fetchFleet: () => Promise<FleetResponse> = () => Promise.resolve(response())) {
  const streams: FakeStream[] = [];
  const frames: (() => void)[] = [];
  const fetching = vi.fn(fetchFleet);
  const store = new LiveStore({
    fetchFleet: fetching,
    openStream: (url) => {
      const stream = new FakeStream(url);
      streams.push(stream);
      return stream as unknown as EventSource;
    },
    nextFrame: (callback) => frames.push(callback),
    now: () => 1000,
  });
  const settle = () => vi.advanceTimersByTimeAsync(0);
  const paint = () => {
    for (const frame of frames.splice(0)) frame();
  };
  const latest = () => streams.at(-1) as FakeStream;
  const temperature = (row: number) =>
    valueAt(store.snapshot().fleet as NonNullable<ReturnType<typeof store.snapshot>["fleet"]>, "temperature", row);
  return { store, streams, frames, fetching, settle, paint, latest, temperature };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("the live store", () => {
  test("merges all updates of a frame at once", async () => {
    const { store, latest, frames, paint, settle, temperature } = setUp();
    store.start();
    latest().open();
    await settle();
    const heard = vi.fn();
    store.subscribe(heard);
    latest().send(update(1001, { a: { temperature: 61 } }));
    latest().send(update(1002, { a: { temperature: 62 } }));
    expect(frames).toHaveLength(1);
    expect(heard).not.toHaveBeenCalled();
    paint();
    expect(heard).toHaveBeenCalledTimes(1);
    expect(temperature(0)).toBe(62);
    expect(store.snapshot()).toMatchObject({ phase: "live", updates: 2 });
  });

  test("keeps what the stream sends while the snapshot is on its way", async () => {
    const { store, latest, paint, settle, temperature } = setUp();
    store.start();
    latest().open();
    latest().send(update(1001, { a: { temperature: 77 } }));
    paint();
    await settle();
    expect(temperature(0)).toBe(77);
  });

  test("stays small when the tab never paints", async () => {
    const { store, latest, settle, temperature } = setUp();
    store.start();
    latest().open();
    await settle();
    for (let second = 1; second <= 200; second++) latest().send(update(1000 + second, { a: { temperature: second } }));
    expect(temperature(0)).toBeGreaterThanOrEqual(128);
  });

  test("a pause closes the stream, and going on fetches what was missed", async () => {
    const { store, streams, latest, fetching, settle } = setUp();
    store.start();
    latest().open();
    await settle();
    store.toggle();
    expect(store.snapshot().phase).toBe("paused");
    expect(latest().readyState).toBe(latest().CLOSED);
    latest().send(update(1001, { a: { temperature: 99 } }));
    expect(store.snapshot().updates).toBe(0);
    store.toggle();
    latest().open();
    await settle();
    expect(streams).toHaveLength(2);
    expect(fetching).toHaveBeenCalledTimes(2);
    expect(store.snapshot()).toMatchObject({ phase: "live", snapshots: 2 });
  });

  test("a gap brings a new snapshot", async () => {
    const { store, latest, fetching, settle } = setUp();
    store.start();
    latest().open();
    await settle();
    latest().dispatchEvent(new MessageEvent("gap", { data: '{"missed":null}' }));
    await settle();
    expect(fetching).toHaveBeenCalledTimes(2);
  });

  test("keeps the last good picture while it reconnects, and opens a new stream when the browser gave up", async () => {
    const { store, streams, latest, settle } = setUp();
    store.start();
    latest().open();
    await settle();
    latest().fail(0);
    expect(store.snapshot()).toMatchObject({ phase: "reconnecting" });
    expect(store.snapshot().fleet?.gpus).toHaveLength(2);
    expect(streams).toHaveLength(1);
    latest().fail(2);
    await vi.advanceTimersByTimeAsync(2000);
    expect(streams).toHaveLength(2);
    latest().open();
    await settle();
    expect(store.snapshot()).toMatchObject({ phase: "live", error: null });
  });

  test("says why there is no picture, and tries again", async () => {
    let calls = 0;
    const { store, latest, settle } = setUp(() => {
      calls += 1;
      return calls === 1 ? Promise.reject(new ApiError(503, "The collector is down", "")) : Promise.resolve(response());
    });
    store.start();
    await settle();
    expect(store.snapshot()).toMatchObject({ phase: "loading", error: { status: 503 } });
    await vi.advanceTimersByTimeAsync(2000);
    latest().open();
    expect(store.snapshot().error).toBeNull();
    expect(store.snapshot().fleet?.gpus).toHaveLength(2);
  });

  test("asks for other things on a new stream, and not twice for the same", async () => {
    const { store, streams, latest, settle } = setUp();
    store.start();
    await settle();
    store.select({ metric: ["temperature"] });
    store.select({ metric: ["temperature"] });
    expect(streams).toHaveLength(2);
    expect(latest().url).toBe("/api/v1/stream?metric=temperature");
  });
});

test("news of alerts are passed on, from the present connection only", async () => {
  const { store, streams, latest, settle } = setUp();
  const heard: number[] = [];
  const end = store.onAlerts(({ firing }) => heard.push(firing));
  store.start();
  latest().open();
  await settle();
  latest().tell({ alerts: [], firing: 2, pending: 0 });
  store.retryNow();
  streams[0]?.tell({ alerts: [], firing: 3, pending: 0 });
  latest().tell({ alerts: [], firing: 4, pending: 0 });
  end();
  latest().tell({ alerts: [], firing: 5, pending: 0 });
  expect(heard).toEqual([2, 4]);
});
