/** Dead letters: what groups have given up, why, and what becomes of it. */

import { useEffect, useState } from "react";
import type { TopicStats } from "../api";
import { plural } from "../format";
import { navigate } from "../router";
import { Dialog, DialogButtons, DialogError } from "../ui/dialog";
import { ONCE, usePoll } from "../ui/hooks";
import { ErrorNote, RoleNote, Skeleton } from "../ui/states";
import { type Letters, type Message, PAGE_SIZE, queueApi } from "./api";
import { BrowseControls, Pages, useTopic } from "./browse";
import { MessageRow } from "./message";
import { Tasks, useTasks } from "./tasks";
import { byPartition, fromBefore, fromNext, placeOf, type View, writeView } from "./view";

const NOBODY: ReadonlySet<string> = new Set();

/** What is asked about before it is done. */
interface Asked {
  kind: "replay" | "discard";
  places: ReadonlySet<string> | "all";
}

interface DeadLettersProps {
  topics: readonly TopicStats[];
  /** Those of them that hold dead letters. */
  dead: readonly TopicStats[];
  view: View;
  search: string;
}

export function DeadLetters({ topics, dead, view, search }: DeadLettersProps) {
  useTopic(
    view,
    search,
    dead.map(({ topic }) => topic),
  );
  const { topic, partition, from } = view;
  const { data, error, retry } = usePoll(
    async (signal) => (topic ? queueApi.letters({ topic, partition, from }, signal) : null),
    ONCE,
    false,
    `${topic} ${partition} ${from}`,
  );
  const { tasks, reload: reloadTasks } = useTasks(retry);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(NOBODY);
  const [asked, setAsked] = useState<Asked | null>(null);
  // What is gone from the page is chosen no more.
  // biome-ignore lint/correctness/useExhaustiveDependencies: with what is shown
  useEffect(() => setChosen(NOBODY), [data]);

  if (dead.length === 0 && !topic) {
    return (
      <div data-testid="queue-letters">
        <p className="px-4 py-12 text-center text-muted sm:px-6">
          There are no dead letters. A message comes here when a group has given it up: it was delivered again and
          again, and never acked.
        </p>
        <Tasks tasks={tasks} reload={reloadTasks} />
      </div>
    );
  }
  const messages = data?.messages ?? [];
  const total = data?.total ?? 0;
  const kept = topics.find((each) => each.topic === data?.topic)?.partitions ?? [];
  const choose = (place: string): void => {
    const next = new Set(chosen);
    if (!next.delete(place)) next.add(place);
    setChosen(next);
  };
  const all = messages.length > 0 && messages.every((message) => chosen.has(placeOf(message)));
  const places = chosen.size > 0 ? chosen : ("all" as const);
  const count = chosen.size > 0 ? chosen.size : total;
  const started = (): void => {
    setAsked(null);
    reloadTasks();
    retry();
  };
  return (
    <section aria-label="Dead letters" data-testid="queue-letters">
      <BrowseControls view={view} search={search} topics={dead} reload={retry} />
      {error && <ErrorNote error={error} retry={retry} keeping={data !== null} />}
      <Tasks tasks={tasks} reload={reloadTasks} />
      {data && messages.length > 0 && (
        <div className="flex flex-wrap items-center gap-3 border-b border-line px-4 pb-3 sm:px-6">
          <label className="flex items-center gap-3">
            <input
              type="checkbox"
              className="size-4"
              checked={all}
              onChange={() => setChosen(all ? NOBODY : new Set(messages.map(placeOf)))}
            />
            <span className="text-muted">
              {chosen.size > 0 ? `${chosen.size} chosen` : plural(total, "dead letter")}
            </span>
          </label>
          <span className="ml-auto flex flex-wrap gap-2">
            <button type="button" className="button" onClick={() => setAsked({ kind: "replay", places })}>
              {chosen.size > 0 ? `Replay ${count}…` : "Replay all…"}
            </button>
            <button
              type="button"
              className="button button-danger"
              onClick={() => setAsked({ kind: "discard", places })}
            >
              {chosen.size > 0 ? `Discard ${count}…` : "Discard all…"}
            </button>
          </span>
        </div>
      )}
      {data ? (
        <>
          {messages.length === 0 && (
            <p className="px-4 py-12 text-center text-muted sm:px-6">
              {total > 0 ? "There are none from here on." : "There are no dead letters here any more."}
            </p>
          )}
          <ul>
            {messages.map((message) => (
              <Letter
                key={placeOf(message)}
                message={message}
                chosen={chosen.has(placeOf(message))}
                choose={choose}
                view={view}
                search={search}
              />
            ))}
          </ul>
          {(messages.length < total || from !== "earliest") && (
            <Pages
              before={fromBefore(messages, data.next, kept, PAGE_SIZE)}
              next={messages.length > 0 ? fromNext(data.next) : ""}
              search={search}
            />
          )}
        </>
      ) : (
        !error && <Skeleton className="mx-4 h-64 sm:mx-6" />
      )}
      {asked && (
        <Confirm
          topic={data?.topic ?? topic}
          asked={asked}
          count={count}
          close={() => setAsked(null)}
          started={started}
        />
      )}
    </section>
  );
}

