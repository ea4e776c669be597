/** Controls and paging that messages and dead letters share. */

import { type FormEvent, useEffect, useState } from "react";
import type { TopicStats } from "../api";
import { navigate } from "../router";
import { Icon } from "../ui/icons";
import { problemOfFrom, type View, writeView } from "./view";

const go = (search: string, change: Partial<View>, replace = true): void =>
  navigate(`/queue${writeView(search, change)}`, { replace });

interface BrowseControlsProps {
  view: View;
  search: string;
  topics: readonly TopicStats[];
  reload: () => void;
}

export function BrowseControls({ view, search, topics, reload }: BrowseControlsProps) {
  const topic = topics.find((each) => each.topic === view.topic);
  const standing = ["latest", "earliest"].includes(view.from);
  return (
    <div className="flex flex-wrap items-end gap-3 px-4 py-3 sm:px-6">
      <label className="flex flex-col gap-1">
        <span className="text-small text-muted">Topic</span>
        <select
          className="field max-w-64"
          value={view.topic}
          onChange={(event) => go(search, { topic: event.target.value })}
        >
          {topics.map(({ topic: name }) => (
            <option key={name}>{name}</option>
          ))}
          {!topic && <option>{view.topic}</option>}
        </select>
      </label>
      <label className="flex flex-col gap-1">
        <span className="text-small text-muted">Partition</span>
        <select
          className="field"
          value={view.partition}
          onChange={(event) => go(search, { partition: event.target.value, message: "", from: "" })}
        >
          <option value="">All</option>
          {topic?.partitions.map(({ partition }) => (
            <option key={partition}>{partition}</option>
          ))}
        </select>
      </label>
      <fieldset className="flex gap-1" aria-label="Where to begin">
        {[
          ["latest", "Newest"],
          ["earliest", "Oldest"],
        ].map(([from = "", title]) => (
          <button
            key={from}
            type="button"
            aria-pressed={view.from === from}
            className="h-8 rounded-md px-2.5 text-muted hover:text-text aria-pressed:bg-raised aria-pressed:font-semibold aria-pressed:text-text"
            onClick={() => go(search, { from, message: "" })}
          >
            {title}
          </button>
        ))}
      </fieldset>
      <From key={view.from} from={standing || view.from.includes(":") ? "" : view.from} search={search} />
      <button type="button" className="button ml-auto" onClick={reload}>
        Read again
      </button>
    </div>
  );
}

/** An offset or a time to begin at. */
function From({ from, search }: { from: string; search: string }) {
  const [text, setText] = useState(from);
  const [problem, setProblem] = useState("");
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    const wanted = text.trim();
    if (!wanted) return;
    const found = problemOfFrom(wanted);
    setProblem(found);
    if (found) return;
    const from = /^\d+$/.test(wanted) ? wanted : new Date(wanted).toISOString();
    go(search, { from, message: "" }, false);
  };
  return (
    <form onSubmit={submit} className="flex flex-wrap items-end gap-2">
      <label className="flex flex-col gap-1">
        <span className="text-small text-muted">From an offset or time</span>
        <input
          className="field w-56"
          placeholder="120 or 2026-01-31T12:00Z"
          spellCheck={false}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </label>
      <button type="submit" className="button">
        Go
      </button>
      {problem && <p className="w-full text-warning">{problem}</p>}
    </form>
  );
}

/** To what was stored before and after. */
export function Pages({ before, next, search }: { before: string; next: string; search: string }) {
  const to = (from: string) => () => go(search, { from, message: "" }, false);
  return (
    <p className="flex gap-2 px-4 py-3 sm:px-6">
      <button type="button" className="button" disabled={!before} onClick={to(before)}>
        <Icon name="previous" size={14} /> Older
      </button>
      <button type="button" className="button" disabled={!next} onClick={to(next)}>
        Newer <Icon name="next" size={14} />
      </button>
    </p>
  );
}

/** Sees to it that a topic is named: the first that suits, in place. */
export function useTopic(view: View, search: string, names: readonly string[]): void {
  const first = names[0];
  useEffect(() => {
    if (!view.topic && first) go(search, { topic: first });
  }, [view.topic, search, first]);
}
