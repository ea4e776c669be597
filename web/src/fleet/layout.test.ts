import { describe, expect, test } from "vitest";
import { visibleRows } from "../ui/virtual";
import { hit, layOut, squareAt } from "./layout";

const hosts = (count: number): number[] => Array.from({ length: count }, () => 8);

describe("the heatmap's layout", () => {
  test.each([
    ["one host", [8], 1200, 400],
    ["a small fleet", hosts(4), 1200, 400],
    ["31 hosts", [...hosts(30), 7], 1300, 414],
    ["31 hosts on a phone", [...hosts(30), 7], 358, 390],
    ["10,000 GPUs", hosts(1250), 1340, 414],
    ["two models of a thousand", [800, 200], 1340, 414],
  ])("fits %s into its box", (_name, sizes, width, height) => {
    const layout = layOut(sizes, width, height);
    expect(layout.width).toBeLessThanOrEqual(width);
    expect(layout.height).toBeLessThanOrEqual(height);
    expect(layout.blocks.map((block) => block.count)).toEqual(sizes);
  });

  test("makes squares larger when there are fewer", () => {
    const sides = [4, 31, 125, 1250].map((count) => layOut(hosts(count), 1300, 414).side);
    expect(sides).toEqual([...sides].sort((a, b) => b - a));
    expect(sides[0]).toBeGreaterThan(2 * (sides[2] as number));
  });

  test("names hosts where there is room, and not where there is none", () => {
    expect(layOut(hosts(31), 1300, 414).labels).toBe(true);
    expect(layOut(hosts(1250), 1300, 414).labels).toBe(false);
  });

  test("grows taller rather than losing GPUs when nothing fits", () => {
    const layout = layOut(hosts(1250), 358, 390);
    expect(layout.height).toBeGreaterThan(390);
    expect(layout.width).toBeLessThanOrEqual(358);
  });

  test("no two squares overlap, and each is found at its middle", () => {
    const sizes = [8, 3, 16, 1, 8];
    const layout = layOut(sizes, 500, 300);
    const seen = new Set<string>();
    for (const [block, count] of sizes.entries()) {
      for (let place = 0; place < count; place++) {
        const { x, y } = squareAt(layout, block, place);
        seen.add(`${x} ${y}`);
        expect(hit(layout, x + layout.side / 2, y + layout.side / 2)).toEqual({ block, place });
      }
    }
    expect(seen.size).toBe(36);
  });

  test("nothing is found between blocks or after the last square", () => {
    const layout = layOut([3, 3], 500, 300);
    expect(hit(layout, -3, 5)).toBeNull();
    expect(hit(layout, layout.width + 50, 5)).toBeNull();
    expect(hit(layout, 5, layout.height + 50)).toBeNull();
  });
});

describe("the table's window", () => {
  test("holds only the rows around the screen", () => {
    const { first, end } = visibleRows(-36_000, 900, 10_000, 36);
    expect(first).toBeGreaterThan(900);
    expect(first).toBeLessThanOrEqual(1000);
    expect(end).toBeGreaterThanOrEqual(1025);
    expect(end - first).toBeLessThan(60);
  });

  test("never leaves the list", () => {
    expect(visibleRows(2000, 900, 5, 36)).toEqual({ first: 0, end: 0 });
    expect(visibleRows(100, 900, 5, 36)).toEqual({ first: 0, end: 5 });
    expect(visibleRows(-1e6, 900, 5, 36)).toEqual({ first: 5, end: 5 });
  });
});
