import { describe, expect, test } from "vitest";
import { DEFAULT_VIEW, readView, writeView } from "./fleet/view";
import { readRange, spanOf, writeRange } from "./gpu/range";
import { gpuPath, pageOf, withQuery } from "./router";

describe("paths", () => {
  test("a GPU's identity may hold slashes and anything else", () => {
    for (const gpu of ["GPU-5fd4", "node-1/0", "rack 3/node%1/7", "µ?#&"]) {
      const { pathname } = new URL(gpuPath(gpu), "http://gateway");
      expect(pageOf(pathname)).toEqual({ name: "gpu", gpu });
    }
  });

  test("what no page has is missing", () => {
    expect(pageOf("/nowhere")).toEqual({ name: "missing" });
    expect(pageOf("/")).toEqual({ name: "fleet" });
    expect(pageOf("/services")).toEqual({ name: "health" });
  });
});

test("an empty parameter leaves the address", () => {
  expect(withQuery("?a=1&b=2", { a: "", c: "3" })).toBe("?b=2&c=3");
  expect(withQuery("?a=1", { a: "" })).toBe("");
});

describe("the fleet's view in the address", () => {
  test("comes back as it went", () => {
    const view = {
      metric: "power_draw",
      group: "model",
      sort: "temperature",
      descending: true,
      filter: "host:a b>2",
    } as const;
    expect(readView(writeView("", view))).toEqual(view);
  });

  test("says nothing when all is as by default, and keeps what others put there", () => {
    expect(writeView("", DEFAULT_VIEW)).toBe("");
    expect(writeView("?range=1h&sort=name", { sort: "status" })).toBe("?range=1h");
  });

  test("is by default where the address makes no sense", () => {
    expect(readView("?group=colour&sort=")).toEqual(DEFAULT_VIEW);
  });
});

describe("the time range", () => {
  test("comes back as it went", () => {
    const zoom = { from: 1_752_871_000.5, to: 1_752_871_200 };
    expect(readRange(writeRange("", { range: "6h", zoom }))).toEqual({ range: "6h", zoom });
    expect(readRange("?range=never&from=9&to=3")).toEqual({ range: "15m", zoom: null });
  });

  test("ends at the newest sample, however old, and does not begin before the first", () => {
    expect(spanOf({ range: "15m", zoom: null }, 0, 100_000)).toEqual({ from: 99_100, to: 100_000 });
    expect(spanOf({ range: "24h", zoom: null }, 99_000, 100_000)).toEqual({ from: 99_000, to: 100_000 });
    expect(spanOf({ range: "all", zoom: null }, 4_000, 100_000)).toEqual({ from: 4_000, to: 100_000 });
  });

  test("is wide enough for a single sample", () => {
    expect(spanOf({ range: "all", zoom: null }, 500, 500)).toEqual({ from: 490, to: 500 });
    expect(spanOf({ range: "5m", zoom: null }, Number.NaN, 500)).toEqual({ from: 200, to: 500 });
  });
});
