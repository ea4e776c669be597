/** What the stream is asked for: everything of a small fleet; of a large one only what the page shows. */

import { useEffect } from "react";
import type { StreamSelection } from "./api";
import type { Fleet } from "./fleet/fleet";
import { readView } from "./fleet/view";
import { live, useLive } from "./live";
import { type Page, useSearch } from "./router";

/** Up to this many GPUs all metrics of all come cheaply, and every page is always up to date. */
const EVERYTHING_MAX = 500;

/** What the five numbers, the table and the status of a GPU need. */
const ALWAYS = [
  "utilization",
  "temperature",
  "power_draw",
  "memory_used",
  "xid_error",
  "ecc_uncorrected",
  "row_remap_failure",
  "throttle_reasons",
];

export function selectionFor(page: Page, fleet: Fleet | null, search: string): StreamSelection {
  if (!fleet || fleet.gpus.length <= EVERYTHING_MAX) return {};
  if (page.name === "gpu") {
    const host = fleet.hosts[fleet.rows.get(page.gpu) ?? -1];
    if (host) return { host };
    return page.gpu ? { gpu: page.gpu } : {};
  }
  const { metric, sort } = page.name === "fleet" ? readView(search) : { metric: "", sort: "" };
  const present = [...new Set([...ALWAYS, metric, sort])].filter((name) => fleet.columns.has(name));
  return { metric: present.sort() };
}

export function useStreamSelection(page: Page): void {
  const { fleet } = useLive();
  const search = useSearch();
  useEffect(() => live.select(selectionFor(page, fleet, search)), [page, fleet, search]);
}
