/** The gateway's REST API: its shapes as types, and one way to ask. */

export interface Completeness {
  partial: boolean;
  warnings: string[];
}

export interface FleetResponse {
  /** The server's clock, seconds since 1970. */
  time: number;
  gpus: string[];
  hosts: string[];
  indexes: string[];
  models: string[];
  timestamps: (number | null)[];
  columns: Record<string, (number | null)[]>;
  completeness: Completeness;
}

export interface Gpu {
  gpu: string;
  host: string;
  index: string;
  model: string;
  labels: Record<string, string>;
  first_seen: string | null;
  last_seen: string | null;
  metrics: string[];
  latest: Record<string, number>;
  latest_time: string | null;
}

export interface SeriesResponse {
  gpu: string;
  step_s: number;
  timestamps: number[];
  columns: Record<string, (number | null)[]>;
  completeness: Completeness;
}

export interface Metric {
  name: string;
  unit: string;
  description: string;
  dcgm: string;
}

/** One metric over the interval of an update, a value a GPU. */
export interface StreamColumn {
  last: (number | null)[];
  min: (number | null)[];
  max: (number | null)[];
}

/** `event: update` of the stream. */
export interface StreamUpdate {
  gpus: string[];
  timestamps: number[];
  columns: Record<string, StreamColumn>;
  labels: Record<string, Record<string, string>>;
}

export interface TopicStats {
  topic: string;
  messages: number;
  bytes: number;
  published: number;
  duplicates: number;
  publish_rate: number;
  partitions: { partition: number; start_offset: number; end_offset: number; bytes: number }[];
}

export interface MemberStats {
  member: string;
  session_id: string;
  peer: string;
  permits_messages: number;
  permits_bytes: number;
  unacked: number;
  partitions: { topic: string; partition: number }[];
  join_time: string | null;
}

export interface GroupStats {
  group: string;
  mode: string;
  ready: number;
  unacked: number;
  dead_lettered: number;
  oldest_unacked_age_s: number | null;
  lag_messages: number;
  lag_age_s: number | null;
  delivered: number;
  acked: number;
  redelivered: number;
  deliver_rate: number;
  ack_rate: number;
  blocked_on_max_unacked: boolean;
  members: MemberStats[];
}

export interface LogStats {
  bytes: number;
  segments: number;
  fsyncs: number;
  fsync_p50_s: number | null;
  fsync_p99_s: number | null;
  quarantined_records: number;
  torn_bytes: number;
}

export interface QueueStats {
  version: string;
  start_time: string | null;
  engine: string;
  connections: number;
  topics: TopicStats[];
  groups: GroupStats[];
  log: LogStats | null;
}

export interface Service {
  name: string;
  state: "ok" | "down" | "unknown";
  latency_ms: number | null;
  version: string;
  since: string | null;
  detail: string;
}

export interface HealthResponse {
  status: "ok" | "degraded" | "down";
  services: Service[];
}

/** The most metrics one series request may name. */
export const SERIES_METRICS_MAX = 50;

/** A request that failed: `status` is the HTTP status, 0 when there was no answer at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
  ) {
    super(detail ? `${title}: ${detail}` : title);
  }
}

/** A request is given up after this long. */
const TIMEOUT_MS = 15_000;

/** What to do when the gateway wants a token. One listener: the session. */
let whenRefused = (): void => {};
export function onRefused(listener: () => void): void {
  whenRefused = listener;
}

async function ask(path: string, init: RequestInit): Promise<Response> {
  const { signal } = init;
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  let response: Response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      ...init,
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    const detail = timeout.aborted ? `no answer within ${TIMEOUT_MS / 1000} s` : "the connection failed";
    throw new ApiError(0, "The gateway cannot be reached", detail);
  }
  if (response.status === 401) whenRefused();
  if (!response.ok) throw await problem(response);
  return response;
}

async function read<T>(path: string, response: Response): Promise<T> {
  if (response.status === 204) return undefined as T;
  try {
    return (await response.json()) as T;
  } catch {
    throw new ApiError(response.status, "The gateway's answer cannot be read", `${path} is not JSON`);
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return read<T>(path, await ask(path, { headers: { Accept: "application/json" }, ...(signal ? { signal } : {}) }));
}

/** Ask for a change. */
export async function send<T>(
  method: "POST" | "DELETE",
  path: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<T> {
  const init: RequestInit = { method, headers: { Accept: "application/json", ...headers } };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { ...init.headers, "Content-Type": "application/json" };
  }
  return read<T>(path, await ask(path, init));
}

/** Read an `application/problem+json` body, or make do with the status line. */
async function problem(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => ({}))) as { title?: string; detail?: string };
  return new ApiError(response.status, body.title ?? `HTTP ${response.status}`, body.detail ?? "");
}

export function query(parameters: Record<string, string | number | readonly string[] | undefined>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined) search.append(name, String(one));
  }
  const text = search.toString();
  return text && `?${text}`;
}

/** `start` and `end` in seconds since 1970. */
export interface SeriesQuestion {
  gpu: string;
  metric: readonly string[];
  start: number;
  end: number;
  agg: "avg" | "min" | "max";
}

export const api = {
  fleet: (signal?: AbortSignal) => get<FleetResponse>("fleet", signal),
  metrics: (signal?: AbortSignal) => get<{ metrics: Metric[] }>("metrics", signal),
  gpu: (gpu: string, signal?: AbortSignal) => get<Gpu>(`gpus/${encodeURIComponent(gpu)}`, signal),
  series: ({ gpu, metric, start, end, agg }: SeriesQuestion, signal?: AbortSignal) =>
    get<SeriesResponse>(
      `gpus/${encodeURIComponent(gpu)}/series${query({ metric, start_time: start, end_time: end, agg })}`,
      signal,
    ),
  queueStats: (signal?: AbortSignal) => get<QueueStats>("queue/stats", signal),
  health: (signal?: AbortSignal) => get<HealthResponse>("health", signal),
};

/** What the stream sends: everything, one host, one GPU, or some metrics of all. */
export interface StreamSelection {
  gpu?: string;
  host?: string;
  metric?: readonly string[];
}

export const streamUrl = (selection: StreamSelection): string => `/api/v1/stream${query({ ...selection })}`;
