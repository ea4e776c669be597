/** Small alerts, for tests. */

import type { Alert, AlertEvent } from "./api";

export const iso = (seconds: number): string => new Date(seconds * 1000).toISOString();

export function alert(part: Partial<Alert> = {}): Alert {
  const rule = part.rule ?? "GpuOverheating";
  return {
    id: "a1",
    rule,
    group: "gpu-health",
    state: "firing",
    severity: "critical",
    gpu: "GPU-1",
    host: "h1",
    labels: { alertname: rule, severity: "critical", UUID: "GPU-1", Hostname: "h1", gpu: "0" },
    annotations: { summary: "GPU 0 of h1 is at 92 °C" },
    value: 92,
    active_since: iso(900),
    firing_since: iso(960),
    resolved_at: null,
    silenced_by: [],
    ...part,
  };
}

export function event(part: Partial<AlertEvent> = {}): AlertEvent {
  return {
    id: "1",
    alert_id: "a1",
    rule: "GpuOverheating",
    gpu: "GPU-1",
    host: "h1",
    labels: { severity: "critical" },
    state: "firing",
    at: iso(500),
    value: 92,
    ...part,
  };
}
