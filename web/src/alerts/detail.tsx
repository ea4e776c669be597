/** One alert: what it says, since when, what to do about it, how it came about, and the rule behind it. */

import { type ReactNode, useEffect, useMemo, useState } from "react";
import { exact, seconds, span } from "../format";
import { live, useLive } from "../live";
import { followLink } from "../router";
import { useSession } from "../session";
import { CopyButton } from "../ui/copy";
import { usePoll } from "../ui/hooks";
import { Icon } from "../ui/icons";
import { useKeys } from "../ui/keys";
import { ErrorNote } from "../ui/states";
import { Ago, Instant } from "../ui/when";
import { summaryOf } from "./alerts";
import { type Alert, type AlertEvent, alertsApi, type Rule, type RuleGroup, type Rules, type Silence } from "./api";
import { AlertChart } from "./chart";
import { shortValue } from "./list";
import { matchersFor } from "./matching";
import { SeverityMark, StateMark } from "./severity";
import { SilenceDialog } from "./silence";
import { SilenceCard } from "./silences";
import { GpuLink, HostLink } from "./where";

const HISTORY_S = 86_400;
const POLL_MS = 15_000;
const EVENTS_SHOWN = 12;

/** The rule of an alert. Several may share a name; those differ in their labels. */
export function ruleOf(rules: Rules | null, alert: Alert): { rule: Rule; group: RuleGroup } | null {
  const named = (rules?.groups ?? [])
    .filter((group) => group.name === alert.group)
    .flatMap((group) => group.rules.filter((rule) => rule.name === alert.rule).map((rule) => ({ rule, group })));
  const fits = ({ rule }: { rule: Rule }): boolean =>
    Object.entries(rule.labels).every(([name, value]) => value.includes("{{") || alert.labels[name] === value);
  return named.find(fits) ?? named[0] ?? null;
}

interface AlertDetailProps {
  alert: Alert;
  rules: Rules | null;
  silences: readonly Silence[];
  reloadSilences: () => void;
  closeHref: string;
}

export function AlertDetail({ alert, rules, silences, reloadSilences, closeHref }: AlertDetailProps) {
  const [asking, setAsking] = useState(false);
  const found = ruleOf(rules, alert);
  const paused = useLive().phase === "paused";
  const { data, error, retry } = usePoll(
    (signal) => alertsApi.history({ start: live.now() - HISTORY_S, alert: alert.id }, signal),
    POLL_MS,
    paused,
    `${alert.id} ${alert.state}`,
  );
  const events = data?.events ?? [];
  useKeys(useMemo(() => ({ s: () => setAsking(true) }), []));
  useEffect(() => {
    // Where it stands in the place of the list, it is read from its beginning.
    if (!window.matchMedia("(min-width: 64rem)").matches) window.scrollTo(0, 0);
  }, []);
  const { summary: _, description, runbook_url: runbook, ...others } = alert.annotations;
  return (
    <article data-testid="alert-detail" aria-label={summaryOf(alert)}>
      <div className="px-4 pt-4 pb-4 sm:px-6">
        <div className="flex items-start gap-3">
          <div className="flex min-w-0 flex-1 flex-wrap items-center gap-x-3 gap-y-1">
            <SeverityMark
              severity={alert.severity}
              quiet={alert.state === "resolved" || alert.silenced_by.length > 0}
            />
            <span>{alert.severity || "no severity"}</span>
            <StateMark state={alert.state} />
          </div>
          <CloseLink href={closeHref} />
        </div>
        <h2 className="mt-2 font-semibold break-words">{summaryOf(alert)}</h2>
        {description && <p className="mt-1 break-words text-muted">{description}</p>}
        <Runbook address={runbook ?? ""} />
        {alert.state !== "resolved" && <SilenceButton press={() => setAsking(true)} />}
        <dl className="mt-4 grid grid-cols-[auto_minmax(0,1fr)] gap-x-4 gap-y-1.5">
          <Times alert={alert} />
          {alert.gpu && (
            <Fact name="GPU">
              <GpuLink gpu={alert.gpu} />
            </Fact>
          )}
          {alert.host && (
            <Fact name="Host">
              <HostLink host={alert.host} />
            </Fact>
          )}
          <Fact name="Value">
            <span title={exact(alert.value, "")}>{shortValue(alert.value)}</span>
          </Fact>
          {Object.entries(others).map(([name, value]) => (
            <Fact key={name} name={name}>
              {value}
            </Fact>
          ))}
        </dl>
      </div>
      {alert.silenced_by.map((id) => {
        const silence = silences.find((one) => one.id === id);
        return silence && <SilenceCard key={id} silence={silence} changed={reloadSilences} />;
      })}
      {alert.gpu && found && <AlertChart alert={alert} expression={found.rule.expr} events={events} />}
      {found && <RuleFacts rule={found.rule} group={found.group} />}
      {error && <ErrorNote error={error} retry={retry} keeping={data !== null} />}
      <Past events={events} />
      <Labels labels={alert.labels} />
      {asking && (
        <SilenceDialog
          matchers={matchersFor(alert)}
          close={() => setAsking(false)}
          done={() => {
            setAsking(false);
            reloadSilences();
          }}
        />
      )}
    </article>
  );
}

