/** Asks for a silence: of which alerts, for how long, who, and why. */

import { type FormEvent, useId, useMemo, useState } from "react";
import { plural, time, zoneName } from "../format";
import { live } from "../live";
import { useSession } from "../session";
import { Dialog, DialogButtons, DialogError } from "../ui/dialog";
import { Field } from "../ui/field";
import { Icon } from "../ui/icons";
import { RoleNote } from "../ui/states";
import { useZone } from "../ui/zone";
import { type Alert, alertsApi, type Matcher, OPERATORS } from "./api";
import { matches, problemOf } from "./matching";
import { alertStore, useAlerts } from "./store";

const DURATIONS = [
  ["30 min", 1800],
  ["1 h", 3600],
  ["4 h", 14_400],
  ["8 h", 28_800],
  ["1 d", 86_400],
  ["7 d", 604_800],
] as const;
const DEFAULT_S = 14_400;

const AUTHOR_KEY = "silence-author";

function rememberedAuthor(): string {
  try {
    return localStorage.getItem(AUTHOR_KEY) ?? "";
  } catch {
    return "";
  }
}

interface Line extends Matcher {
  key: number;
}

interface SilenceDialogProps {
  /** What it is filled with to begin with. */
  matchers: readonly Matcher[];
  close: () => void;
  done: () => void;
}

export function SilenceDialog({ matchers, close, done }: SilenceDialogProps) {
  const session = useSession();
  const zone = useZone();
  const [lines, setLines] = useState<readonly Line[]>(() => matchers.map((matcher, key) => ({ ...matcher, key })));
  const [length, setLength] = useState<number>(DEFAULT_S);
  const [author, setAuthor] = useState(() => session.name || rememberedAuthor());
  const [comment, setComment] = useState("");
  const [known] = useState(author !== "");
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const ends = live.now() + length;
  const problem =
    lines.map(problemOf).find(Boolean) ?? (lines.length === 0 ? "Without a label it would match all." : "");

  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      localStorage.setItem(AUTHOR_KEY, author.trim());
    } catch {
      // It is typed again, then.
    }
    const asked = lines.map(({ name, value, op }) => ({ name, value, op }));
    const until = new Date((live.now() + length) * 1000).toISOString();
    alertsApi.silence({ matchers: asked, ends_at: until, author: author.trim(), comment: comment.trim() }).then(
      () => {
        alertStore.reload();
        done();
      },
      (refused) => {
        setBusy(false);
        setError(refused);
      },
    );
  };

  return (
    <Dialog title="Silence alerts" close={close}>
      <form onSubmit={submit} className="flex flex-col gap-4" data-testid="silence-form">
        <fieldset className="flex flex-col gap-2">
          <legend className="mb-1 text-small text-muted">Alerts whose labels all match</legend>
          {lines.map((line) => (
            <MatcherLine
              key={line.key}
              line={line}
              change={(part) => setLines(lines.map((one) => (one.key === line.key ? { ...one, ...part } : one)))}
              remove={() => setLines(lines.filter((one) => one.key !== line.key))}
            />
          ))}
          <button
            type="button"
            className="link self-start text-muted"
            onClick={() =>
              setLines([
                ...lines,
                { key: 1 + Math.max(-1, ...lines.map(({ key }) => key)), name: "", value: "", op: "=" },
              ])
            }
          >
            Add a label
          </button>
        </fieldset>
        <Preview lines={lines} problem={problem} />
        <fieldset>
          <legend className="mb-1 text-small text-muted">
            For how long{" "}
            <span className="ml-1">
              until {time.full[zone](ends)} {zoneName(zone)}
            </span>
          </legend>
          <div className="flex flex-wrap gap-1">
            {DURATIONS.map(([name, seconds]) => (
              <button
                key={name}
                type="button"
                aria-pressed={seconds === length}
                className="h-8 rounded-md border border-line px-2.5 aria-pressed:border-text aria-pressed:bg-raised aria-pressed:font-semibold"
                onClick={() => setLength(seconds)}
              >
                {name}
              </button>
            ))}
          </div>
        </fieldset>
        <Field label="Who">
          {(id) => (
            <input
              id={id}
              className="field w-full"
              required
              maxLength={200}
              autoComplete="username"
              data-first={known ? undefined : true}
              value={author}
              onChange={(event) => setAuthor(event.target.value)}
            />
          )}
        </Field>
        <Field label="Why">
          {(id) => (
            <textarea
              id={id}
              className="field h-16! w-full py-1.5!"
              required
              maxLength={2000}
              data-first={known || undefined}
              placeholder="What is being done about it"
              value={comment}
              onChange={(event) => setComment(event.target.value)}
            />
          )}
        </Field>
        <RoleNote needs="operate" what="Silencing alerts" />
        <DialogError error={error} />
        <DialogButtons>
          <button type="button" className="button" onClick={close}>
            Cancel
          </button>
          <button
            type="submit"
            className="button button-main"
            disabled={busy || problem !== "" || !author.trim() || !comment.trim()}
          >
            <Icon name="silenced" size={14} />
            Silence
          </button>
        </DialogButtons>
      </form>
    </Dialog>
  );
}

function MatcherLine({
  line,
  change,
  remove,
}: {
  line: Line;
  change: (part: Partial<Matcher>) => void;
  remove: () => void;
}) {
  const names = useId();
  const { all } = useAlerts();
  const known = useMemo(
    () => [...new Set([...all.values()].flatMap((alert) => Object.keys(alert.labels)))].sort(),
    [all],
  );
  return (
    <div className="grid grid-cols-[minmax(0,1fr)_auto_auto] items-center gap-1.5 sm:grid-cols-[minmax(0,2fr)_auto_minmax(0,3fr)_auto]">
      <input
        aria-label="Label"
        className="field w-full"
        list={names}
        spellCheck={false}
        value={line.name}
        onChange={(event) => change({ name: event.target.value })}
      />
      <datalist id={names}>
        {known.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <select
        aria-label="Comparison"
        className="field"
        value={line.op}
        onChange={(event) => change({ op: event.target.value as Matcher["op"] })}
      >
        {OPERATORS.map((operator) => (
          <option key={operator}>{operator}</option>
        ))}
      </select>
      <input
        aria-label="Value"
        className="field order-last col-span-3 w-full sm:order-none sm:col-span-1"
        spellCheck={false}
        value={line.value}
        onChange={(event) => change({ value: event.target.value })}
      />
      <button
        type="button"
        aria-label="Remove this label"
        className="rounded p-1.5 text-muted hover:text-text"
        onClick={remove}
      >
        <Icon name="close" size={14} />
      </button>
    </div>
  );
}

/** How many of the alerts there are now it would hold back. */
function Preview({ lines, problem }: { lines: readonly Matcher[]; problem: string }) {
  const { all } = useAlerts();
  if (problem) return <p className="text-warning">{problem}</p>;
  const open = [...all.values()].filter(({ state }) => state !== "resolved");
  const matching = open.filter((alert) => matches(lines, labelsOf(alert))).length;
  return (
    <p className="text-muted" data-testid="silence-preview" aria-live="polite">
      Matches {matching === open.length && matching > 1 ? `all ${matching} alerts` : plural(matching, "alert")} of now.
      Alerts go on, but nobody is told.
    </p>
  );
}

/** Also those that every alert has. */
const labelsOf = (alert: Alert): Record<string, string> => ({ alertname: alert.rule, ...alert.labels });
