/** The span over which a metric's colours run. Round numbers, so that it does not creep while values move. */

import { type Domain, isTemperature, roundUp } from "../colour";
import type { Fleet } from "./fleet";

/** Temperatures below it are all "cool". */
const COOL_C = 20;
const HOT_SCALE_C = 90;

/** The metric whose largest value bounds another's colours. */
const BOUND: Readonly<Record<string, string>> = { power_draw: "power_limit", memory_used: "memory_total" };

export function domainOf(fleet: Fleet, metric: string, unit: string): Domain {
  if (unit === "%") return { min: 0, max: 100 };
  if (isTemperature(metric)) {
    const slowdown = smallest(fleet.columns.get("slowdown_temperature"));
    if (metric !== "temperature" || !Number.isFinite(slowdown)) return { min: COOL_C, max: HOT_SCALE_C };
    return { min: COOL_C, max: Math.max(HOT_SCALE_C, slowdown + 5), threshold: slowdown };
  }
  const bound = largest(fleet.columns.get(BOUND[metric] ?? ""));
  return { min: 0, max: bound > 0 ? bound : roundUp(largest(fleet.columns.get(metric))) };
}

function largest(values: Float64Array | undefined): number {
  let best = -Infinity;
  for (const value of values ?? []) if (value > best) best = value;
  return best;
}

function smallest(values: Float64Array | undefined): number {
  let best = Infinity;
  for (const value of values ?? []) if (value < best) best = value;
  return best;
}