export function CloseLink({ href }: { href: string }) {
  return (
    <a
      href={href}
      onClick={followLink}
      aria-label="Close, back to the list"
      className="-m-1 rounded p-1 text-muted hover:text-text"
    >
      <Icon name="close" />
    </a>
  );
}

function SilenceButton({ press }: { press: () => void }) {
  const { phase, role } = useSession();
  const may = phase !== "known" || role === "operate" || role === "admin";
  return (
    <button
      type="button"
      className="button mt-3"
      title={may ? "Silence (s)" : "Needs the role operate"}
      onClick={press}
    >
      <Icon name="silenced" size={14} />
      Silence…
    </button>
  );
}

/** A link where it leads somewhere; else the place in the project's documents. */
function Runbook({ address }: { address: string }) {
  if (!address) return null;
  if (/^https?:\/\//.test(address)) {
    return (
      <a href={address} className="link mt-2 inline-block break-all" rel="noreferrer" target="_blank">
        What to do
      </a>
    );
  }
  return (
    <p className="mt-2 flex items-center gap-1 text-muted">
      <span className="min-w-0 break-all">
        What to do: <code className="text-text">{address}</code>
      </span>
      <CopyButton text={address} what="the place of the runbook" />
    </p>
  );
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <>
      <dt className="text-muted">{name}</dt>
      <dd className="min-w-0 break-words">{children}</dd>
    </>
  );
}

function Times({ alert }: { alert: Alert }) {
  const [fired, ended] = [seconds(alert.firing_since), seconds(alert.resolved_at)];
  return (
    <>
      {/* A rule that waits for nothing fires when it becomes true. */}
      {seconds(alert.active_since) !== fired && (
        <Fact name={alert.state === "pending" ? "Pending since" : "True since"}>
          <Instant at={seconds(alert.active_since)} />{" "}
          <span className="text-muted">
            (<Ago at={seconds(alert.active_since)} />)
          </span>
        </Fact>
      )}
      {!Number.isNaN(fired) && (
        <Fact name="Firing since">
          <Instant at={fired} />{" "}
          <span className="text-muted">
            (<Ago at={fired} />)
          </span>
        </Fact>
      )}
      {!Number.isNaN(ended) && (
        <Fact name="Resolved">
          <Instant at={ended} /> <span className="text-muted">after {span(ended - fired)}</span>
        </Fact>
      )}
    </>
  );
}

export function RuleFacts({ rule, group }: { rule: Rule; group: RuleGroup }) {
  return (
    <section aria-label="The rule" className="border-b border-line px-4 py-4 sm:px-6" data-testid="rule-facts">
      <h3 className="mb-2 text-small text-muted">
        Rule {rule.name} of group {group.name}
      </h3>
      {rule.health === "err" && (
        <p role="alert" className="mb-2 flex gap-2 text-critical">
          <Icon name="critical" size={14} /> <span className="min-w-0 break-words">{rule.last_error}</span>
        </p>
      )}
      <div className="flex items-start gap-1 rounded-md bg-raised py-2 pr-1 pl-3">
        <pre className="min-w-0 flex-1 font-mono text-small whitespace-pre-wrap [overflow-wrap:anywhere]">
          {rule.expr}
        </pre>
        <CopyButton text={rule.expr} what="the expression" />
      </div>
      <dl className="mt-3 grid grid-cols-[auto_minmax(0,1fr)] gap-x-4 gap-y-1.5">
        <Fact name="For">{rule.for_s > 0 ? span(rule.for_s) : "at once"}</Fact>
        {rule.keep_firing_for_s > 0 && <Fact name="Fires on for">{span(rule.keep_firing_for_s)}</Fact>}
        <Fact name="Evaluated">
          every {span(group.interval_s)}
          {rule.last_evaluation && (
            <span className="text-muted">
              , last <Ago at={seconds(rule.last_evaluation)} />
            </span>
          )}
        </Fact>
        <Fact name="File">
          <span className="break-all">{group.file}</span>
        </Fact>
      </dl>
    </section>
  );
}

function Past({ events }: { events: readonly AlertEvent[] }) {
  if (events.length === 0) return null;
  return (
    <section aria-label="The last day" className="border-b border-line px-4 py-4 sm:px-6">
      <h3 className="mb-2 text-small text-muted">The last day</h3>
      <ul className="flex flex-col gap-1">
        {events.slice(0, EVENTS_SHOWN).map((event) => (
          <li key={event.id} className="flex items-center justify-between gap-4">
            <StateMark state={event.state} />
            <span className="text-muted">
              <Instant at={seconds(event.at)} />
            </span>
          </li>
        ))}
      </ul>
      {events.length > EVENTS_SHOWN && <p className="mt-1 text-muted">and {events.length - EVENTS_SHOWN} more</p>}
    </section>
  );
}

function Labels({ labels }: { labels: Readonly<Record<string, string>> }) {
  return (
    <section aria-label="Labels" className="px-4 py-4 sm:px-6">
      <h3 className="mb-2 text-small text-muted">Labels</h3>
      <dl className="grid grid-cols-[auto_minmax(0,1fr)] gap-x-4 gap-y-1">
        {Object.entries(labels)
          .sort(([a], [b]) => a.localeCompare(b))
          .map(([name, value]) => (
            <Fact key={name} name={name}>
              <span className="break-all">{value}</span>
            </Fact>
          ))}
      </dl>
    </section>
  );
}
