import { expect, test } from "vitest";
import { alert } from "./samples";
import { alertsPath, readView, select, tally, writeView } from "./view";

test("the address holds the view, and leaves out what is as by default", () => {
  expect(writeView("", {})).toBe("");
  const search = writeView("", {
    tab: "history",
    severity: "critical",
    rule: "R",
    gpu: "g",
    filter: "a b",
    span: "7d",
  });
  expect(readView(search)).toEqual({
    tab: "history",
    severity: "critical",
    rule: "R",
    gpu: "g",
    filter: "a b",
    alert: "",
    ruleId: "",
    span: "7d",
  });
  expect(writeView(search, { tab: "firing", severity: "", rule: "", gpu: "", filter: "", span: "24h" })).toBe("");
  expect(alertsPath({ alert: "x" })).toBe("/alerts?alert=x");
});

test("an address that nobody wrote shows what fires", () => {
  expect(readView("?tab=nonsense&span=9y")).toMatchObject({ tab: "firing", span: "24h" });
});

test("all filters must let an alert through", () => {
  const alerts = [
    alert({ id: "1" }),
    alert({ id: "2", severity: "warning" }),
    alert({ id: "3", rule: "GpuLost", gpu: "GPU-2", labels: { pod: "train-7" } }),
    alert({ id: "4", state: "pending" }),
  ];
  const shown = (search: string) => select(alerts, "firing", readView(search)).map(({ id }) => id);
  expect(shown("")).toEqual(["3", "1", "2"]);
  expect(shown("?severity=warning")).toEqual(["2"]);
  expect(shown("?rule=GpuLost")).toEqual(["3"]);
  expect(shown("?gpu=GPU-2")).toEqual(["3"]);
  expect(shown("?filter=TRAIN+lost")).toEqual(["3"]);
  expect(shown("?filter=train&severity=warning")).toEqual([]);
});

test("rules are counted, the most frequent first", () => {
  expect(tally(["b", "a", "b", "c"])).toEqual([
    ["b", 2],
    ["a", 1],
    ["c", 1],
  ]);
});
