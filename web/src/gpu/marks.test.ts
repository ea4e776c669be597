import { expect, test } from "vitest";
import { alert, event, iso } from "../alerts/samples";
import { joined, marksOf } from "./marks";

const SPAN = { from: 400, to: 1000 };
const times = (marks: ReturnType<typeof marksOf>) => marks.map(({ from, to }) => [from, to]);

test("an alert that fires is marked from when it began, without an end", () => {
  expect(times(marksOf([alert()], [], SPAN))).toEqual([[960, Infinity]]);
  expect(marksOf([alert({ state: "pending", firing_since: null })], [], SPAN)).toEqual([]);
});

test("each time that it fired is marked, from the history, and the present one once", () => {
  const events = [
    event({ id: "3", at: iso(960) }),
    event({ id: "2", state: "resolved", at: iso(700) }),
    event({ id: "1", at: iso(500) }),
  ];
  expect(times(marksOf([alert()], events, SPAN))).toEqual([
    [960, Infinity],
    [500, 700],
  ]);
});

test("one that began before the history is marked up to its end", () => {
  expect(times(marksOf([], [event({ state: "resolved", at: iso(600) })], SPAN))).toEqual([[-Infinity, 600]]);
});

test("what lies outside of the span is left out", () => {
  const events = [event({ id: "2", state: "resolved", at: iso(300) }), event({ id: "1", at: iso(200) })];
  expect(marksOf([], events, SPAN)).toEqual([]);
});

test("an alert that comes and goes is one mark where the times are near, and two rules stay two", () => {
  const events = [
    event({ id: "4", at: iso(720) }),
    event({ id: "3", state: "resolved", at: iso(710) }),
    event({ id: "2", at: iso(500) }),
    event({ id: "1", rule: "Other", alert_id: "b", at: iso(500) }),
  ];
  expect(times(joined(marksOf([], events, SPAN), 20)).sort()).toEqual([
    [500, Infinity],
    [500, Infinity],
  ]);
  expect(joined(marksOf([], events, SPAN), 5)).toHaveLength(3);
});
