/**
 * A gateway that is none: the REST shapes and the stream with GPUs that move, for working on the dashboard alone.
 *
 *   node dev/mock-server.mjs [--port=8099] [--gpus=247] [--old] [--partial] [--slow=MS] [--storm] [--calm] [--view] [--static=FOLDER]
 *
 * --gpus=10000 shows a large fleet, --gpus=0 an empty one; --old sends a recording from last year; --partial leaves a
 * collector out; --slow delays each answer; --storm has an alert for every GPU, --calm is without an alert service; --view may
 * change nothing. It also serves what `npm run build` made, under the gateway's own security policy.
 */
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { mockAlerts } from "./mock-alerts.mjs";
import { mockQueue } from "./mock-queue.mjs";

const flag = (name, fallback) => {
  const found = process.argv.find((text) => text === `--${name}` || text.startsWith(`--${name}=`));
  return found ? (found.split("=")[1] ?? true) : fallback;
};
const PORT = Number(flag("port", 8099));
const GPUS = Number(flag("gpus", 247));
const SLOW_MS = Number(flag("slow", 0));
const SHIFT_S = flag("old", false) ? 142 * 86_400 : 0;
const COMPLETENESS = flag("partial", false)
  ? { partial: true, warnings: ["collector 10.0.3.7:9092 does not answer: its GPUs are missing"] }
  : { partial: false, warnings: [] };
const STATIC = flag("static", fileURLToPath(new URL("../../gateway/static/", import.meta.url)));
const STARTED = Date.now() / 1000;
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

const DCGM = {
  temperature: "DCGM_FI_DEV_GPU_TEMP",
  slowdown_temperature: "DCGM_FI_DEV_SLOWDOWN_TEMP",
  power_draw: "DCGM_FI_DEV_POWER_USAGE",
  utilization: "DCGM_FI_DEV_GPU_UTIL",
  memory_used: "DCGM_FI_DEV_FB_USED",
};
const METRICS = [
  ["utilization", "%", "Share of time in which a kernel ran."],
  ["memory_utilization", "%", "Share of time in which memory was read or written."],
  ["memory_used", "MiB", "Memory in use."],
  ["memory_total", "MiB", "Memory of the GPU."],
  ["temperature", "°C", "Temperature of the GPU core."],
  ["memory_temperature", "°C", "Temperature of the memory."],
  ["slowdown_temperature", "°C", "Temperature at which the GPU slows itself down."],
  ["power_draw", "W", "Power drawn by the board."],
  ["power_limit", "W", "Power the board may draw."],
  ["sm_clock", "MHz", "Clock of the streaming multiprocessors."],
  ["memory_clock", "MHz", "Clock of the memory."],
  ["energy", "J", "Energy drawn since the driver was loaded."],
  ["xid_error", "", "The last XID error code; a code, not a count."],
  ["tensor_active", "%", "Share of time in which the tensor pipes were active."],
].map(([name, unit, description]) => ({ name, unit, description, dcgm: DCGM[name] ?? "" }));

const now = () => Date.now() / 1000 - SHIFT_S;
const iso = (seconds) => new Date(seconds * 1000).toISOString();
const noise = (seed) => Math.abs((Math.sin(seed * 12.9898) * 43_758.5453) % 1);
const hex = (seed, digits) =>
  Math.floor(noise(seed) * 16 ** digits)
    .toString(16)
    .padStart(digits, "0");

const gpus = Array.from({ length: GPUS }, (_, n) => ({
  n,
  gpu:
    n % 83 === 82
      ? `rack-${n % 7}/node-${n}/${n % 8}`
      : `GPU-${hex(n + 1, 8)}-${hex(n + 2, 4)}-${hex(n + 3, 4)}-${hex(n + 4, 4)}-${hex(n + 5, 8)}`,
  host: `mtv5-dgx1-hgpu-${String(Math.floor(n / 8) + 1).padStart(3, "0")}`,
  index: String(n % 8),
  model: Math.floor(n / 8) % 5 === 4 ? "NVIDIA A100-SXM4-80GB" : "NVIDIA H100 80GB HBM3",
  lastSeen: n === 21 ? STARTED - SHIFT_S - 1500 : n === 77 ? STARTED - SHIFT_S - 150 : null,
}));
const byId = new Map(gpus.map((gpu) => [gpu.gpu, gpu]));

