import { describe, expect, test } from "vitest";
import type { Message } from "./api";
import { flatten, gist } from "./message";
import { effectOf } from "./seek";
import { byPartition, deadLetterTopics, fromBefore, fromNext, problemOfFrom, readView, writeView } from "./view";

const message = (partition: number, offset: number): Message => ({
  partition,
  offset,
  publish_time: "2026-01-01T00:00:00Z",
  ordering_key: "",
  attributes: {},
  bytes: 3,
  content_type: "",
  kind: "binary",
  rows: [],
  rows_total: 0,
  text: null,
  base64: "AAAA",
});

describe("the address", () => {
  test("holds the view, and leaves out what is as by default", () => {
    const search = writeView("", { tab: "messages", topic: "telemetry", from: "120", message: "0:121" });
    expect(readView(search)).toEqual({
      tab: "messages",
      topic: "telemetry",
      partition: "",
      from: "120",
      message: "0:121",
    });
    expect(readView("?tab=letters").from).toBe("earliest");
    expect(readView("?tab=nonsense")).toMatchObject({ tab: "overview", from: "latest" });
  });

  test("forgets the place on another topic or tab, where it means something else", () => {
    const search = writeView("", { tab: "messages", topic: "a", from: "120", partition: "3", message: "3:120" });
    expect(readView(writeView(search, { topic: "b" }))).toMatchObject({ from: "latest", partition: "", message: "" });
    expect(readView(writeView(search, { tab: "letters" }))).toMatchObject({ from: "earliest", partition: "" });
  });
});

describe("pages", () => {
  const kept = [
    { partition: 0, start_offset: 10 },
    { partition: 1, start_offset: 0 },
  ];

  test("the next begins where the answer says", () => expect(fromNext({ 0: 120, 3: 7 })).toBe("0:120,3:7"));

  test("the one before ends where this begins, and not before what is kept", () => {
    const shown = [message(0, 20), message(0, 21), message(1, 100)];
    expect(fromBefore(shown, { 0: 22, 1: 101 }, kept, 50)).toBe("0:10,1:75");
  });

  test("a partition without a message on this page goes back from where it stands", () => {
    expect(fromBefore([message(0, 20)], { 0: 21, 1: 80 }, kept, 50)).toBe("0:10,1:55");
  });

  test("there is none before the first", () => {
    expect(fromBefore([message(0, 10)], { 0: 11, 1: 0 }, kept, 50)).toBe("");
  });

  test.each(["latest", "earliest", "120", "0:1,2:3", "2026-01-31T12:00:00Z"])("%s is a place", (from) =>
    expect(problemOfFrom(from)).toBe(""),
  );
  test("yesterday is none", () => expect(problemOfFrom("yesterday")).not.toBe(""));
});

test("chosen dead letters go by partition", () => {
  expect([...byPartition(["0:7", "1:3", "0:9"])]).toEqual([
    [0, [7, 9]],
    [1, [3]],
  ]);
});

test("a seek's effect is that of all its partitions", () => {
  const position = { topic: "t", partition: 0, acked_through: 0, end_offset: 9, acked_through_before: 5 };
  expect(
    effectOf([
      { ...position, again: 5, skipped: 0 },
      { ...position, again: 0, skipped: 4 },
    ]),
  ).toEqual({
    again: 5,
    skipped: 4,
  });
});

test("what a record holds stands in columns of its own", () => {
  const rows = [
    { gpu: "a", metrics: { temperature: 60 }, labels: { host: "h" } },
    { gpu: "b", metrics: { power: 1.5 }, labels: null },
  ];
  expect(flatten(rows)).toEqual({
    columns: ["gpu", "temperature", "host", "power", "labels"],
    cells: [
      ["a", "60", "h", "", ""],
      ["b", "", "", "1.5", ""],
    ],
  });
});

test("a message says in a few words what it carries, or what is wrong with it", () => {
  const records = { kind: "records", rows: [{ gpu: "a" }, { gpu: "b" }], rows_total: 500 } as const;
  expect(gist({ ...message(0, 0), ...records, rows: [...records.rows] })).toBe("500 records of 2 GPUs or more");
  expect(gist({ ...message(0, 0), problem: "is not an Arrow stream" })).toBe("is not an Arrow stream");
  expect(gist({ ...message(0, 0), kind: "text", text: "hello" })).toBe("hello");
});

test("dead letters lie in topics of such a name, and in those that a group has chosen", () => {
  const topics = ["jobs", "jobs.dead-letter", "graves", "dead-letters"].map((topic) => ({ topic }));
  const groups = [
    { name: "a", dead_letter_topic: "" },
    { name: "b", dead_letter_topic: "graves" },
  ];
  expect(deadLetterTopics(topics, groups).map(({ topic }) => topic)).toEqual(["jobs.dead-letter", "graves"]);
  expect(deadLetterTopics(topics, [])).toHaveLength(1);
});
