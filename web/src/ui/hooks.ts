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

interface Answer<T> {
  question: string;
  data: T | null;
  error: ApiError | null;
}

const BACKOFF_MAX_MS = 15_000;

/** As `every` of `usePoll`: once, but for retries. */
export const ONCE = 2 ** 31 - 1;

/**
 * Ask again and again: `every` milliseconds after each answer, slower after errors, not while paused or hidden.
 * Another `question` is asked at once, and the answer to the one before is forgotten.
 */
export function usePoll<T>(
  ask: (signal: AbortSignal) => Promise<T>,
  every: number,
  paused = false,
  question = "",
): Polled<T> {
  const [result, setResult] = useState<Answer<T>>({ question, data: null, error: null });
  const [attempt, setAttempt] = useState(0);
  const asking = useRef(ask);
  asking.current = ask;

  // biome-ignore lint/correctness/useExhaustiveDependencies: `attempt` and `question` start it anew
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
          setResult({ question, data, error: null });
        } catch (problem) {
          if (abort.signal.aborted) return;
          failures += 1;
          const error =
            problem instanceof ApiError ? problem : new ApiError(0, "Something went wrong", String(problem));
          setResult((last) => ({ question, data: last.question === question ? last.data : null, error }));
        }
      }
      const wait = failures ? Math.min(BACKOFF_MAX_MS, every * 2 ** Math.min(failures, 10)) : every;
      if (!abort.signal.aborted) timer = setTimeout(run, wait);
    };
    void run();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [every, paused, attempt, question]);

  const { data, error } = result.question === question ? result : { data: null, error: null };
  return { data, error, retry: useCallback(() => setAttempt((last) => last + 1), []) };
}
