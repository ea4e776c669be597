/** Small answers of the gateway, for tests. */

import type { FleetResponse, StreamUpdate } from "../api";

export function response(part: Partial<FleetResponse> = {}): FleetResponse {
  return {
    time: 1000,
    gpus: ["a", "b"],
    hosts: ["h1", "h1"],
    indexes: ["0", "1"],
    models: ["M", "M"],
    timestamps: [999, 998],
    columns: { temperature: [60, null], utilization: [50, 100] },
    completeness: { partial: false, warnings: [] },
    ...part,
  };
}

export function update(time: number, values: Record<string, Record<string, number | null>>): StreamUpdate {
  const gpus = Object.keys(values);
  const metrics = [...new Set(gpus.flatMap((gpu) => Object.keys(values[gpu] ?? {})))];
  const column = (metric: string) => gpus.map((gpu) => values[gpu]?.[metric] ?? null);
  return {
    gpus,
    timestamps: gpus.map(() => time),
    columns: Object.fromEntries(
      metrics.map((metric) => [metric, { last: column(metric), min: column(metric), max: column(metric) }]),
    ),
    labels: {},
  };
}
