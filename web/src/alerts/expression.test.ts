import { describe, expect, test } from "vitest";
import type { Metric } from "../api";
import { readExpression } from "./expression";

const metric = (name: string, dcgm: string, unit = ""): [string, Metric] => [
  name,
  { name, dcgm, unit, description: "" },
];
const catalogue = new Map([
  metric("temperature", "DCGM_FI_DEV_GPU_TEMP", "°C"),
  metric("slowdown_temperature", "DCGM_FI_DEV_SLOWDOWN_TEMP", "°C"),
  metric("xid_error", "DCGM_FI_DEV_XID_ERRORS"),
  metric("utilization", "DCGM_FI_DEV_GPU_UTIL", "%"),
  metric("memory_used", "DCGM_FI_DEV_FB_USED", "MiB"),
  metric("memory_free", "DCGM_FI_DEV_FB_FREE", "MiB"),
  metric("throttle_reasons", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"),
  metric("tensor_active", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "%"),
]);
const read = (expression: string) => readExpression(expression, catalogue);

describe("a limit is read off where a value stands against it", () => {
  test.each([
    ["DCGM_FI_DEV_GPU_TEMP > 90", "temperature", ">", 90],
    ['DCGM_FI_DEV_GPU_TEMP{Hostname="h"} > 1', null, null, null],
    ["max_over_time(DCGM_FI_DEV_GPU_UTIL[2m]) < 1 and DCGM_FI_DEV_FB_USED > 1024", "utilization", "<", 1],
    [
      "DCGM_FI_DEV_GPU_TEMP >= DCGM_FI_DEV_SLOWDOWN_TEMP or (DCGM_FI_DEV_GPU_TEMP > 90)",
      "temperature",
      ">=",
      "slowdown_temperature",
    ],
    ["gpu_my_metric <= -2.5e3", "my_metric", "<=", -2500],
    ["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE < 0.2", "tensor_active", "<", 20],
  ])("%s", (expression, metric, operator, value) => {
    expect(read(expression).limit).toEqual(metric === null ? null : { metric, operator, value });
  });

  test.each([
    "DCGM_FI_DEV_XID_ERRORS == 48",
    "floor(DCGM_FI_DEV_CLOCK_THROTTLE_REASONS / 128) % 2 > 0",
    "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE) > 0.98",
    "100 * DCGM_FI_DEV_FB_USED > 5",
    "DCGM_FI_DEV_GPU_TEMP > 2 * 45",
    "rate(DCGM_FI_DEV_GPU_TEMP[5m]) > 5",
    "gpu:utilization:avg5m < 50",
    "up == 0",
  ])("and not from %s", (expression) => expect(read(expression).limit).toBeNull());
});

test("the metrics are named as the gateway names them, once each, in their order", () => {
  expect(read("DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE) > 0.98").metrics).toEqual([
    "memory_used",
    "memory_free",
  ]);
  expect(read("gpu:heat_per_watt:avg5m > 6 and DCGM_FI_DEV_NOBODY_KNOWS > 1").metrics).toEqual([]);
});
