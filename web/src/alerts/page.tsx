/** The alerts: what fires now and wants somebody first, what is silenced, what was, and the rules behind it. */

import { useCallback, useEffect, useMemo, useRef } from "react";
import type { ApiError } from "../api";
import { gpuLabel } from "../fleet/fleet";
import { plural } from "../format";
import { useLive } from "../live";
import { followLink, navigate, useSearch } from "../router";
import { usePoll } from "../ui/hooks";
import { Icon } from "../ui/icons";
import { useKeys } from "../ui/keys";
import { Empty, ErrorNote, Note, Skeleton } from "../ui/states";
import { type Tab as TabLink, Tabs } from "../ui/tabs";
import { count } from "./alerts";
import { type Alert, type AlertState, alertsApi, LISTED_MAX, type Rules, STATES } from "./api";
import { AlertDetail } from "./detail";
import { History } from "./history";
import { AlertList } from "./list";
import { RuleDetail, RuleList } from "./rules";
import { SeverityMark } from "./severity";
import { SilenceList } from "./silences";
import { type Alerts, alertStore, useAlerts } from "./store";
import { readView, select, type Tab, tally, type View, writeView } from "./view";

const SILENCES_MS = 5000;
const RULES_MS = 10_000;

export function AlertsPage() {
  const alerts = useAlerts();
  if (alerts.phase === "absent" && alerts.all.size === 0) return <Absent error={alerts.error} />;
  return (
    <>
      {alerts.error && <ErrorNote error={alerts.error} retry={alertStore.reload} keeping={alerts.all.size > 0} />}
      {alerts.phase === "loading" ? <Loading /> : <Content alerts={alerts} />}
    </>
  );
}

function Content({ alerts }: { alerts: Alerts }) {
  const search = useSearch();
  const view = useMemo(() => readView(search), [search]);
  const paused = useLive().phase === "paused";
  const silences = usePoll(alertsApi.silences, SILENCES_MS, paused);
  const rules = usePoll(alertsApi.rules, RULES_MS, paused);
  const counts = useMemo(() => count(alerts.all.values()), [alerts.all]);
  const standing = silences.data?.silences.filter(({ state }) => state !== "expired");

  const href = (tab: Tab): string => `/alerts${writeView(search, { tab, alert: "", ruleId: "" })}`;
  const tabs: TabLink[] = [
    { name: "firing", title: "Firing", href: href("firing"), count: counts.firing },
    { name: "pending", title: "Pending", href: href("pending"), count: counts.pending },
    { name: "resolved", title: "Resolved", href: href("resolved"), count: counts.resolved },
    { name: "history", title: "History", href: href("history") },
    { name: "silences", title: "Silences", href: href("silences"), count: standing?.length },
    { name: "rules", title: "Rules", href: href("rules"), count: rules.data ? rulesIn(rules.data) : undefined },
  ];
  const open = alerts.all.get(view.alert);
  const state = isState(view.tab) ? view.tab : null;
  const closeHref = `/alerts${writeView(search, { alert: "", ruleId: "" })}`;
  const detail =
    view.tab === "rules" && view.ruleId && rules.data ? (
      <RuleDetail rules={rules.data} id={view.ruleId} closeHref={closeHref} search={search} />
    ) : state && view.alert ? (
      open ? (
        <AlertDetail
          key={open.id}
          alert={open}
          rules={rules.data}
          silences={silences.data?.silences ?? []}
          reloadSilences={silences.retry}
          closeHref={closeHref}
        />
      ) : (
        <Gone closeHref={closeHref} historyHref={href("history")} />
      )
    ) : null;

  return (
    <div data-testid="alerts">
      <Headline counts={counts} />
      {rules.data?.error && (
        <Note level="critical">
          <strong className="font-semibold">The newest rules were refused; those before are in force.</strong>{" "}
          {rules.data.error}
        </Note>
      )}
      {alerts.total > alerts.all.size && alerts.all.size >= LISTED_MAX && (
        <Note level="warning">
          There are {plural(alerts.total, "alert")}; the first {LISTED_MAX.toLocaleString("en-GB")} are shown.
        </Note>
      )}
      <Tabs label="Alerts" tabs={tabs} current={view.tab} />
      <div className={detail ? "lg:grid lg:grid-cols-[minmax(0,1fr)_minmax(24rem,34rem)]" : ""}>
        <div className={detail ? "hidden min-w-0 lg:block" : ""}>
          {(state || view.tab === "history") && <Filters alerts={alerts} view={view} search={search} />}
          {state && <OneState alerts={alerts} state={state} view={view} search={search} />}
          {view.tab === "history" && <History view={view} search={search} />}
          {view.tab === "silences" &&
            (silences.data ? (
              <SilenceList silences={silences.data.silences} changed={silences.retry} />
            ) : (
              <Waiting error={silences.error} retry={silences.retry} />
            ))}
          {view.tab === "rules" &&
            (rules.data ? (
              <RuleList rules={rules.data} open={view.ruleId} search={search} />
            ) : (
              <Waiting error={rules.error} retry={rules.retry} />
            ))}
        </div>
        {detail && (
          <aside
            aria-label="Details"
            className="min-w-0 border-line lg:sticky lg:top-13 lg:max-h-[calc(100dvh-3.25rem)] lg:self-start lg:overflow-y-auto lg:border-l"
          >
            {detail}
          </aside>
        )}
      </div>
    </div>
  );
}

