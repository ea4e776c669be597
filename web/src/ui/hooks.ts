/** Small hooks that several pages share. */

import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { ApiError } from "../api";
import { live } from "../live";

/** The server's time in seconds, again every second. */
export function useNow(): number {
  const [now, setNow] = useState(() => live.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(live.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

/** The width of an element, 0 until it is known. */
export function useWidth(element: RefObject<HTMLElement | null>): number {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    if (!element.current) return;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry?.contentRect.width ?? 0)));
    observer.observe(element.current);
    setWidth(Math.floor(element.current.clientWidth));
    return () => observer.disconnect();
  }, [element]);
  return width;
}

export interface Polled<T> {
  /** The last good answer, kept while later ones fail. */
  data: T | null;
  error: ApiError | null;
  retry: () => void;
}

const BACKOFF_MAX_MS = 15_000;

/** Ask again and again: `every` milliseconds after each answer, slower after errors, not while paused or hidden. */
export function usePoll<T>(ask: (signal: AbortSignal) => Promise<T>, every: number, paused = false): Polled<T> {
  const [result, setResult] = useState<{ data: T | null; error: ApiError | null }>({ data: null, error: null });
  const [attempt, setAttempt] = useState(0);
  const asking = useRef(ask);
  asking.current = ask;

  // biome-ignore lint/correctness/useExhaustiveDependencies: `attempt` starts it anew
  useEffect(() => {
    if (paused) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    let failures = 0;
    const run = async (): Promise<void> => {
      if (!document.hidden) {
        try {
          const data = await asking.current(abort.signal);
          failures = 0;
          setResult({ data, error: null });
        } catch (problem) {
          if (abort.signal.aborted) return;
          failures += 1;
          const error =
            problem instanceof ApiError ? problem : new ApiError(0, "Something went wrong", String(problem));
          setResult((last) => ({ data: last.data, error }));
        }
      }
      if (!abort.signal.aborted) timer = setTimeout(run, Math.min(BACKOFF_MAX_MS, every * 2 ** Math.min(failures, 10)));
    };
    void run();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [every, paused, attempt]);

  return { ...result, retry: useCallback(() => setAttempt((last) => last + 1), []) };
}
