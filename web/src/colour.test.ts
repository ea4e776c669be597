import { describe, expect, test } from "vitest";
import { inkOn, luminance, roundUp, scaleFor } from "./colour";

describe("the sequential scale", () => {
  const scale = scaleFor("utilization", { min: 0, max: 100 });

  test("runs from viridis's first colour to its last", () => {
    expect(scale(0)).toEqual([0x44, 0x01, 0x54]);
    expect(scale(100)).toEqual([0xfd, 0xe7, 0x25]);
  });

  test("gets lighter with every step, so that it survives print", () => {
    const lights = Array.from({ length: 21 }, (_, step) => luminance(scale(step * 5)));
    expect(lights).toEqual([...lights].sort((a, b) => a - b));
  });

  test("holds at its ends", () => {
    expect(scale(-5)).toEqual(scale(0));
    expect(scale(250)).toEqual(scale(100));
  });
});

describe("the temperature scale", () => {
  const scale = scaleFor("temperature", { min: 20, max: 92, threshold: 87 });

  test("is blue when cool and red when hot", () => {
    const [coolRed, , coolBlue] = scale(25);
    const [hotRed, , hotBlue] = scale(85);
    expect(coolBlue).toBeGreaterThan(coolRed);
    expect(hotRed).toBeGreaterThan(hotBlue);
  });

  test("breaks at the slowdown point", () => {
    expect(scale(87)).toEqual(scale(120));
    expect(scale(87)).not.toEqual(scale(86.999));
  });
});

test("text on any colour of the scales has a contrast of 4.5 to 1", () => {
  for (const metric of ["utilization", "temperature"]) {
    const scale = scaleFor(metric, { min: 0, max: 100, threshold: 95 });
    for (let value = 0; value <= 100; value++) {
      const light = luminance(scale(value));
      const contrast = inkOn(scale(value)) === "#000" ? (light + 0.05) / 0.05 : 1.05 / (light + 0.05);
      expect(contrast).toBeGreaterThanOrEqual(4.5);
    }
  }
});

test("a domain without a known bound ends at a round number", () => {
  expect(roundUp(1980)).toBe(2000);
  expect(roundUp(2619)).toBe(5000);
  expect(roundUp(0.23)).toBe(0.25);
  expect(roundUp(0)).toBe(1);
  expect(roundUp(-Infinity)).toBe(1);
});