const isState = (tab: Tab): tab is AlertState => (STATES as readonly string[]).includes(tab);
const rulesIn = (rules: Rules): number => rules.groups.reduce((sum, group) => sum + group.rules.length, 0);

/** What there is to do, in a word. */
function Headline({ counts }: { counts: ReturnType<typeof count> }) {
  const { firing, pending, silenced, critical, warning } = counts;
  const loud = firing - silenced;
  const others = loud - critical - warning;
  const parts = [
    critical > 0 && `${critical.toLocaleString("en-GB")} critical`,
    warning > 0 && plural(warning, "warning"),
    critical + warning === 0 && `${others} for information`,
  ].filter(Boolean);
  const rest = [
    critical + warning > 0 && others > 0 && `${others} for information`,
    loud > 0 && silenced > 0 && `${silenced.toLocaleString("en-GB")} silenced`,
    pending > 0 && `${pending.toLocaleString("en-GB")} pending`,
  ].filter(Boolean);
  return (
    <div className="flex flex-wrap items-baseline gap-x-4 gap-y-1 px-4 pt-5 pb-3 sm:px-6">
      <h1 className="flex items-center gap-3 text-large font-semibold" data-testid="alerts-headline">
        {loud > 0 ? (
          <SeverityMark severity={critical > 0 ? "critical" : warning > 0 ? "warning" : "info"} size={24} />
        ) : (
          <span className="inline-flex text-ok">
            <Icon name="ok" size={24} />
          </span>
        )}
        {loud > 0 ? `${parts.join(", ")}` : firing > 0 ? "All that fires is silenced." : "Nothing fires."}
      </h1>
      {rest.length > 0 && <span className="text-muted">{rest.join(", ")}</span>}
    </div>
  );
}

function Filters({ alerts, view, search }: { alerts: Alerts; view: View; search: string }) {
  const { fleet } = useLive();
  const change = (part: Partial<View>): void => navigate(`/alerts${writeView(search, part)}`, { replace: true });
  const state = isState(view.tab) ? view.tab : null;
  const listed = [...alerts.all.values()].filter((alert) => !state || alert.state === state);
  const severities = [...new Set(["critical", "warning", "info", ...listed.map(({ severity }) => severity)])].filter(
    Boolean,
  );
  const ruleCounts = tally(listed.map(({ rule }) => rule));
  const row = fleet?.rows.get(view.gpu);
  return (
    <div className="flex flex-col gap-3 border-b border-line px-4 py-3 sm:px-6">
      <div className="flex flex-wrap items-center gap-3">
        <label>
          <span className="sr-only">Severity</span>
          <select
            className="field"
            value={view.severity}
            onChange={(event) => change({ severity: event.target.value })}
          >
            <option value="">Any severity</option>
            {severities.map((severity) => (
              <option key={severity}>{severity}</option>
            ))}
          </select>
        </label>
        <label className="min-w-44 flex-1 sm:max-w-96">
          <span className="sr-only">Filter</span>
          <input
            type="search"
            className="field w-full"
            placeholder="Filter: host, GPU, pod, any word"
            spellCheck={false}
            value={view.filter}
            onChange={(event) => change({ filter: event.target.value })}
          />
        </label>
        {view.gpu && (
          <button type="button" className="button" onClick={() => change({ gpu: "" })}>
            {fleet && row !== undefined ? gpuLabel(fleet, row) : view.gpu}
            <Icon name="close" size={12} label="Do not filter by this GPU" />
          </button>
        )}
      </div>
      {(ruleCounts.length > 1 || view.rule) && (
        <fieldset aria-label="Rule" className="-mx-4 flex gap-1.5 overflow-x-auto px-4 sm:mx-0 sm:flex-wrap sm:px-0">
          {withChosen(ruleCounts, view.rule).map(([rule, number]) => (
            <button
              key={rule}
              type="button"
              aria-pressed={rule === view.rule}
              className="flex h-7 flex-none items-center gap-1.5 rounded-full border border-line px-2.5 text-small hover:border-strong aria-pressed:border-text aria-pressed:bg-raised aria-pressed:font-semibold"
              onClick={() => change({ rule: rule === view.rule ? "" : rule })}
            >
              {rule}
              {state && <span className="text-muted">{number}</span>}
              {rule === view.rule && <Icon name="close" size={10} />}
            </button>
          ))}
        </fieldset>
      )}
    </div>
  );
}

