import { expect, test } from "vitest";
import { matchersFor, matches, problemOf } from "./matching";
import { alert } from "./samples";

const labels = { alertname: "GpuLost", Hostname: "node-12", severity: "critical" };

test.each([
  ["=", "node-12", true],
  ["=", "node-1", false],
  ["!=", "node-1", true],
  ["=~", "node-1.", true],
  ["=~", "node-1", false],
  ["=~", "a|node-12", true],
  ["!~", "node-.*", false],
  ["=~", "(", false],
] as const)("Hostname%s%s is %s", (op, value, expected) => {
  expect(matches([{ name: "Hostname", op, value }], labels)).toBe(expected);
});

test("all must match, and a label that is not there is empty", () => {
  const lacking = { name: "pod", op: "=", value: "" } as const;
  expect(matches([lacking], labels)).toBe(true);
  expect(matches([lacking, { name: "alertname", op: "=", value: "Other" }], labels)).toBe(false);
});

test("a silence of an alert begins with its rule and what it is about", () => {
  expect(matchersFor(alert())).toEqual([
    { name: "alertname", value: "GpuOverheating", op: "=" },
    { name: "UUID", value: "GPU-1", op: "=" },
  ]);
  expect(matchersFor(alert({ gpu: "", labels: { Hostname: "h2" } })).map(({ name }) => name)).toEqual([
    "alertname",
    "Hostname",
  ]);
  expect(matchersFor(alert({ labels: { team: "a", severity: "info" } })).map(({ name }) => name)).toEqual([
    "alertname",
    "team",
  ]);
});

test("what cannot be used is said", () => {
  expect(problemOf({ name: "a-b", op: "=", value: "" })).not.toBe("");
  expect(problemOf({ name: "a", op: "=~", value: "(" })).toContain("(");
  expect(problemOf({ name: "a", op: "=", value: "(" })).toBe("");
});
