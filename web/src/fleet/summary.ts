/** The fleet in five numbers, and their recent past for the sparklines. */

import { type Fleet, memoryTotal } from "./fleet";
import { LOST_S, STALE_S } from "./status";

export interface Summary {
  reporting: number;
  /** Silent for so long that it is no delay any more. */
  lost: number;
  known: number;
  /** Means, sums and the maximum are over GPUs that report; NaN when none has the metric. */
  utilization: number;
  power: number;
  /** Sum of the power limits; NaN unless every GPU with a power has one. */
  powerLimit: number;
  hottest: number;
  hottestRow: number;
  memoryUsed: number;
  memoryTotal: number;
}

export function summarise(fleet: Fleet): Summary {
  const utilization = fleet.columns.get("utilization");
  const temperature = fleet.columns.get("temperature");
  const power = fleet.columns.get("power_draw");
  const limit = fleet.columns.get("power_limit");
  const used = fleet.columns.get("memory_used");

  let [reporting, lost] = [0, 0];
  let hottestRow = -1;
  const busy = new Total();
  const watts = new Total();
  const caps = new Total();
  const memory = new Total();
  const memories = new Total();

  for (let row = 0; row < fleet.gpus.length; row++) {
    const age = fleet.clock - (fleet.times[row] as number);
    if (!(age < LOST_S)) lost += 1;
    if (!(age < STALE_S)) continue;
    reporting += 1;
    busy.add(utilization?.[row]);
    watts.add(power?.[row]);
    caps.add(limit?.[row]);
    if (memory.add(used?.[row])) memories.add(memoryTotal(fleet, row));
    const degrees = temperature?.[row] ?? Number.NaN;
    if (degrees > (temperature?.[hottestRow] ?? -Infinity)) hottestRow = row;
  }
  return {
    reporting,
    lost,
    known: fleet.gpus.length,
    utilization: busy.sum / busy.count,
    power: watts.orNone(),
    powerLimit: caps.count >= watts.count ? caps.orNone() : Number.NaN,
    hottest: temperature?.[hottestRow] ?? Number.NaN,
    hottestRow,
    memoryUsed: memory.orNone(),
    memoryTotal: memories.count === memory.count ? memories.orNone() : Number.NaN,
  };
}

class Total {
  sum = 0;
  count = 0;

  /** Returns whether there was a value. */
  add(value: number | undefined): boolean {
    if (value === undefined || Number.isNaN(value)) return false;
    this.sum += value;
    this.count += 1;
    return true;
  }

  orNone(): number {
    return this.count ? this.sum : Number.NaN;
  }
}

/** Points a sparkline keeps: ten minutes at two seconds each. */
const POINTS_MAX = 300;
const SPACING_S = 2;

export type History = readonly (Summary & { time: number })[];

/** `history` with the fleet as it is now, unless the last point is too near. A clock that went back starts anew. */
export function remember(history: History, fleet: Fleet): History {
  const last = history.at(-1);
  if (Number.isNaN(fleet.clock) || (last && Math.abs(fleet.clock - last.time) < SPACING_S)) return history;
  const kept = last && fleet.clock < last.time ? [] : history.slice(1 - POINTS_MAX);
  return [...kept, { ...summarise(fleet), time: fleet.clock }];
}
