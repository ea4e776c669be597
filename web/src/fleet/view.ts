/** How the fleet is shown, as the address says it. */

import { withQuery } from "../router";

export const GROUPS = ["host", "model", "none"] as const;
export type Group = (typeof GROUPS)[number];

export interface FleetView {
  /** The metric that fills the squares. */
  metric: string;
  group: Group;
  /** "status", "name" or a metric. */
  sort: string;
  descending: boolean;
  filter: string;
}

export const DEFAULT_VIEW: FleetView = {
  metric: "utilization",
  group: "host",
  sort: "status",
  descending: false,
  filter: "",
};

export function readView(search: string): FleetView {
  const query = new URLSearchParams(search);
  const group = query.get("group") as Group;
  const sort = query.get("sort") ?? DEFAULT_VIEW.sort;
  return {
    metric: query.get("metric") || DEFAULT_VIEW.metric,
    group: GROUPS.includes(group) ? group : DEFAULT_VIEW.group,
    sort: sort.replace(/^-/, "") || DEFAULT_VIEW.sort,
    descending: sort.startsWith("-"),
    filter: query.get("filter") ?? "",
  };
}

/** `search` with `change` applied. What is as by default is left out. */
export function writeView(search: string, change: Partial<FleetView>): string {
  const view = { ...readView(search), ...change };
  const sort = (view.descending ? "-" : "") + view.sort;
  return withQuery(search, {
    metric: view.metric === DEFAULT_VIEW.metric ? "" : view.metric,
    group: view.group === DEFAULT_VIEW.group ? "" : view.group,
    sort: sort === DEFAULT_VIEW.sort ? "" : sort,
    filter: view.filter,
  });
}
