/** Whether times are shown in the reader's zone or in UTC; remembered on this machine. */

import { useSyncExternalStore } from "react";
import type { Zone } from "../format";

const CHANGED = "zonechange";
let zone: Zone = stored();

function stored(): Zone {
  try {
    return localStorage.getItem("zone") === "utc" ? "utc" : "local";
  } catch {
    return "local";
  }
}

export function chooseZone(next: Zone): void {
  zone = next;
  try {
    localStorage.setItem("zone", next);
  } catch {
    // It holds until the page is left, then.
  }
  window.dispatchEvent(new Event(CHANGED));
}

function subscribe(listener: () => void): () => void {
  window.addEventListener(CHANGED, listener);
  return () => window.removeEventListener(CHANGED, listener);
}

export const useZone = (): Zone => useSyncExternalStore(subscribe, () => zone);
