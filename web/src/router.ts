/** The address is the state: the path names the page, the query everything one may want to share. */

import { type MouseEvent, useCallback, useSyncExternalStore } from "react";

const CHANGED = "addresschange";

function subscribe(listener: () => void): () => void {
  window.addEventListener("popstate", listener);
  window.addEventListener(CHANGED, listener);
  return () => {
    window.removeEventListener("popstate", listener);
    window.removeEventListener(CHANGED, listener);
  };
}

export const usePath = (): string => useSyncExternalStore(subscribe, () => window.location.pathname);
export const useSearch = (): string => useSyncExternalStore(subscribe, () => window.location.search);

/** Go to another address. `replace` leaves no entry in the history: for typing and fine adjustments. */
export function navigate(to: string, { replace = false } = {}): void {
  const from = window.location.pathname;
  window.history[replace ? "replaceState" : "pushState"](null, "", to);
  if (window.location.pathname !== from) window.scrollTo(0, 0);
  window.dispatchEvent(new Event(CHANGED));
}

/** `search` with some parameters set, or removed where the value is empty. */
export function withQuery(search: string, changes: Readonly<Record<string, string>>): string {
  const parameters = new URLSearchParams(search);
  for (const [name, value] of Object.entries(changes)) {
    if (value) parameters.set(name, value);
    else parameters.delete(name);
  }
  const text = parameters.toString();
  return text && `?${text}`;
}

/** A function that changes parameters of the present address. */
export function useChangeQuery(): (changes: Readonly<Record<string, string>>, options?: { replace?: boolean }) => void {
  return useCallback((changes, { replace = true } = {}) => {
    navigate(window.location.pathname + withQuery(window.location.search, changes), { replace });
  }, []);
}

/** Follow a link without loading the page anew, unless the reader asks for a tab or a window. */
export function followLink(event: MouseEvent<HTMLAnchorElement>): void {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  navigate(event.currentTarget.pathname + event.currentTarget.search);
}

export const gpuPath = (gpu: string): string => `/gpu/${encodeURIComponent(gpu)}`;

export type Page = { name: "fleet" | "alerts" | "queue" | "health" | "missing" } | { name: "gpu"; gpu: string };

/** The page a path names. Health lives at /services: the gateway answers /health itself, for probes. */
export function pageOf(path: string): Page {
  if (path === "/" || path === "/fleet") return { name: "fleet" };
  if (path === "/alerts") return { name: "alerts" };
  if (path === "/queue") return { name: "queue" };
  if (path === "/services") return { name: "health" };
  if (path === "/gpu" || path === "/gpu/") return { name: "gpu", gpu: "" };
  if (path.startsWith("/gpu/")) return { name: "gpu", gpu: decoded(path.slice("/gpu/".length)) };
  return { name: "missing" };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