/** The values of a GPU at an instant: jobs of some minutes on most hosts, none on others. */
function values(gpu, at) {
  const host = Math.floor(gpu.n / 8);
  const busy = noise(host * 7 + Math.floor((at / 60 + host * 3) / 11)) > 0.35;
  const wobble = Math.sin(at / 7 + gpu.n) * 4 + Math.sin(at / 41 + gpu.n * 2) * 6;
  const utilization = busy
    ? Math.min(100, Math.max(0, 82 + 14 * noise(gpu.n) + wobble))
    : Math.max(0, noise(gpu.n) * 6 - 3);
  const limit = gpu.model.includes("A100") ? 400 : 700;
  const temperature = 31 + utilization * 0.4 + noise(gpu.n * 3) * 9 + wobble / 5 + (gpu.n === 12 ? 14 : 0);
  return {
    utilization: Math.round(utilization),
    memory_utilization: Math.round(utilization * 0.42),
    memory_used: Math.round((busy ? 0.55 + 0.4 * noise(gpu.n * 5) : 0.006) * 81_559),
    memory_total: 81_559,
    temperature: Math.round(temperature),
    memory_temperature: Math.round(temperature + 7),
    slowdown_temperature: 87,
    power_draw: Number((limit * (0.11 + utilization * 0.0083) + wobble).toFixed(2)),
    power_limit: limit,
    sm_clock: busy ? 1980 - Math.round(Math.max(0, wobble)) * 15 : 345,
    memory_clock: 2619,
    energy: Math.round(4e9 + gpu.n * 1e7 + (at - STARTED + SHIFT_S) * 400),
    xid_error: gpu.n === 150 ? 79 : gpu.n === 40 ? 31 : 0,
    tensor_active: Number((utilization * 0.61).toFixed(1)),
  };
}

const seen = (gpu) => gpu.lastSeen ?? Math.floor(now());

function fleet() {
  const latest = gpus.map((gpu) => values(gpu, seen(gpu)));
  return {
    time: Date.now() / 1000,
    gpus: gpus.map((g) => g.gpu),
    hosts: gpus.map((g) => g.host),
    indexes: gpus.map((g) => g.index),
    models: gpus.map((g) => g.model),
    timestamps: gpus.map(seen),
    columns: Object.fromEntries(METRICS.map(({ name }) => [name, latest.map((one) => one[name])])),
    completeness: COMPLETENESS,
  };
}

function entity(gpu) {
  return {
    gpu: gpu.gpu,
    host: gpu.host,
    index: gpu.index,
    model: gpu.model,
    labels: {
      uuid: gpu.gpu,
      driver_version: "535.129.03",
      ...(gpu.n % 3 ? {} : { pod: `train-${gpu.n}`, namespace: "research" }),
    },
    first_seen: iso(STARTED - SHIFT_S - 7200),
    last_seen: iso(seen(gpu)),
    metrics: METRICS.map((metric) => metric.name),
    latest: values(gpu, seen(gpu)),
    latest_time: iso(seen(gpu)),
  };
}

function series(gpu, query) {
  const end = Math.min(Number(query.get("end_time") ?? seen(gpu)), seen(gpu));
  const start = Math.max(Number(query.get("start_time") ?? end - 900), STARTED - SHIFT_S - 7200);
  const step = Math.max(1, Math.round((end - start) / 300));
  const timestamps = [];
  for (let at = Math.ceil(start / step) * step; at <= end; at += step) {
    const outage = at > STARTED - SHIFT_S - 420 && at < STARTED - SHIFT_S - 360;
    if (!outage) timestamps.push(at);
  }
  const rows = timestamps.map((at) => values(gpu, at));
  const columns = Object.fromEntries(
    query.getAll("metric").map((name) => [name, rows.map((row) => row[name] ?? null)]),
  );
  return { gpu: gpu.gpu, step_s: step, timestamps, columns, completeness: COMPLETENESS };
}

function update(query) {
  const wanted = gpus.filter((gpu) => {
    if (gpu.lastSeen) return false;
    if (query.has("gpu") && gpu.gpu !== query.get("gpu")) return false;
    return !query.has("host") || gpu.host === query.get("host");
  });
  const names = query.has("metric") ? query.getAll("metric") : METRICS.map((metric) => metric.name);
  const rows = wanted.map((gpu) => values(gpu, seen(gpu)));
  const column = (name) => rows.map((row) => row[name] ?? null);
  return {
    gpus: wanted.map((gpu) => gpu.gpu),
    timestamps: wanted.map(seen),
    columns: Object.fromEntries(
      names.map((name) => [name, { last: column(name), min: column(name), max: column(name) }]),
    ),
    labels: {},
  };
}

