/** Moves a group: first says what would be delivered again and what skipped, and only then does it. */

import { type FormEvent, useState } from "react";
import type { GroupStats, TopicStats } from "../api";
import { plural, say } from "../format";
import { Dialog, DialogButtons, DialogError } from "../ui/dialog";
import { Field } from "../ui/field";
import { Icon } from "../ui/icons";
import { Scrollable } from "../ui/scrollable";
import { RoleNote } from "../ui/states";
import { queueApi, type Sought, type SoughtPosition } from "./api";

const PLACES = [
  ["earliest", "Oldest: all that is kept, again"],
  ["latest", "Newest: skip all that waits"],
  ["time", "A time"],
  ["offset", "An offset"],
] as const;
type Kind = (typeof PLACES)[number][0];

/** What a seek does, all partitions together. */
export function effectOf(positions: readonly SoughtPosition[]): { again: number; skipped: number } {
  return positions.reduce((sum, { again, skipped }) => ({ again: sum.again + again, skipped: sum.skipped + skipped }), {
    again: 0,
    skipped: 0,
  });
}

interface SeekDialogProps {
  group: GroupStats;
  topics: readonly TopicStats[];
  close: () => void;
}

export function SeekDialog({ group, topics, close }: SeekDialogProps) {
  const [kind, setKind] = useState<Kind>("time");
  const [at, setAt] = useState("");
  const [topic, setTopic] = useState("");
  const [force, setForce] = useState(false);
  const [tried, setTried] = useState<Sought | null>(null);
  const [done, setDone] = useState<Sought | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const members = group.members.length;
  const instant = new Date(at);
  const position =
    kind === "time"
      ? Number.isNaN(instant.getTime())
        ? ""
        : instant.toISOString()
      : kind === "offset"
        ? at.trim()
        : kind;

  /** Another question needs another trial. */
  const changed =
    <T,>(set: (value: T) => void) =>
    (value: T): void => {
      set(value);
      setTried(null);
      setError(null);
    };
  const ask = (event: FormEvent, dryRun: boolean): void => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    const question = { position, dry_run: dryRun, force: dryRun || force, ...(topic ? { topic } : {}) };
    queueApi.seek(group.group, question).then(
      (sought) => {
        setBusy(false);
        (dryRun ? setTried : setDone)(sought);
      },
      (problem) => {
        setBusy(false);
        setError(problem);
      },
    );
  };

  if (done) {
    return (
      <Dialog title={`${group.group} was moved`} close={close} wide>
        <div data-testid="seek-done">
          <Effect sought={done} />
          <DialogButtons>
            <button type="button" className="button button-main" onClick={close}>
              Close
            </button>
          </DialogButtons>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={`Move the group ${group.group}`} close={close} wide>
      <form onSubmit={(event) => ask(event, tried === null)} className="flex flex-col gap-4" data-testid="seek-form">
        <div className="grid gap-4 sm:grid-cols-2">
          <Field label="It goes on at">
            {(id) => (
              <select
                id={id}
                className="field w-full"
                value={kind}
                onChange={(event) => changed(setKind)(event.target.value as Kind)}
              >
                {PLACES.map(([name, title]) => (
                  <option key={name} value={name}>
                    {title}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Field label="Of the topic">
            {(id) => (
              <select
                id={id}
                className="field w-full"
                value={topic}
                onChange={(event) => changed(setTopic)(event.target.value)}
              >
                <option value="">All it reads</option>
                {topics.map(({ topic: name }) => (
                  <option key={name}>{name}</option>
                ))}
              </select>
            )}
          </Field>
          {kind === "time" && (
            <Field label="Time, in your zone">
              {(id) => (
                <input
                  id={id}
                  type="datetime-local"
                  step="1"
                  className="field w-full"
                  value={at}
                  onChange={(event) => changed(setAt)(event.target.value)}
                />
              )}
            </Field>
          )}
          {kind === "offset" && (
            <Field label="Offset, in each partition">
              {(id) => (
                <input
                  id={id}
                  inputMode="numeric"
                  pattern="\d+"
                  className="field w-full"
                  value={at}
                  onChange={(event) => changed(setAt)(event.target.value)}
                />
              )}
            </Field>
          )}
        </div>
        {tried && <Effect sought={tried} />}
        {tried && members > 0 && (
          <label className="flex items-start gap-2">
            <input type="checkbox" className="mt-0.5 size-4" checked={force} onChange={() => setForce(!force)} />
            <span>
              Disconnect {plural(members, "member")} that {members === 1 ? "is" : "are"} reading now. They come back by
              themselves.
            </span>
          </label>
        )}
        <RoleNote needs="operate" what="Moving a group" />
        <DialogError error={error} />
        <DialogButtons>
          <button type="button" className="button" onClick={close}>
            Cancel
          </button>
          {tried ? (
            <button type="submit" className="button button-danger" disabled={busy || (members > 0 && !force)}>
              Move it
            </button>
          ) : (
            <button type="submit" className="button button-main" disabled={busy || !position}>
              See what would happen
            </button>
          )}
        </DialogButtons>
      </form>
    </Dialog>
  );
}

function Effect({ sought }: { sought: Sought }) {
  const { again, skipped } = effectOf(sought.positions);
  const [will, wont] = sought.dry_run
    ? ["would be delivered again", "would never be delivered"]
    : ["are delivered again", "are skipped"];
  return (
    <div data-testid="seek-effect">
      <p className="flex flex-wrap gap-x-6 gap-y-1">
        <span>
          <strong className="font-semibold">{plural(again, "message")}</strong> {will}
        </span>
        <span className={`inline-flex items-center gap-1.5 ${skipped > 0 ? "text-critical" : ""}`}>
          {skipped > 0 && <Icon name="warning" size={14} />}
          <span>
            <strong className="font-semibold">{plural(skipped, "message")}</strong> {wont}
          </span>
        </span>
      </p>
      <Scrollable label="By partition" className="mt-2 max-h-60 overflow-auto rounded-md border border-line">
        <table className="w-full text-small">
          <thead className="text-muted">
            <tr>
              {["Topic", "Partition", "Stands at", "Goes to", "End", "Again", "Skipped"].map((title, at) => (
                <th key={title} scope="col" className={`px-3 py-1.5 ${at > 0 ? "text-right" : ""}`}>
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {sought.positions.map((each) => (
              <tr key={`${each.topic} ${each.partition}`}>
                <td className="border-t border-line px-3 py-1">{each.topic}</td>
                {[
                  each.partition,
                  each.acked_through_before ?? "–",
                  each.acked_through,
                  each.end_offset,
                  say(each.again, ""),
                  say(each.skipped, ""),
                ].map((value, at) => (
                  // biome-ignore lint/suspicious/noArrayIndexKey: a fixed row
                  <td key={at} className="border-t border-line px-3 py-1 text-right">
                    {value}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </Scrollable>
    </div>
  );
}
