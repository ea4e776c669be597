/** The queue's administration over REST: messages and dead letters looked at, and what changes them. */

import { get, query, send } from "../api";

export interface Origin {
  topic: string | null;
  partition: number | null;
  offset: number | null;
  group: string | null;
  attempts: number | null;
  reason: string | null;
  first_time: string | null;
  last_time: string | null;
}

export interface Message {
  partition: number;
  offset: number;
  publish_time: string;
  ordering_key: string;
  attributes: Record<string, string>;
  bytes: number;
  content_type: string;
  kind: "records" | "json" | "text" | "binary";
  /** The first hundred records or objects. */
  rows: Record<string, unknown>[];
  rows_total: number;
  text: string | null;
  base64: string | null;
  /** Whether `text` or `base64` is only the beginning. */
  truncated?: boolean;
  /** Why the data is not what its content type says. */
  problem?: string;
  /** Of dead letters. */
  origin?: Origin;
}

/** What of a group's settings is of use here. */
export interface GroupSettings {
  name: string;
  /** Empty: none of its own, so that letters go to `TOPIC.dead-letter`. */
  dead_letter_topic: string;
}

/** Where to go on, by partition. */
export type Next = Record<string, number>;

export interface MessagePage {
  topic: string;
  messages: Message[];
  next: Next;
}

export interface LetterPage extends MessagePage {
  total: number;
}

export interface Task {
  id: string;
  kind: "replay" | "discard";
  topic: string;
  state: "running" | "done" | "failed" | "cancelled";
  done: number;
  /** 0 until it is known. */
  total: number;
  started_at: string;
  finished_at: string | null;
  error: string;
}

/** All dead letters, or some of one partition. */
export type Letters = { all: true } | { offsets: number[]; partition: number };

export interface SeekQuestion {
  position: string;
  topic?: string;
  dry_run: boolean;
  force: boolean;
}

export interface SoughtPosition {
  topic: string;
  partition: number;
  acked_through: number;
  end_offset: number;
  acked_through_before: number | null;
  /** Messages delivered again, and those that never will be. */
  again: number;
  skipped: number;
}

export interface Sought {
  group: string;
  dry_run: boolean;
  positions: SoughtPosition[];
}

export interface AuditEntry {
  id: string;
  time: string;
  peer: string;
  who: string;
  action: string;
  target: string;
  parameters: Record<string, unknown>;
  outcome: "begun" | "done" | "refused" | "failed" | "cancelled" | "unknown";
  detail: string;
  finished_at: string | null;
}

export interface BrowseQuestion {
  topic: string;
  partition: string;
  from: string;
}

export const PAGE_SIZE = 50;

const part = encodeURIComponent;
const browse = ({ partition, from }: BrowseQuestion): string =>
  query({ partition: partition || undefined, from, limit: PAGE_SIZE });

export const queueApi = {
  groups: (signal?: AbortSignal) => get<{ groups: GroupSettings[] }>("queue/groups?page_size=1000", signal),
  messages: (question: BrowseQuestion, signal?: AbortSignal) =>
    get<MessagePage>(`queue/topics/${part(question.topic)}/messages${browse(question)}`, signal),
  letters: (question: BrowseQuestion, signal?: AbortSignal) =>
    get<LetterPage>(`queue/topics/${part(question.topic)}/dead-letters${browse(question)}`, signal),
  replay: (topic: string, letters: Letters) =>
    send<Task>("POST", `queue/topics/${part(topic)}/dead-letters:replay`, letters),
  discard: (topic: string, letters: Letters) =>
    send<Task>("POST", `queue/topics/${part(topic)}/dead-letters:discard`, letters),
  tasks: (signal?: AbortSignal) => get<{ tasks: Task[] }>("queue/tasks", signal),
  cancel: (task: string) => send<Task>("DELETE", `queue/tasks/${part(task)}`),
  seek: (group: string, question: SeekQuestion) => send<Sought>("POST", `queue/groups/${part(group)}:seek`, question),
  audit: (signal?: AbortSignal) => get<{ entries: AuditEntry[] }>("queue/audit", signal),
};
