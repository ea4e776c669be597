import { describe, expect, test } from "vitest";
import type { FleetResponse } from "../api";
import { fleetFrom, gpuLabel, memoryTotal, mergeUpdates, valueAt } from "./fleet";
import { response, update } from "./samples";
import { assess, STALE_S, throttles } from "./status";
import { remember, summarise } from "./summary";

describe("merging updates", () => {
  const before = fleetFrom(response());

  test("changes what the update says and nothing else", () => {
    const after = mergeUpdates(before, [update(1001, { b: { temperature: 71 } })], 1002);
    expect(valueAt(after, "temperature", 1)).toBe(71);
    expect(valueAt(after, "temperature", 0)).toBe(60);
    expect(valueAt(after, "utilization", 1)).toBe(100);
    expect(after.clock).toBe(1001);
  });

  test("leaves the fleet it came from as it was", () => {
    mergeUpdates(before, [update(1001, { a: { temperature: 99 } })], 1002);
    expect(valueAt(before, "temperature", 0)).toBe(60);
    expect(before.times[0]).toBe(999);
  });

  test("keeps the lists, so that nothing is sorted anew, while no GPU is new", () => {
    const after = mergeUpdates(before, [update(1001, { a: { temperature: 61 } })], 1002);
    expect(after.gpus).toBe(before.gpus);
    expect(after.hosts).toBe(before.hosts);
    expect(after.columns.get("utilization")).toBe(before.columns.get("utilization"));
  });

  test("ignores a sample older than the one shown", () => {
    const after = mergeUpdates(before, [update(990, { a: { temperature: 20 } })], 1002);
    expect(valueAt(after, "temperature", 0)).toBe(60);
  });

  test("gives a new GPU and a new metric their place", () => {
    const news = { ...update(1001, { c: { power_draw: 300 } }), labels: { c: { host: "h2", index: "4", model: "N" } } };
    const after = mergeUpdates(before, [news], 1002);
    expect(after.gpus).toEqual(["a", "b", "c"]);
    expect(gpuLabel(after, 2)).toBe("h2 / 4");
    expect(valueAt(after, "power_draw", 2)).toBe(300);
    expect(valueAt(after, "power_draw", 0)).toBeNaN();
  });

  test("a null in an update is no value, and takes none away", () => {
    const after = mergeUpdates(before, [update(1001, { a: { temperature: null, utilization: 10 } })], 1002);
    expect(valueAt(after, "temperature", 0)).toBe(60);
  });
});

test("a clock that runs an hour ahead does not make the others lost", () => {
  const fleet = fleetFrom(response({ timestamps: [999, 4600] }));
  expect(fleet.clock).toBe(999);
  expect(assess(fleet, 0).level).toBe("ok");
});

describe("status", () => {
  const of = (columns: FleetResponse["columns"], timestamps = [999, 999]) =>
    assess(fleetFrom(response({ columns, timestamps })), 0);

  test("a GPU far behind the others is stale, then lost", () => {
    expect(of({}, [999, 999]).condition).toBe("ok");
    expect(of({}, [900, 999]).condition).toBe("stale");
    expect(of({}, [600, 999])).toMatchObject({ condition: "lost", level: "critical" });
  });

  test("a recording from long ago is not lost: its GPUs are compared with one another", () => {
    expect(of({}, [10, 11]).condition).toBe("ok");
  });

  test("heat counts from the GPU's own slowdown point", () => {
    expect(of({ temperature: [88, null], slowdown_temperature: [92, null] }).level).toBe("ok");
    expect(of({ temperature: [92, null], slowdown_temperature: [92, null] })).toMatchObject({
      condition: "hot",
      level: "critical",
    });
    expect(of({ temperature: [88, null] })).toMatchObject({ condition: "hot", level: "warning" });
  });

  test("reasons of throttling are words, not bits", () => {
    expect(throttles(0)).toBe("nothing holds the clocks down");
    expect(throttles(0x4 | 0x40)).toBe("power cap, heat (hardware)");
  });

  test("a hardware XID is critical, a contained one a warning, and a program's own fault is nothing", () => {
    expect(of({ xid_error: [79, null] })).toMatchObject({ level: "critical", reason: "XID 79" });
    expect(of({ xid_error: [120, null] }).level).toBe("critical");
    expect(of({ xid_error: [94, null] }).level).toBe("warning");
    expect(of({ xid_error: [31, null] }).level).toBe("ok");
    expect(of({ xid_error: [0, null] }).level).toBe("ok");
  });

  test("idle clocks are no trouble, thermal slowdown is", () => {
    expect(of({ throttle_reasons: [1, null] }).level).toBe("ok");
    expect(of({ throttle_reasons: [0x40, null] }).condition).toBe("throttled");
  });
});

describe("the five numbers", () => {
  test("leave lost GPUs out", () => {
    const summary = summarise(
      fleetFrom(response({ timestamps: [999, 100], columns: { utilization: [50, 100], temperature: [60, 99] } })),
    );
    expect(summary).toMatchObject({ reporting: 1, lost: 1, known: 2, utilization: 50, hottest: 60, hottestRow: 0 });
  });

  test("leave stale GPUs out too, which are not lost yet", () => {
    const columns = { temperature: [60, 99] };
    const summary = summarise(fleetFrom(response({ timestamps: [999, 999 - STALE_S], columns })));
    expect(summary).toMatchObject({ reporting: 1, lost: 0, hottest: 60 });
  });

  test("know no cap unless every GPU with a power has one", () => {
    const columns = { power_draw: [300, 200], power_limit: [700, null] };
    expect(summarise(fleetFrom(response({ columns }))).powerLimit).toBeNaN();
    const both = { power_draw: [300, 200], power_limit: [700, 400] };
    expect(summarise(fleetFrom(response({ columns: both })))).toMatchObject({ power: 500, powerLimit: 1100 });
  });

  test("memory is used and free together where no total is told", () => {
    const fleet = fleetFrom(response({ columns: { memory_used: [10, 20], memory_free: [70, 60] } }));
    expect(memoryTotal(fleet, 0)).toBe(80);
    expect(summarise(fleet)).toMatchObject({ memoryUsed: 30, memoryTotal: 160 });
  });

  test("are remembered at a distance, and forgotten when the clock goes back", () => {
    const at = (time: number) => fleetFrom(response({ time, timestamps: [time, time] }));
    let history = remember([], at(100));
    history = remember(history, at(100.5));
    expect(history).toHaveLength(1);
    history = remember(history, at(103));
    expect(history).toHaveLength(2);
    expect(remember(history, at(50))).toHaveLength(1);
  });
});
