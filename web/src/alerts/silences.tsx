/** Silences: what is held back, until when, by whom and why; with a way to end it. */

import { useState } from "react";
import { plural, seconds, span } from "../format";
import { useNow } from "../ui/hooks";
import { Icon } from "../ui/icons";
import { Instant } from "../ui/when";
import { alertsApi, type Matcher, type Silence } from "./api";
import { matches } from "./matching";
import { alertStore, useAlerts } from "./store";

export function SilenceList({ silences, changed }: { silences: readonly Silence[]; changed: () => void }) {
  const [withExpired, setWithExpired] = useState(false);
  const expired = silences.filter(({ state }) => state === "expired");
  const standing = silences.filter(({ state }) => state !== "expired");
  return (
    <div data-testid="silence-list">
      {standing.length === 0 && <p className="px-4 py-8 text-muted sm:px-6">Nothing is silenced.</p>}
      {[...standing, ...(withExpired ? expired : [])].map((silence) => (
        <SilenceCard key={silence.id} silence={silence} changed={changed} />
      ))}
      {expired.length > 0 && (
        <p className="px-4 py-3 sm:px-6">
          <button type="button" className="link text-muted" onClick={() => setWithExpired(!withExpired)}>
            {withExpired
              ? "Hide those that have ended"
              : `Show ${plural(expired.length, "that has ended", "that have ended")}`}
          </button>
        </p>
      )}
    </div>
  );
}

export function SilenceCard({ silence, changed }: { silence: Silence; changed: () => void }) {
  const now = useNow();
  const { all } = useAlerts();
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const over = silence.state === "expired";
  const held = [...all.values()].filter(
    (alert) => alert.state !== "resolved" && matches(silence.matchers, { alertname: alert.rule, ...alert.labels }),
  ).length;
  const expire = (): void => {
    setBusy(true);
    alertsApi.expire(silence.id).then(
      () => {
        alertStore.reload();
        changed();
      },
      (error) => {
        setProblem(error.message);
        setBusy(false);
      },
    );
  };
  return (
    <section
      aria-label="Silence"
      data-testid="silence"
      className={`flex flex-wrap items-start gap-x-4 gap-y-2 border-b border-line px-4 py-3 sm:px-6 ${over ? "text-muted" : ""}`}
    >
      <span className="flex h-5 items-center text-muted">
        <Icon name="silenced" />
      </span>
      <div className="min-w-0 flex-1 basis-64">
        <div className="flex flex-wrap gap-1.5">
          {silence.matchers.map((matcher) => (
            <MatcherChip key={matcher.name + matcher.op + matcher.value} matcher={matcher} />
          ))}
        </div>
        <p className="mt-1.5 break-words">{silence.comment}</p>
        <p className="text-small text-muted">
          {silence.author} ·{" "}
          {over ? (
            <>
              ended <Instant at={seconds(silence.ends_at)} />
            </>
          ) : silence.state === "pending" ? (
            <>
              begins in {span(seconds(silence.starts_at) - now)}, until <Instant at={seconds(silence.ends_at)} />
            </>
          ) : (
            <>
              {span(seconds(silence.ends_at) - now)} left, until <Instant at={seconds(silence.ends_at)} />
            </>
          )}
          {!over && ` · ${plural(held, "alert")} now`}
        </p>
        {problem && (
          <p role="alert" className="mt-1 text-critical">
            {problem}
          </p>
        )}
      </div>
      {!over && (
        <button type="button" className="button" disabled={busy} onClick={expire}>
          End now
        </button>
      )}
    </section>
  );
}

function MatcherChip({ matcher: { name, op, value } }: { matcher: Matcher }) {
  return (
    <span className="rounded bg-raised px-1.5 text-small/5 break-all">
      {name}
      <span className="text-muted">{op}</span>
      {value || "“”"}
    </span>
  );
}