/** With the chosen rule also where it has no alerts, so that it can be given up. */
const withChosen = (counts: [string, number][], chosen: string): [string, number][] =>
  chosen && !counts.some(([rule]) => rule === chosen) ? [[chosen, 0], ...counts] : counts;

const NONE: Record<AlertState, string> = {
  firing: "No alert wants anybody now. New ones appear here by themselves.",
  pending: "Nothing is about to fire.",
  resolved: "Nothing was resolved in the last 15 minutes. The history goes further back.",
};

function OneState({ alerts, state, view, search }: { alerts: Alerts; state: AlertState; view: View; search: string }) {
  const shown = useMemo(() => select(alerts.all.values(), state, view), [alerts.all, state, view]);
  useWalk(shown, view.alert);
  const some = [...alerts.all.values()].some((alert) => alert.state === state);
  if (shown.length > 0) return <AlertList state={state} alerts={shown} open={view.alert} search={search} />;
  return (
    <p className="px-4 py-12 text-center text-muted sm:px-6">
      {some ? (
        <>
          No alert matches this filter.{" "}
          <a
            href={`/alerts${writeView(search, { severity: "", rule: "", gpu: "", filter: "" })}`}
            onClick={followLink}
            className="link text-text"
          >
            Show all
          </a>
        </>
      ) : (
        NONE[state]
      )}
    </p>
  );
}

/** j and k walk through the list, escape closes. */
function useWalk(shown: readonly Alert[], open: string): void {
  const now = useRef({ shown, open });
  now.current = { shown, open };
  const go = useCallback((by: number): void => {
    const { shown, open } = now.current;
    const at = shown.findIndex(({ id }) => id === open);
    const next = shown[at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + by))];
    if (!next) return;
    navigate(`/alerts${writeView(window.location.search, { alert: next.id })}`, { replace: at >= 0 });
    requestAnimationFrame(() =>
      document.querySelector(`[data-alert="${CSS.escape(next.id)}"]`)?.scrollIntoView({ block: "nearest" }),
    );
  }, []);
  useKeys(
    useMemo(
      () => ({
        j: () => go(1),
        k: () => go(-1),
        esc: () => {
          if (now.current.open) navigate(`/alerts${writeView(window.location.search, { alert: "" })}`);
        },
      }),
      [go],
    ),
  );
}

function Gone({ closeHref, historyHref }: { closeHref: string; historyHref: string }) {
  return (
    <div className="px-4 py-8 sm:px-6">
      <p className="text-muted">This alert neither fires nor was it resolved lately.</p>
      <p className="mt-2 flex gap-4">
        <a href={historyHref} onClick={followLink} className="link">
          Look into the history
        </a>
        <a href={closeHref} onClick={followLink} className="link">
          Close
        </a>
      </p>
    </div>
  );
}

function Absent({ error }: { error: ApiError | null }) {
  useEffect(() => alertStore.reload(), []);
  return (
    <Empty title="The alert service does not answer" command="telemetry alerts serve">
      Without it nothing is watched: no rule is evaluated and nobody is told. <code>telemetry up</code> starts it by
      itself; elsewhere start it with the command below, and tell the gateway where it is with <code>--alerts</code>.
      This page tries again by itself.{error?.detail && <span className="mt-2 block">{error.detail}</span>}
    </Empty>
  );
}

function Waiting({ error, retry }: { error: ApiError | null; retry: () => void }) {
  return error ? <ErrorNote error={error} retry={retry} keeping={false} /> : <Skeleton className="m-6 h-40" />;
}

function Loading() {
  return (
    <div role="status" aria-busy="true" aria-label="Loading the alerts" className="px-4 py-5 sm:px-6">
      <Skeleton className="h-8 w-72" />
      <Skeleton className="mt-4 h-9 w-96 max-w-full" />
      {["a", "b", "c", "d"].map((key) => (
        <Skeleton key={key} className="mt-3 h-12 w-full" />
      ))}
    </div>
  );
}
