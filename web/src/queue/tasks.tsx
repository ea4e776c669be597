/** Replays and discards under way, and how those of late ended. */

import { useEffect, useRef, useState } from "react";
import { plural, seconds } from "../format";
import { usePoll } from "../ui/hooks";
import { Icon } from "../ui/icons";
import { Ago } from "../ui/when";
import { queueApi, type Task } from "./api";

const RUNNING_MS = 500;
const IDLE_MS = 10_000;
const ENDED_SHOWN = 3;

/** The tasks, asked for often while one runs; `ended` is called when one has. */
export function useTasks(ended: () => void): { tasks: readonly Task[]; reload: () => void } {
  const [every, setEvery] = useState(IDLE_MS);
  const { data, retry } = usePoll(queueApi.tasks, every);
  const tasks = data?.tasks ?? [];
  const running = tasks.filter(({ state }) => state === "running").length;
  useEffect(() => setEvery(running > 0 ? RUNNING_MS : IDLE_MS), [running]);
  const over = data ? tasks.length - running : -1;
  const before = useRef(-1);
  const whenEnded = useRef(ended);
  whenEnded.current = ended;
  useEffect(() => {
    if (before.current >= 0 && over > before.current) whenEnded.current();
    if (over >= 0) before.current = over;
  }, [over]);
  return { tasks, reload: retry };
}

export function Tasks({ tasks, reload }: { tasks: readonly Task[]; reload: () => void }) {
  const running = tasks.filter(({ state }) => state === "running");
  const ended = tasks.filter(({ state }) => state !== "running").slice(0, ENDED_SHOWN);
  if (tasks.length === 0) return null;
  return (
    <ul aria-label="Replays and discards" data-testid="queue-tasks" className="border-y border-line bg-raised">
      {[...running, ...ended].map((task) => (
        <Line key={task.id} task={task} reload={reload} />
      ))}
    </ul>
  );
}

const SAID = { replay: ["Replaying", "Replayed"], discard: ["Discarding", "Discarded"] } as const;

function Line({ task, reload }: { task: Task; reload: () => void }) {
  const { kind, state, done, total, topic } = task;
  const [doing, did] = SAID[kind];
  const many = plural(done, "dead letter");
  const words = {
    running: total ? `${doing} ${done.toLocaleString("en-GB")} of ${total.toLocaleString("en-GB")}` : doing,
    done: `${did} ${many}`,
    cancelled: `Cancelled after ${many}`,
    failed: `${did} ${many}, then failed: ${task.error}`,
  };
  return (
    <li className="flex flex-wrap items-center gap-x-3 gap-y-1 px-4 py-2 sm:px-6" data-state={state}>
      <span className={state === "failed" ? "text-critical" : state === "done" ? "text-ok" : "text-muted"}>
        <Icon
          name={state === "failed" ? "critical" : state === "done" ? "ok" : state === "running" ? "waiting" : "close"}
          size={14}
        />
      </span>
      <span className="min-w-0 break-words">
        {words[state]} <span className="text-muted">of {topic}</span>
      </span>
      {state === "running" ? (
        <>
          <progress className="h-2 w-40" aria-label={doing} max={total || 1} {...(total ? { value: done } : {})} />
          <button
            type="button"
            className="button ml-auto"
            onClick={() => void queueApi.cancel(task.id).finally(reload)}
          >
            Cancel
          </button>
        </>
      ) : (
        <span className="text-muted">
          <Ago at={seconds(task.finished_at)} />
        </span>
      )}
    </li>
  );
}
