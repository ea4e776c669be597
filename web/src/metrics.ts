/** What each metric is called and measured in, and over which span its colours run. */

import { useSyncExternalStore } from "react";
import { api, type Metric } from "./api";

const ACRONYMS: Record<string, string> = {
  sm: "SM",
  xid: "XID",
  ecc: "ECC",
  pcie: "PCIe",
  nvlink: "NVLink",
  dram: "DRAM",
  gpu: "GPU",
  utilization: "utilisation",
};

/** "memory_used" → "Memory used", "sm_clock" → "SM clock". */
export function metricTitle(name: string): string {
  const words = name.split(/[_\s]+/).map((word) => ACRONYMS[word.toLowerCase()] ?? word);
  const text = words.join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export type Catalogue = ReadonlyMap<string, Metric>;

let catalogue: Catalogue = new Map();
let asked = false;
const listeners = new Set<() => void>();

async function load(): Promise<void> {
  asked = true;
  try {
    const { metrics } = await api.metrics();
    catalogue = new Map(metrics.map((metric) => [metric.name, metric]));
    for (const listener of listeners) listener();
  } catch {
    // Charts work without units; ask again when the next page opens.
    asked = false;
  }
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  if (!asked) void load();
  return () => listeners.delete(listener);
}

/** The catalogue; empty until it has come. */
export function useCatalogue(): Catalogue {
  return useSyncExternalStore(subscribe, () => catalogue);
}

export const unitOf = (known: Catalogue, metric: string): string => known.get(metric)?.unit ?? "";
