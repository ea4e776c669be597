import { describe, expect, test } from "vitest";
import { type AlertMap, count, firingOver, inOrder, loudest, mergeAlerts, RESOLVED_S, since } from "./alerts";
import { alert, iso } from "./samples";

const NOW = 1000;
const map = (...alerts: ReturnType<typeof alert>[]): AlertMap => mergeAlerts(new Map(), alerts, NOW);

describe("news", () => {
  test("replace what was known of an alert, and leave the list they came to as it was", () => {
    const before = map(alert());
    const after = mergeAlerts(before, [alert({ state: "resolved", resolved_at: iso(NOW) })], NOW);
    expect(after.get("a1")?.state).toBe("resolved");
    expect(before.get("a1")?.state).toBe("firing");
  });

  test("of an alert that was pending and is no more take it away", () => {
    const pending = alert({ state: "pending", firing_since: null });
    const over = alert({ state: "resolved", firing_since: null, resolved_at: iso(NOW) });
    expect(mergeAlerts(map(pending), [over], NOW).size).toBe(0);
  });

  test("make room: what was resolved long ago goes", () => {
    const resolved = alert({ state: "resolved", resolved_at: iso(NOW) });
    expect(mergeAlerts(map(resolved), [], NOW + RESOLVED_S - 1).size).toBe(1);
    expect(mergeAlerts(map(resolved), [], NOW + RESOLVED_S + 1).size).toBe(0);
  });
});

test("what needs somebody comes first: not silenced, worst, newest", () => {
  const alerts = [
    alert({ id: "old", firing_since: iso(100) }),
    alert({ id: "info", severity: "info" }),
    alert({ id: "silenced", silenced_by: ["s"] }),
    alert({ id: "odd", severity: "page" }),
    alert({ id: "new", firing_since: iso(200) }),
    alert({ id: "warning", severity: "warning" }),
  ];
  expect(inOrder(alerts).map(({ id }) => id)).toEqual(["new", "old", "warning", "info", "odd", "silenced"]);
});

test("an alert is counted by its state, and by its severity only while it is loud", () => {
  const alerts = [
    alert(),
    alert({ severity: "warning" }),
    alert({ severity: "warning", silenced_by: ["s"] }),
    alert({ state: "pending" }),
    alert({ state: "resolved" }),
  ];
  expect(count(alerts)).toEqual({ firing: 3, pending: 1, resolved: 1, silenced: 1, critical: 1, warning: 1 });
});

test("a GPU has its worst loud alert; one about a whole host goes to the host", () => {
  const loud = loudest([
    alert({ id: "w", severity: "warning" }),
    alert({ id: "c" }),
    alert({ id: "quiet", gpu: "GPU-2", silenced_by: ["s"] }),
    alert({ id: "pending", gpu: "GPU-3", state: "pending" }),
    alert({ id: "host", gpu: "", host: "h2" }),
    alert({ id: "nowhere", gpu: "", host: "" }),
  ]);
  expect([...loud.gpus].map(([gpu, { id }]) => [gpu, id])).toEqual([["GPU-1", "c"]]);
  expect([...loud.hosts].map(([host, { id }]) => [host, id])).toEqual([["h2", "host"]]);
});

test("how long is counted from when it came into its state", () => {
  expect(since(alert())).toBe(960);
  expect(since(alert({ state: "pending", firing_since: null }))).toBe(900);
  expect(since(alert({ state: "resolved", resolved_at: iso(990) }))).toBe(990);
});

test("the recent past tells how many fired, also those that have been resolved", () => {
  const alerts = [
    alert({ firing_since: iso(-1000) }),
    alert({ firing_since: iso(250), state: "resolved", resolved_at: iso(750) }),
    alert({ state: "pending", firing_since: null }),
  ];
  expect(firingOver(alerts, 1000, 4, 1000)).toEqual([2, 2, 1, 1]);
});
