/** Alerts that are none: two rules, some GPUs for which they fire, and silences that can be made and ended. */

const iso = (seconds) => new Date(seconds * 1000).toISOString();
const now = () => Date.now() / 1000;

const RULES = [
  {
    type: "alerting",
    id: "r-overheating",
    name: "GpuOverheating",
    expr: "DCGM_FI_DEV_GPU_TEMP >= DCGM_FI_DEV_SLOWDOWN_TEMP\nor (DCGM_FI_DEV_GPU_TEMP > 90 unless on (UUID) DCGM_FI_DEV_SLOWDOWN_TEMP)",
    for_s: 60,
    keep_firing_for_s: 300,
    severity: "critical",
    summary: (gpu) => `GPU ${gpu.index} of ${gpu.host} is at 88 °C`,
  },
  {
    type: "alerting",
    id: "r-throttling",
    name: "GpuPowerHigh",
    expr: "avg_over_time(DCGM_FI_DEV_POWER_USAGE[5m]) > 650",
    for_s: 0,
    keep_firing_for_s: 0,
    severity: "warning",
    summary: (gpu) => `GPU ${gpu.index} of ${gpu.host} draws more than it should`,
  },
  {
    type: "alerting",
    id: "r-idle",
    name: "GpuIdleHoldingMemory",
    expr: "max_over_time(DCGM_FI_DEV_GPU_UTIL[2m]) < 1 and DCGM_FI_DEV_FB_USED > 1024",
    for_s: 1800,
    keep_firing_for_s: 0,
    severity: "info",
    summary: (gpu) => `GPU ${gpu.index} of ${gpu.host} is held and not used`,
  },
];

/** Answers of `/api/v1/alerts…` for a fleet. `storm` has every GPU fire. */
export function mockAlerts(gpus, { storm = false } = {}) {
  const started = now();
  const silences = [];
  const places = storm
    ? gpus.map((_, at) => [at, 0, "firing"])
    : [
        [12, 0, "firing"],
        [3, 0, "pending"],
        [40, 1, "firing"],
        [41, 1, "firing"],
        [77, 2, "firing"],
        [100, 1, "resolved"],
      ];
  const alerts = () =>
    places
      .filter(([at]) => gpus[at])
      .map(([at, ruleAt, state], place) => {
        const [gpu, rule] = [gpus[at], RULES[ruleAt]];
        const labels = {
          alertname: rule.name,
          severity: rule.severity,
          UUID: gpu.gpu,
          gpu: gpu.index,
          Hostname: gpu.host,
          modelName: gpu.model,
        };
        const begun = started - 2000 - place * 37;
        return {
          id: (0xabc0_0000 + place).toString(16).padStart(16, "0"),
          rule: rule.name,
          group: "gpu-health",
          state,
          severity: rule.severity,
          gpu: gpu.gpu,
          host: gpu.host,
          labels,
          annotations: {
            summary: rule.summary(gpu),
            description: `${gpu.gpu} (${gpu.model}) is not as it should be.`,
            runbook_url: `docs/alerts.md#${rule.name.toLowerCase()}`,
          },
          value: 88.25,
          active_since: iso(begun),
          firing_since: state === "pending" ? null : iso(begun + rule.for_s),
          resolved_at: state === "resolved" ? iso(started - 240) : null,
          silenced_by: silences
            .filter((one) => one.state === "active")
            .filter((one) => one.matchers.every(({ name, value }) => labels[name] === value))
            .map((one) => one.id),
        };
      });
  const rules = () => ({
    groups: [
      {
        name: "gpu-health",
        file: "telemetry/alerts/pack/gpu.rules.yaml",
        interval_s: 15,
        rules: RULES.map(({ severity, summary: _, ...rule }) => {
          const mine = alerts().filter((alert) => alert.rule === rule.name && alert.state !== "resolved");
          return {
            ...rule,
            labels: { severity },
            annotations: { summary: "GPU {{ $labels.gpu }} of {{ $labels.Hostname }}" },
            state: mine.some(({ state }) => state === "firing") ? "firing" : mine.length ? "pending" : "inactive",
            health: "ok",
            last_error: "",
            last_evaluation: iso(now() - 3),
            evaluation_s: 0.002,
            active: mine.length,
          };
        }),
      },
    ],
    loaded_at: iso(started),
    error: "",
  });
  const history = (query) => ({
    events: alerts()
      .filter((alert) => alert.firing_since)
      .flatMap((alert) => {
        const { id, rule, gpu, host, labels, value, firing_since: fired, resolved_at: ended } = alert;
        const event = (state, at) => ({
          id: `${id}-${state}`,
          alert_id: id,
          rule,
          gpu,
          host,
          labels,
          state,
          at,
          value,
        });
        return [...(ended ? [event("resolved", ended)] : []), event("firing", fired)];
      })
      .filter((event) => ["rule", "gpu"].every((name) => !query.get(name) || query.get(name) === event[name]))
      .sort((a, b) => b.at.localeCompare(a.at)),
    next_page_token: "",
  });

  /** The answer to a request, or null. */
  return function answer(method, path, query, body) {
    if (method === "GET" && path === "alerts") {
      return { alerts: alerts(), next_page_token: "", total: places.length };
    }
    if (method === "GET" && path === "alerts/rules") return rules();
    if (method === "GET" && path === "alerts/history") return history(query);
    if (method === "GET" && path === "alerts/silences") return { silences };
    if (method === "POST" && path === "alerts/silences") {
      const made = { starts_at: iso(now()), ...body, id: `s${silences.length}`, state: "active" };
      silences.unshift(made);
      return made;
    }
    const found = method === "DELETE" && silences.find(({ id }) => path === `alerts/silences/${id}`);
    if (!found) return null;
    Object.assign(found, { state: "expired", ends_at: iso(now()) });
    return found;
  };
}
