/** What is wrong with a GPU, worst first. */

import type { Loud } from "../alerts/alerts";
import type { Alert } from "../alerts/api";
import { ago, say } from "../format";
import { type Fleet, valueAt } from "./fleet";

/** A GPU this far behind the fleet's newest sample is stale, then lost. */
export const STALE_S = 90;
export const LOST_S = 300;

/** Without a slowdown temperature of its own, a GPU is called hot from here on. */
export const HOT_C = 85;

/** Bits of `throttle_reasons` that mean trouble: hardware slowdown, thermal (software, hardware), power brake. */
const THROTTLE_TROUBLE = 0x8 | 0x20 | 0x40 | 0x80;

/** What each bit of `throttle_reasons` means, the lowest first. */
const THROTTLES = [
  "idle",
  "clock setting",
  "power cap",
  "hardware slowdown",
  "sync boost",
  "heat (software)",
  "heat (hardware)",
  "power brake",
  "display clock",
];

export const throttles = (bits: number): string =>
  THROTTLES.filter((_, bit) => bits & (1 << bit)).join(", ") || "nothing holds the clocks down";

/** As in the rule pack: after these the hardware needs a reset or a look. All others are most often the program's fault. */
const XID_CRITICAL: ReadonlySet<number> = new Set([48, 62, 64, 74, 79, 95, 119, 120]);
const XID_WARNING = 94;

export type Level = "ok" | "warning" | "critical" | "unknown";
export type Condition = "ok" | "alert" | "hot" | "throttled" | "error" | "stale" | "lost" | "unknown";

export interface Status {
  level: Level;
  condition: Condition;
  /** For people; empty when all is well. */
  reason: string;
  /** The worst alert that fires for it, or for its host, and that nobody has silenced. */
  alert?: Alert;
}

const OK: Status = { level: "ok", condition: "ok", reason: "" };
const UNKNOWN: Status = { level: "unknown", condition: "unknown", reason: "No sample yet" };

/** Order of the levels in a list of what is wrong. */
export const RANK: Readonly<Record<Level, number>> = { critical: 0, warning: 1, unknown: 2, ok: 3 };

/** What is wrong with a GPU by its values and by the alerts. */
export function assess(fleet: Fleet, row: number, loud?: Loud): Status {
  const status = assessValues(fleet, row);
  const alert = loud?.gpus.get(fleet.gpus[row] ?? "") ?? loud?.hosts.get(fleet.hosts[row] ?? "");
  if (alert?.severity !== "critical" && alert?.severity !== "warning") return status;
  // An alert says more than a value, unless the value is worse.
  if (RANK[status.level] < RANK[alert.severity] || status.condition === "lost") return { ...status, alert };
  return {
    level: alert.severity,
    condition: status.condition === "stale" ? "stale" : "alert",
    reason: alert.rule,
    alert,
  };
}

function assessValues(fleet: Fleet, row: number): Status {
  const age = fleet.clock - (fleet.times[row] ?? Number.NaN);
  if (Number.isNaN(age)) return UNKNOWN;
  if (age >= LOST_S) return { level: "critical", condition: "lost", reason: `Lost: last sample ${ago(age)}` };

  const temperature = valueAt(fleet, "temperature", row);
  const slowdown = valueAt(fleet, "slowdown_temperature", row);
  if (temperature >= slowdown) {
    return { level: "critical", condition: "hot", reason: `At its slowdown point: ${say(temperature, "°C")}` };
  }
  const xid = valueAt(fleet, "xid_error", row);
  if (XID_CRITICAL.has(xid)) return { level: "critical", condition: "error", reason: `XID ${xid}` };
  if (valueAt(fleet, "row_remap_failure", row) > 0) {
    return { level: "critical", condition: "error", reason: "A memory row could not be remapped" };
  }
  if (valueAt(fleet, "ecc_uncorrected", row) > 0) {
    return { level: "critical", condition: "error", reason: "Uncorrected memory errors" };
  }

  if (age >= STALE_S) return { level: "warning", condition: "stale", reason: `Stale: last sample ${ago(age)}` };
  if (valueAt(fleet, "throttle_reasons", row) & THROTTLE_TROUBLE) {
    return { level: "warning", condition: "throttled", reason: "Clocks held down by heat or power" };
  }
  if (Number.isNaN(slowdown) && temperature >= HOT_C) {
    return { level: "warning", condition: "hot", reason: `Hot: ${say(temperature, "°C")}` };
  }
  if (xid === XID_WARNING) return { level: "warning", condition: "error", reason: `XID ${xid}` };
  return OK;
}

export const assessAll = (fleet: Fleet, loud?: Loud): readonly Status[] =>
  fleet.gpus.map((_, row) => assess(fleet, row, loud));
