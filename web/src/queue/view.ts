/** What of the queue is shown, as the address says it. */

import { withQuery } from "../router";
import type { GroupSettings, Message, Next } from "./api";

export const TABS = ["overview", "messages", "letters", "changes"] as const;
export type Tab = (typeof TABS)[number];

export interface View {
  tab: Tab;
  topic: string;
  /** Empty means all. */
  partition: string;
  /** "latest" (newest first), "earliest", an offset, a time, or an offset a partition: "0:120,3:7". */
  from: string;
  /** The message that is open, "partition:offset". */
  message: string;
}

export const DEFAULT_FROM: Readonly<Record<Tab, string>> = {
  overview: "latest",
  messages: "latest",
  letters: "earliest",
  changes: "latest",
};

export function readView(search: string): View {
  const query = new URLSearchParams(search);
  const get = (name: string): string => query.get(name) ?? "";
  const wanted = get("tab") as Tab;
  const tab = TABS.includes(wanted) ? wanted : "overview";
  return {
    tab,
    topic: get("topic"),
    partition: get("partition"),
    from: get("from") || DEFAULT_FROM[tab],
    message: get("message"),
  };
}

export function writeView(search: string, change: Partial<View>): string {
  const before = readView(search);
  const view = { ...before, ...change };
  // Where to begin means something else on another tab or topic.
  if (view.tab !== before.tab || view.topic !== before.topic) {
    view.from = change.from ?? DEFAULT_FROM[view.tab];
    view.partition = change.partition ?? "";
    view.message = change.message ?? "";
  }
  return withQuery(search, {
    tab: view.tab === "overview" ? "" : view.tab,
    topic: view.topic,
    partition: view.partition,
    from: view.from === DEFAULT_FROM[view.tab] ? "" : view.from,
    message: view.message,
  });
}

export const queuePath = (change: Partial<View>): string => `/queue${writeView("", change)}`;

/** Where to go on, as `from` says it. */
export const fromNext = (next: Next): string =>
  Object.entries(next)
    .map(([partition, offset]) => `${partition}:${offset}`)
    .join(",");

interface Kept {
  partition: number;
  start_offset: number;
}

/** Where the page before begins, as `from` says it; empty where this is the first. */
export function fromBefore(
  messages: readonly Message[],
  next: Next,
  partitions: readonly Kept[],
  size: number,
): string {
  const shown = partitions.filter(({ partition }) => String(partition) in next);
  const each = Math.ceil(size / Math.max(1, shown.length));
  const before: Next = {};
  let some = false;
  for (const { partition, start_offset } of shown) {
    const offsets = messages.filter((message) => message.partition === partition).map(({ offset }) => offset);
    const first = offsets.length ? Math.min(...offsets) : (next[partition] as number);
    before[partition] = Math.max(start_offset, first - each);
    some ||= first > start_offset;
  }
  return some ? fromNext(before) : "";
}

/** Among the topics those that hold dead letters: by their name, or because a group has chosen them. */
export function deadLetterTopics<T extends { topic: string }>(
  topics: readonly T[],
  groups: readonly GroupSettings[],
): T[] {
  const chosen = new Set(groups.map((group) => group.dead_letter_topic));
  return topics.filter(({ topic }) => chosen.has(topic) || topic.split(".").at(-1) === "dead-letter");
}

export const placeOf = ({ partition, offset }: Message): string => `${partition}:${offset}`;

/** Why this is no place to begin at; empty when it is one. */
export function problemOfFrom(from: string): string {
  if (["latest", "earliest"].includes(from) || /^\d{1,20}$/.test(from) || /^\d+:\d+(,\d+:\d+)*$/.test(from)) return "";
  return Number.isNaN(Date.parse(from)) ? "An offset such as 120, or a time such as 2026-01-31T12:00:00Z." : "";
}

/** The offsets among places "partition:offset", by partition. */
export function byPartition(places: Iterable<string>): Map<number, number[]> {
  const found = new Map<number, number[]>();
  for (const place of places) {
    const [partition = 0, offset = 0] = place.split(":").map(Number);
    const offsets = found.get(partition);
    if (offsets) offsets.push(offset);
    else found.set(partition, [offset]);
  }
  return found;
}