function queueStats() {
  const rate = GPUS * (1 + 0.1 * Math.sin(Date.now() / 9000));
  const total = Math.round((Date.now() / 1000 - STARTED + 7200) * GPUS);
  const topic = (name, share, partitions) => ({
    topic: name,
    messages: Math.round(total * share),
    bytes: Math.round(total * share * 420),
    published: Math.round(total * share * 1.4),
    duplicates: share === 1 ? 3 : 0,
    publish_rate: rate * share,
    partitions: Array.from({ length: partitions }, (_, partition) => ({
      partition,
      start_offset: 0,
      end_offset: Math.round((total * share) / partitions),
      bytes: Math.round((total * share * 420) / partitions),
    })),
  });
  const member = (n) => ({
    member: `collector-${n}`,
    session_id: `s-${n}`,
    peer: `127.0.0.1:4${n}112`,
    permits_messages: 9_400 + n,
    permits_bytes: 58_000_000,
    unacked: 600 - n,
    partitions: Array.from({ length: 4 }, (_, at) => ({ topic: "telemetry", partition: (n - 1) * 4 + at })),
    join_time: iso(STARTED - 3000),
  });
  const group = (name, mode, lag, members) => ({
    group: name,
    mode,
    ready: Math.round(lag * 0.8),
    unacked: Math.round(lag * 0.2),
    dead_lettered: 0,
    oldest_unacked_age_s: 0.21,
    lag_messages: Math.round(lag),
    lag_age_s: lag / rate,
    delivered: total,
    acked: total - 12,
    redelivered: 2,
    deliver_rate: rate,
    ack_rate: rate * 0.99,
    blocked_on_max_unacked: false,
    members,
  });
  return {
    version: "0.1.0",
    start_time: iso(STARTED - 7200),
    engine: "disk",
    connections: 5,
    topics: [
      topic("telemetry", 1, 8),
      topic("live", 0.02, 1),
      topic("telemetry.quarantine", 0.00001, 1),
      { ...topic("telemetry.dead-letter", 0, 1), messages: 7 },
    ],
    groups: [
      group("collectors", "ordered", 140 + 90 * Math.sin(Date.now() / 5000), [member(1), member(2)]),
      group("gateway", "shared", 0, []),
    ],
    log: {
      bytes: total * 420,
      segments: 14,
      fsyncs: 48_211,
      fsync_p50_s: 0.0021,
      fsync_p99_s: 0.0134,
      quarantined_records: 0,
      torn_bytes: 0,
    },
  };
}

function health() {
  const service = (name, state, latency_ms, detail = "") => ({
    name,
    state,
    latency_ms,
    version: state === "ok" ? "0.1.0" : "",
    since: state === "unknown" ? null : iso(STARTED - 7200),
    detail,
  });
  return {
    status: "degraded",
    services: [
      service("queue", "ok", 0.8 + Math.random()),
      service("collector", "ok", 1.4 + Math.random()),
      service("streamer", "down", null, "127.0.0.1:9093 refuses the connection"),
      service("gateway", "ok", 0.1),
    ],
  };
}

function stream(request, response, query) {
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  response.write("retry: 2000\n\n");
  let id = 0;
  const timer = setInterval(
    () => response.write(`id: ${++id}\nevent: update\ndata: ${JSON.stringify(update(query))}\n\n`),
    1000,
  );
  request.on("close", () => clearInterval(timer));
}

const alerts = flag("calm", false) ? () => null : mockAlerts(gpus, { storm: flag("storm", false) });
const queue = mockQueue(gpus);
const MAY_CHANGE = !flag("view", false);

function answer(method, path, query, body) {
  const found = alerts(method, path, query, body) ?? queue(method, path, query, body);
  if (found || method !== "GET") return found;
  if (path === "session") return { tokens: false, name: "", role: MAY_CHANGE ? "admin" : "view" };
  if (path === "fleet") return fleet();
  if (path === "metrics") return { metrics: METRICS };
  if (path === "queue/stats") return queueStats();
  if (path === "health") return health();
  const [, id, rest] = /^gpus\/([^/]+)(\/series)?$/.exec(path) ?? [];
  const gpu = id && byId.get(decodeURIComponent(id));
  return gpu ? (rest ? series(gpu, query) : entity(gpu)) : null;
}

async function page(path, response) {
  const file = normalize(join(STATIC, path));
  const body = file.startsWith(STATIC) && extname(file) ? await readFile(file).catch(() => null) : null;
  response.writeHead(200, {
    "Content-Type": TYPES[extname(file)] ?? "text/html",
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'",
  });
  response.end(body ?? (await readFile(join(STATIC, "index.html")).catch(() => "Run `npm run build` first.")));
}

/** A problem as the gateway writes it. */
function refuse(response, status, title, detail) {
  response.writeHead(status, { "Content-Type": "application/problem+json" });
  response.end(JSON.stringify({ type: "about:blank", title, status, detail }));
}

async function api(request, response, path, query) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { method } = request;
  if (method !== "GET" && !MAY_CHANGE) {
    return refuse(
      response,
      403,
      "Forbidden",
      "this needs the role operate; start the gateway with --admin to allow it",
    );
  }
  const body = answer(method, path, query, chunks.length ? JSON.parse(Buffer.concat(chunks).toString()) : null);
  if (!body && path.startsWith("alerts"))
    return refuse(response, 503, "Service Unavailable", "127.0.0.1:9094 refuses the connection");
  if (!body) return refuse(response, 404, "Not Found", `There is no ${path}`);
  response.writeHead(200, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}

createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://mock");
  if (!url.pathname.startsWith("/api/v1/")) return void page(url.pathname, response);
  const path = url.pathname.slice("/api/v1/".length);
  if (path === "stream") return stream(request, response, url.searchParams);
  setTimeout(() => void api(request, response, path, url.searchParams), SLOW_MS);
}).listen(PORT, "127.0.0.1", () => console.log(`Mock gateway with ${GPUS} GPUs on http://127.0.0.1:${PORT}`));
