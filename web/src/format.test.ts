import { describe, expect, test } from "vitest";
import { ago, exact, quantity, say, seconds, span, ticks, time } from "./format";

describe("values are said as people say them", () => {
  test.each([
    [72.4, "°C", "72 °C"],
    [1240, "W", "1.24 kW"],
    [612.7, "W", "613 W"],
    [0, "%", "0 %"],
    [0.62, "%", "0.6 %"],
    [87.3, "%", "87 %"],
    [39_117, "MiB", "38.2 GiB"],
    [512, "MiB", "512 MiB"],
    [1980, "MHz", "1,980 MHz"],
    [0.0134, "s", "13.4 ms"],
    [0.00008, "s", "80 µs"],
    [0, "s", "0 s"],
    [12_300, "/s", "12.3 k/s"],
    [2_520_000, "", "2.52 M"],
    [7, "", "7"],
    [1536, "B", "1.50 KiB"],
  ])("%d in %s is %s", (value, unit, said) => {
    expect(say(value, unit)).toBe(said);
  });

  test("a value that is not there is a dash, without a unit", () => {
    expect(say(null, "W")).toBe("–");
    expect(say(Number.NaN, "%")).toBe("–");
    expect(quantity(undefined, "°C")).toEqual({ text: "–", unit: "" });
  });

  test("the exact value is kept for hovering", () => {
    expect(exact(612.734, "W")).toBe("612.734 W");
    expect(exact(Number.NaN, "W")).toBe("no value");
  });
});

test("the ticks of one axis share a prefix", () => {
  expect(ticks([0, 500, 1000, 1500], "W")).toEqual(["0", "0.5", "1", "1.5"]);
  expect(ticks([0, 16_384, 32_768], "MiB")).toEqual(["0", "16", "32"]);
});

describe("times", () => {
  test("ages are whole and in the largest fitting unit", () => {
    expect(ago(0.4)).toBe("just now");
    expect(ago(3.9)).toBe("3 s ago");
    expect(span(119)).toBe("119 s");
    expect(span(720)).toBe("12 min");
    expect(span(18_000)).toBe("5 h");
    expect(span(86_400 * 142)).toBe("142 d");
    expect(ago(Number.NaN)).toBe("never");
  });

  test("instants can be shown in UTC", () => {
    const instant = seconds("2025-07-18T20:42:34Z");
    expect(time.full.utc(instant)).toBe("18 Jul 2025, 20:42:34");
    expect(time.clock.utc(instant)).toBe("20:42:34");
    expect(time.full.utc(seconds(null))).toBe("never");
  });
});
