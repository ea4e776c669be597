/** Which GPUs are shown, in which order, in which groups. */

import { type Fleet, valueAt } from "./fleet";
import { RANK, type Status } from "./status";
import type { FleetView, Group } from "./view";

const natural = new Intl.Collator("en", { numeric: true });

type Names = Pick<Fleet, "gpus" | "hosts" | "indexes">;

/** The rows by host, index and name; costly for large fleets, so do it once for each list of GPUs. */
export function naturalOrder(fleet: Names): number[] {
  const rows = fleet.gpus.map((_, row) => row);
  const by = (list: readonly string[], a: number, b: number): number => natural.compare(list[a] ?? "", list[b] ?? "");
  return rows.sort((a, b) => by(fleet.hosts, a, b) || by(fleet.indexes, a, b) || by(fleet.gpus, a, b));
}

/** For each row its place in the natural order. */
export function naturalRanks(fleet: Names): Int32Array {
  const ranks = new Int32Array(fleet.gpus.length);
  for (const [rank, row] of naturalOrder(fleet).entries()) ranks[row] = rank;
  return ranks;
}

export interface Filter {
  matches(fleet: Fleet, row: number, status: Status): boolean;
  /** What cannot be understood; empty when all is well. */
  problem: string;
}

type Test = Filter["matches"];

const LISTS = { host: "hosts", model: "models", index: "indexes", gpu: "gpus" } as const;
const STATUSES = ["ok", "warning", "critical", "unknown", "alert", "hot", "throttled", "error", "stale", "lost"];

const COMPARE: Readonly<Record<string, (value: number, limit: number) => boolean>> = {
  ">": (value, limit) => value > limit,
  ">=": (value, limit) => value >= limit,
  "<": (value, limit) => value < limit,
  "<=": (value, limit) => value <= limit,
  "=": (value, limit) => value === limit,
};

/** Read a filter: words that must all hold, each plain text, `host:…`, `model:…`, `status:lost` or `temperature>80`. */
export function parseFilter(text: string, metrics: Iterable<string>): Filter {
  const known = new Set(metrics);
  const tests: Test[] = [];
  for (const word of text.toLowerCase().split(/\s+/).filter(Boolean)) {
    const comparison = /^([a-z_][\w.]*)(>=|<=|>|<|=)(-?[\d.]+)$/.exec(word);
    const field = /^(host|model|index|gpu|status):(.+)$/.exec(word);
    if (comparison) {
      const [, metric = "", operator = "", limit] = comparison;
      const compare = COMPARE[operator];
      if (!known.has(metric) || !compare) return nothing(`There is no metric “${metric}” in this fleet.`);
      tests.push((fleet, row) => compare(valueAt(fleet, metric, row), Number(limit)));
    } else if (field?.[1] === "status") {
      const wanted = field[2] ?? "";
      if (!STATUSES.includes(wanted)) return nothing(`A status is one of ${STATUSES.join(", ")}.`);
      tests.push(
        (_fleet, _row, status) =>
          status.level === wanted || status.condition === wanted || (wanted === "alert" && status.alert !== undefined),
      );
    } else if (field) {
      const list = LISTS[field[1] as keyof typeof LISTS];
      const wanted = field[2] ?? "";
      tests.push((fleet, row) => (fleet[list][row] ?? "").toLowerCase().includes(wanted));
    } else {
      tests.push((fleet, row) =>
        [fleet.gpus, fleet.hosts, fleet.models].some((list) => (list[row] ?? "").toLowerCase().includes(word)),
      );
    }
  }
  return { matches: (fleet, row, status) => tests.every((test) => test(fleet, row, status)), problem: "" };
}

const nothing = (problem: string): Filter => ({ matches: () => false, problem });

/** The rows to show, sorted as the view says; equals stay in natural order, GPUs without a value come last. */
export function selectRows(
  fleet: Fleet,
  statuses: readonly Status[],
  ranks: Int32Array,
  view: Pick<FleetView, "sort" | "descending">,
  filter: Filter,
): number[] {
  const rows = fleet.gpus.map((_, row) => row).filter((row) => filter.matches(fleet, row, statuses[row] as Status));
  const key = sortKey(fleet, statuses, ranks, view.sort);
  const sign = view.descending ? -1 : 1;
  return rows.sort((a, b) => {
    const [left, right] = [key(a), key(b)];
    if (left !== right) {
      if (Number.isNaN(left)) return Number.isNaN(right) ? byRank(ranks, a, b) : 1;
      if (Number.isNaN(right)) return -1;
      return sign * (left - right);
    }
    return byRank(ranks, a, b);
  });
}

const byRank = (ranks: Int32Array, a: number, b: number): number => (ranks[a] as number) - (ranks[b] as number);

function sortKey(fleet: Fleet, statuses: readonly Status[], ranks: Int32Array, sort: string): (row: number) => number {
  if (sort === "status") return (row) => RANK[(statuses[row] as Status).level];
  if (sort === "name") return (row) => ranks[row] as number;
  if (sort === "age") return (row) => -(fleet.times[row] as number);
  const column = fleet.columns.get(sort);
  return (row) => column?.[row] ?? Number.NaN;
}

export interface RowGroup {
  label: string;
  rows: number[];
}

/** The rows in groups. Groups stand in natural order; within one, rows do unless they are sorted by a value. */
export function groupRows(
  fleet: Fleet,
  rows: readonly number[],
  ranks: Int32Array,
  group: Group,
  sort: string,
): RowGroup[] {
  const ordered = sort === "status" || sort === "age" ? [...rows].sort((a, b) => byRank(ranks, a, b)) : rows;
  if (group === "none") return ordered.length ? [{ label: "", rows: [...ordered] }] : [];
  const labels = group === "host" ? fleet.hosts : fleet.models;
  const groups = new Map<string, number[]>();
  for (const row of ordered) {
    const label = labels[row] || (group === "host" ? "no host" : "unknown model");
    const members = groups.get(label);
    if (members) members.push(row);
    else groups.set(label, [row]);
  }
  return [...groups]
    .map(([label, members]) => ({ label, rows: members }))
    .sort((a, b) => natural.compare(a.label, b.label));
}
