import { describe, expect, test } from "vitest";
import { fleetFrom } from "./fleet";
import { groupRows, naturalRanks, parseFilter, selectRows } from "./select";
import { assessAll } from "./status";

const fleet = fleetFrom({
  time: 1000,
  gpus: ["GPU-d", "GPU-c", "GPU-b", "GPU-a", "GPU-e"],
  hosts: ["node-10", "node-2", "node-2", "node-10", "node-1"],
  indexes: ["0", "1", "0", "1", "0"],
  models: ["H100", "H100", "A100", "H100", ""],
  timestamps: [999, 999, 999, 500, 999],
  columns: { temperature: [60, 88, null, 40, 70], utilization: [10, 20, 30, 40, 50] },
  completeness: { partial: false, warnings: [] },
});
const statuses = assessAll(fleet);
const ranks = naturalRanks(fleet);
const names = (rows: readonly number[]): string[] => rows.map((row) => fleet.gpus[row] as string);
const select = (filter: string, sort = "name", descending = false): string[] =>
  names(selectRows(fleet, statuses, ranks, { sort, descending }, parseFilter(filter, fleet.columns.keys())));

describe("order", () => {
  test("by name is natural: node-2 comes before node-10", () => {
    expect(select("")).toEqual(["GPU-e", "GPU-b", "GPU-c", "GPU-d", "GPU-a"]);
  });

  test("what is wrong comes first, the rest by name", () => {
    expect(select("", "status")).toEqual(["GPU-a", "GPU-c", "GPU-e", "GPU-b", "GPU-d"]);
  });

  test("GPUs without a value come last in either direction", () => {
    expect(select("", "temperature", true)).toEqual(["GPU-c", "GPU-e", "GPU-d", "GPU-a", "GPU-b"]);
    expect(select("", "temperature", false).at(-1)).toBe("GPU-b");
  });
});

describe("the filter", () => {
  test.each([
    ["node-2", ["GPU-b", "GPU-c"]],
    ["host:node-1 gpu-e", ["GPU-e"]],
    ["model:a100", ["GPU-b"]],
    ["status:lost", ["GPU-a"]],
    ["status:warning", ["GPU-c"]],
    ["temperature>=60 utilization<50", ["GPU-c", "GPU-d"]],
    ["nothing-like-it", []],
  ])("%s", (filter, expected) => {
    expect(select(filter)).toEqual(expected);
  });

  test("says what it does not understand", () => {
    expect(parseFilter("temprature>80", ["temperature"]).problem).toContain("temprature");
    expect(parseFilter("status:fine", []).problem).toContain("warning");
    expect(parseFilter("temperature>80", ["temperature"]).problem).toBe("");
  });
});

test("groups stand in natural order, and their GPUs by index", () => {
  const rows = fleet.gpus.map((_, row) => row);
  const byHost = groupRows(fleet, rows, ranks, "host", "status").map(({ label, rows }) => [label, names(rows)]);
  expect(byHost).toEqual([
    ["node-1", ["GPU-e"]],
    ["node-2", ["GPU-b", "GPU-c"]],
    ["node-10", ["GPU-d", "GPU-a"]],
  ]);
  expect(groupRows(fleet, rows, ranks, "none", "status")).toHaveLength(1);
  expect(groupRows(fleet, rows, ranks, "model", "name").map((group) => group.label)).toContain("unknown model");
});
