/** The fleet as columns: one row a GPU, one array a metric. Values never change in place, so that React can compare. */

import type { Completeness, FleetResponse, StreamUpdate } from "../api";

/** Clocks that run ahead of the server by more than this do not set the fleet's clock. */
const CLOCK_AHEAD_S = 60;

export interface Fleet {
  gpus: readonly string[];
  hosts: readonly string[];
  indexes: readonly string[];
  models: readonly string[];
  /** Each GPU's newest sample, seconds since 1970; NaN when there is none. */
  times: Float64Array;
  /** By metric; NaN where a GPU has no value. */
  columns: ReadonlyMap<string, Float64Array>;
  rows: ReadonlyMap<string, number>;
  completeness: Completeness;
  /** The newest sample of all, leaving out clocks that run ahead; NaN when there is none. */
  clock: number;
}

const numbers = (values: readonly (number | null)[]): Float64Array =>
  Float64Array.from(values, (value) => value ?? Number.NaN);

export function fleetFrom(response: FleetResponse): Fleet {
  const times = numbers(response.timestamps);
  return {
    gpus: response.gpus,
    hosts: response.hosts,
    indexes: response.indexes,
    models: response.models,
    times,
    columns: new Map(Object.entries(response.columns).map(([name, values]) => [name, numbers(values)])),
    rows: new Map(response.gpus.map((gpu, row) => [gpu, row])),
    completeness: response.completeness,
    clock: newest(times, response.time),
  };
}

function newest(times: Float64Array, now: number): number {
  let best = Number.NaN;
  let ahead = Number.NaN;
  for (const instant of times) {
    if (instant > now + CLOCK_AHEAD_S) ahead = instant > ahead || Number.isNaN(ahead) ? instant : ahead;
    else if (instant > best || Number.isNaN(best)) best = instant;
  }
  return Number.isNaN(best) ? ahead : best;
}

/** `fleet` with the updates applied in order. A GPU's older sample changes nothing; a new GPU gets a row at the end. */
export function mergeUpdates(fleet: Fleet, updates: readonly StreamUpdate[], now: number): Fleet {
  const next = withNewGpus(fleet, updates);
  const times = next.times.slice();
  const columns = new Map(next.columns);
  const fresh = new Set<string>();

  const writable = (name: string): Float64Array => {
    const column = columns.get(name);
    if (column && fresh.has(name)) return column;
    const copy = column ? column.slice() : new Float64Array(times.length).fill(Number.NaN);
    columns.set(name, copy);
    fresh.add(name);
    return copy;
  };

  for (const update of updates) {
    const targets = update.gpus.map((gpu, at) => {
      const row = next.rows.get(gpu) as number;
      const instant = update.timestamps[at] ?? Number.NaN;
      if (instant < (times[row] as number)) return -1;
      times[row] = instant;
      return row;
    });
    for (const [name, { last }] of Object.entries(update.columns)) {
      const column = writable(name);
      for (const [at, row] of targets.entries()) {
        const value = last[at];
        if (row >= 0 && value !== null && value !== undefined) column[row] = value;
      }
    }
  }
  return { ...next, times, columns, clock: newest(times, now) };
}

/** `fleet` with a row for every GPU in the updates, and with the labels they bring. */
function withNewGpus(fleet: Fleet, updates: readonly StreamUpdate[]): Fleet {
  const rows = new Map(fleet.rows);
  const gpus = [...fleet.gpus];
  const hosts = [...fleet.hosts];
  const indexes = [...fleet.indexes];
  const models = [...fleet.models];
  let changed = false;

  for (const update of updates) {
    for (const gpu of update.gpus) {
      if (rows.has(gpu)) continue;
      rows.set(gpu, gpus.length);
      gpus.push(gpu);
      hosts.push("");
      indexes.push("");
      models.push("");
      changed = true;
    }
    for (const [gpu, labels] of Object.entries(update.labels ?? {})) {
      const row = rows.get(gpu);
      if (row === undefined) continue;
      for (const [list, label] of [
        [hosts, labels.host],
        [indexes, labels.index],
        [models, labels.model],
      ] as const) {
        if (label === undefined || list[row] === label) continue;
        list[row] = label;
        changed = true;
      }
    }
  }
  if (!changed) return fleet;

  const grow = (column: Float64Array): Float64Array => {
    const longer = new Float64Array(gpus.length).fill(Number.NaN);
    longer.set(column);
    return longer;
  };
  const columns = new Map([...fleet.columns].map(([name, column]) => [name, grow(column)]));
  return { ...fleet, gpus, hosts, indexes, models, rows, columns, times: grow(fleet.times) };
}

/** One value; NaN when there is none. */
export function valueAt(fleet: Fleet, metric: string, row: number): number {
  return fleet.columns.get(metric)?.[row] ?? Number.NaN;
}

/** How people call a GPU: host and index where known, else its identity. */
export function gpuLabel(fleet: Fleet, row: number): string {
  const host = fleet.hosts[row];
  const index = fleet.indexes[row];
  return host && index ? `${host} / ${index}` : (fleet.gpus[row] ?? "");
}

/** Memory of a GPU in MiB: as reported, else what is used and free together. */
export function memoryTotal(fleet: Fleet, row: number): number {
  const total = valueAt(fleet, "memory_total", row);
  return Number.isNaN(total) ? valueAt(fleet, "memory_used", row) + valueAt(fleet, "memory_free", row) : total;
}
