/** Messages, dead letters and tasks that are none. */

const iso = (seconds) => new Date(seconds * 1000).toISOString();
const now = () => Date.now() / 1000;
const LETTERS = 7;

function message(gpus, partition, offset) {
  const rows = gpus.slice(offset % 50, (offset % 50) + 8).map((gpu) => ({
    timestamp: iso(now() - 60),
    gpu: gpu.gpu,
    metrics: { temperature: 60 + (offset % 20), power_draw: 412.5 },
    labels: { host: gpu.host, index: gpu.index },
  }));
  return {
    partition,
    offset,
    publish_time: iso(now() - (5000 - offset) / 10),
    ordering_key: rows[0]?.labels.host ?? "",
    attributes: { "content-type": "application/vnd.apache.arrow.stream", source: `dcgm.csv:${offset}` },
    bytes: 4200 + offset,
    content_type: "application/vnd.apache.arrow.stream",
    kind: "records",
    rows,
    rows_total: rows.length,
    text: null,
    base64: null,
    truncated: false,
    problem: "",
  };
}

/** Answers of the queue's administration for a fleet. */
export function mockQueue(gpus) {
  const tasks = [];
  let letters = Array.from({ length: LETTERS }, (_, offset) => offset);
  const settle = () => {
    for (const task of tasks) {
      if (task.state !== "running") continue;
      task.done = Math.min(task.total, Math.floor((now() - Date.parse(task.started_at) / 1000) * 2));
      if (task.done === task.total) Object.assign(task, { state: "done", finished_at: iso(now()) });
    }
  };
  const letter = (offset) => ({
    ...message(gpus, 0, offset),
    kind: "binary",
    rows: [],
    rows_total: 0,
    base64: "/////wAAAA==",
    problem: "is not an Arrow stream",
    origin: {
      topic: "telemetry",
      partition: 3,
      offset: 1100 + offset,
      group: "collectors",
      attempts: 10,
      reason: "Arrow stream ends within a batch",
      first_time: iso(now() - 4000),
      last_time: iso(now() - 3000),
    },
  });

  return function answer(method, path, query, body) {
    settle();
    const [, topic, what] = /^queue\/topics\/([^/]+)\/(messages|dead-letters)(?:$|:)/.exec(path) ?? [];
    if (method === "GET" && what === "messages") {
      const from = query.get("from");
      const first = from === "latest" ? 4950 : Number(from?.split(":")[1]?.split(",")[0] ?? from) || 0;
      const messages = Array.from({ length: Math.min(50, 5000 - first) }, (_, at) => message(gpus, 0, first + at));
      return {
        topic,
        messages: from === "latest" ? messages.reverse() : messages,
        next: { 0: first + messages.length },
      };
    }
    if (method === "GET" && what === "dead-letters") {
      return {
        topic: "telemetry.dead-letter",
        total: letters.length,
        messages: letters.map(letter),
        next: { 0: LETTERS },
      };
    }
    const [, kind] = /dead-letters:(replay|discard)$/.exec(path) ?? [];
    if (method === "POST" && kind) {
      const chosen = body.all ? letters : body.offsets;
      letters = letters.filter((offset) => !chosen.includes(offset));
      const task = { id: `t${tasks.length}`, kind, topic: "telemetry.dead-letter", state: "running", done: 0 };
      tasks.unshift(
        Object.assign(task, { total: chosen.length, started_at: iso(now()), finished_at: null, error: "" }),
      );
      return task;
    }
    if (method === "GET" && path === "queue/groups") return { groups: [{ name: "collectors", dead_letter_topic: "" }] };
    if (method === "GET" && path === "queue/tasks") return { tasks };
    if (method === "GET" && path === "queue/audit") return { entries: [] };
    const task = tasks.find(({ id }) => path === `queue/tasks/${id}`);
    if (method === "DELETE" && task) return Object.assign(task, { state: "cancelled", finished_at: iso(now()) });
    const [, group] = /^queue\/groups\/([^/]+):seek$/.exec(path) ?? [];
    if (method !== "POST" || !group) return null;
    const position = {
      topic: "telemetry",
      partition: 0,
      acked_through: 0,
      end_offset: 5000,
      acked_through_before: 4992,
    };
    return { group, dry_run: body.dry_run, positions: [{ ...position, again: 4992, skipped: 0 }] };
  };
}