interface LetterProps {
  message: Message;
  chosen: boolean;
  choose: (place: string) => void;
  view: View;
  search: string;
}

function Letter({ message, chosen, choose, view, search }: LetterProps) {
  const place = placeOf(message);
  const open = place === view.message;
  return (
    <MessageRow
      message={message}
      open={open}
      toggle={() => navigate(`/queue${writeView(search, { message: open ? "" : place })}`, { replace: true })}
      choice={
        <input
          type="checkbox"
          aria-label={`Choose ${place}`}
          className="mt-0.5 size-4"
          checked={chosen}
          onChange={() => choose(place)}
        />
      }
    />
  );
}

interface ConfirmProps {
  topic: string;
  asked: Asked;
  count: number;
  close: () => void;
  started: () => void;
}

function Confirm({ topic, asked, count, close, started }: ConfirmProps) {
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const replay = asked.kind === "replay";
  const run = async (): Promise<void> => {
    setBusy(true);
    setError(null);
    const parts: Letters[] =
      asked.places === "all"
        ? [{ all: true }]
        : [...byPartition(asked.places)].map(([partition, offsets]) => ({ partition, offsets }));
    try {
      for (const letters of parts) await (replay ? queueApi.replay(topic, letters) : queueApi.discard(topic, letters));
      started();
    } catch (problem) {
      setError(problem as Error);
      setBusy(false);
    }
  };
  const what = plural(count, "dead letter");
  return (
    <Dialog title={replay ? `Replay ${what}?` : `Discard ${what}?`} close={close}>
      <div data-testid="letters-confirm">
        <p>
          {replay
            ? "They are published again to the topics they came from, at most 100 a second, and leave this one. Replay once what made them fail has been mended; else they come back."
            : "They are thrown away for good. Nothing brings them back."}
        </p>
        <p className="mt-2 text-muted">
          {asked.places === "all" ? "All that are in" : "Those chosen of"} <span className="text-text">{topic}</span>.
        </p>
        <div className="mt-3">
          <RoleNote
            needs={replay ? "operate" : "admin"}
            what={replay ? "Replaying dead letters" : "Discarding dead letters"}
          />
        </div>
        <DialogError error={error} />
        <DialogButtons>
          <button type="button" className="button" onClick={close}>
            Cancel
          </button>
          <button
            type="button"
            className={replay ? "button button-main" : "button button-danger"}
            disabled={busy}
            onClick={() => void run()}
          >
            {replay ? "Replay" : "Discard"}
          </button>
        </DialogButtons>
      </div>
    </Dialog>
  );
}
