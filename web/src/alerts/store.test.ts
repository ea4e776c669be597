import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiError } from "../api";
import type { Alert, AlertNews } from "./api";
import { alert } from "./samples";
import { AlertStore, RELOAD_MS, RETRY_MS } from "./store";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

function setUp(first: Alert[] | ApiError = [alert()]) {
  let answer = first;
  let paused = false;
  const tell: ((news: AlertNews) => void)[] = [];
  const miss: (() => void)[] = [];
  const list = vi.fn(async () => {
    if (answer instanceof ApiError) throw answer;
    return { alerts: answer, total: answer.length };
  });
  const store = new AlertStore({
    list,
    onNews: (listener) => {
      tell.push(listener);
      return () => tell.splice(0);
    },
    onMissed: (listener) => {
      miss.push(listener);
      return () => miss.splice(0);
    },
    isPaused: () => paused,
    now: () => 1000,
  });
  const ids = () => [...store.snapshot().all.keys()];
  const news = (alerts: Alert[], firing: number, pending = 0) => tell[0]?.({ alerts, firing, pending });
  return {
    store,
    list,
    ids,
    news,
    miss: () => miss[0]?.(),
    answer: (next: Alert[] | ApiError) => {
      answer = next;
    },
    pause: (value: boolean) => {
      paused = value;
    },
    settle: () => vi.advanceTimersByTimeAsync(0),
  };
}

test("the list comes first, and news are merged into it without asking again", async () => {
  const { store, list, ids, news, settle } = setUp();
  store.start();
  expect(store.snapshot().phase).toBe("loading");
  await settle();
  news([alert({ id: "a2" })], 2);
  await vi.advanceTimersByTimeAsync(RELOAD_MS / 2);
  expect(ids()).toEqual(["a1", "a2"]);
  expect(store.snapshot().loud.gpus.get("GPU-1")).toBeDefined();
  expect(list).toHaveBeenCalledTimes(1);
});

test("values and texts, of which the stream says nothing, are read again", async () => {
  const { store, answer, settle } = setUp([alert({ value: 91, annotations: { summary: "at 91 °C" } })]);
  store.start();
  await settle();
  answer([alert({ value: 95, annotations: { summary: "at 95 °C" } })]);
  await vi.advanceTimersByTimeAsync(RELOAD_MS);
  expect(store.snapshot().all.get("a1")).toMatchObject({ value: 95, annotations: { summary: "at 95 °C" } });
});

test("news that come while the list is on its way win over it", async () => {
  const { store, news, settle } = setUp([alert({ state: "pending", firing_since: null })]);
  store.start();
  news([alert()], 1);
  await settle();
  expect(store.snapshot().all.get("a1")?.state).toBe("firing");
});

test("news that do not add up, for a stream that leaves some out, have the list read again", async () => {
  const { store, list, news, settle } = setUp();
  store.start();
  await settle();
  news([], 7);
  await vi.advanceTimersByTimeAsync(1500);
  expect(list).toHaveBeenCalledTimes(2);
});

test("without the alert service the page knows that, keeps what it had, and tries again", async () => {
  const { store, list, ids, answer, settle } = setUp();
  store.start();
  await settle();
  answer(new ApiError(503, "Service Unavailable", "127.0.0.1:9094 refuses the connection"));
  await vi.advanceTimersByTimeAsync(RELOAD_MS);
  expect(store.snapshot().phase).toBe("absent");
  expect(ids()).toEqual(["a1"]);
  answer([]);
  await vi.advanceTimersByTimeAsync(RETRY_MS);
  expect(store.snapshot()).toMatchObject({ phase: "ok", error: null });
  expect(list).toHaveBeenCalledTimes(3);
});

test("another failure is not taken for an absent service", async () => {
  const { store, settle } = setUp(new ApiError(500, "Internal Server Error", ""));
  store.start();
  await settle();
  expect(store.snapshot().phase).toBe("failed");
});

test("after a gap in the stream the list is read again, but not while paused", async () => {
  const { store, list, miss, pause, settle } = setUp();
  store.start();
  await settle();
  miss();
  await settle();
  expect(list).toHaveBeenCalledTimes(2);
  pause(true);
  miss();
  await vi.advanceTimersByTimeAsync(RETRY_MS);
  expect(list).toHaveBeenCalledTimes(2);
  pause(false);
  await vi.advanceTimersByTimeAsync(RETRY_MS);
  expect(list).toHaveBeenCalledTimes(3);
});

test("once it is ended it asks no more", async () => {
  const { store, list, settle } = setUp();
  const end = store.start();
  await settle();
  end();
  await vi.advanceTimersByTimeAsync(10 * RELOAD_MS);
  expect(list).toHaveBeenCalledTimes(1);
});
