/** The queue: what comes in, what waits, who takes it, and how long a promise takes to keep. */

import { useEffect, useMemo, useRef, useState } from "react";
import { api, type LogStats, type QueueStats, type TopicStats } from "../api";
import { say, seconds, span } from "../format";
import { useLive } from "../live";
import { useSearch } from "../router";
import { Figure } from "../ui/figure";
import { useNow, usePoll } from "../ui/hooks";
import { Empty, ErrorNote, Skeleton } from "../ui/states";
import { type Tab, Tabs } from "../ui/tabs";
import { type GroupSettings, queueApi } from "./api";
import { Changes } from "./changes";
import { Groups } from "./groups";
import { DeadLetters } from "./letters";
import { Messages } from "./messages";
import { type Past, recall } from "./past";
import { Topics } from "./topics";
import { deadLetterTopics, queuePath, readView, type View } from "./view";

const POLL_MS = 1500;
const SETTINGS_MS = 5000;

export function QueuePage() {
  const paused = useLive().phase === "paused";
  const { data, error, retry } = usePoll(api.queueStats, POLL_MS, paused);
  const settings = usePoll(queueApi.groups, SETTINGS_MS, paused).data?.groups ?? NO_GROUPS;
  const past = usePast(data);
  const search = useSearch();
  const view = useMemo(() => readView(search), [search]);
  const dead = useMemo(() => deadLetterTopics(data?.topics ?? [], settings), [data, settings]);
  return (
    <>
      <h1 className="sr-only">Queue</h1>
      {error && <ErrorNote error={error} retry={retry} keeping={data !== null} />}
      {data ? (
        <>
          <Tabs label="Queue" tabs={tabsOf(dead)} current={view.tab} />
          <Content stats={data} settings={settings} dead={dead} past={past} view={view} search={search} />
        </>
      ) : (
        !error && <Loading />
      )}
    </>
  );
}

function tabsOf(dead: readonly TopicStats[]): Tab[] {
  const letters = sum(dead.map(({ messages }) => messages));
  return [
    { name: "overview", title: "Overview", href: queuePath({}) },
    { name: "messages", title: "Messages", href: queuePath({ tab: "messages" }) },
    { name: "letters", title: "Dead letters", href: queuePath({ tab: "letters" }), count: letters },
    { name: "changes", title: "Changes", href: queuePath({ tab: "changes" }) },
  ];
}

interface ContentProps {
  stats: QueueStats;
  settings: readonly GroupSettings[];
  dead: readonly TopicStats[];
  past: Past;
  view: View;
  search: string;
}

function Content({ stats, settings, dead, past, view, search }: ContentProps) {
  switch (view.tab) {
    case "overview":
      return <Overview stats={stats} settings={settings} dead={dead} past={past} />;
    case "messages":
      return <Messages topics={stats.topics} view={view} search={search} />;
    case "letters":
      return <DeadLetters topics={stats.topics} dead={dead} view={view} search={search} />;
    case "changes":
      return <Changes />;
  }
}

const NO_GROUPS: readonly GroupSettings[] = [];

function usePast(stats: QueueStats | null): Past {
  const [past, setPast] = useState<Past>(new Map());
  const seen = useRef<QueueStats | null>(null);
  useEffect(() => {
    if (!stats || seen.current === stats) return;
    seen.current = stats;
    setPast((last) => recall(last, stats));
  }, [stats]);
  return past;
}

function Overview({ stats, settings, dead, past }: Omit<ContentProps, "view" | "search">) {
  const now = useNow();
  const publishing = sum(stats.topics.map((topic) => topic.publish_rate));
  const waiting = sum(stats.groups.map((group) => group.lag_messages));
  const oldest = Math.max(0, ...stats.groups.map((group) => group.lag_age_s ?? 0));
  return (
    <>
      <section
        aria-label="The queue in numbers"
        className="grid grid-cols-2 divide-line border-b border-line md:grid-cols-5 md:divide-x"
      >
        <Figure
          label="Published"
          value={publishing}
          unit="/s"
          note="messages, all topics"
          spark={past.get("published")}
        />
        <Figure
          label="Waiting"
          value={waiting}
          unit=""
          note={waiting > 0 ? `oldest ${say(oldest, "s")}` : "all is acked"}
          spark={past.get("waiting")}
        />
        <Figure label="Connections" value={stats.connections} unit="" note="streams open now" />
        <FsyncFigure log={stats.log} />
        <Figure
          label="Engine"
          text={stats.engine}
          note={`version ${stats.version}, up ${span(now - seconds(stats.start_time))}`}
        />
      </section>
      {stats.topics.length === 0 ? (
        <Empty title="The queue has no topics yet" command="telemetry up FILE">
          A topic appears with its first message.
        </Empty>
      ) : (
        <>
          <Topics topics={stats.topics} dead={dead} past={past} />
          <Groups groups={stats.groups} settings={settings} topics={stats.topics} past={past} now={now} />
          {stats.log && <Log log={stats.log} />}
        </>
      )}
    </>
  );
}

function FsyncFigure({ log }: { log: LogStats | null }) {
  if (!log) return <Figure label="Fsync" text="none" note="kept in memory only" />;
  if (log.fsyncs === 0) return <Figure label="Fsync p99" text="–" note="no fsync yet" />;
  return (
    <Figure
      label="Fsync p99"
      value={log.fsync_p99_s ?? Number.NaN}
      unit="s"
      note={`p50 ${say(log.fsync_p50_s, "s")}`}
    />
  );
}

function Log({ log }: { log: LogStats }) {
  const facts: [string, string][] = [
    ["Size", say(log.bytes, "B")],
    ["Segments", log.segments.toLocaleString("en-GB")],
    ["Fsyncs", say(log.fsyncs, "")],
    ["Fsync p50", say(log.fsyncs ? log.fsync_p50_s : null, "s")],
    ["Fsync p99", say(log.fsyncs ? log.fsync_p99_s : null, "s")],
    ["Quarantined records", log.quarantined_records.toLocaleString("en-GB")],
    ["Torn bytes cut", say(log.torn_bytes, "B")],
  ];
  return (
    <section aria-labelledby="log" className="px-4 py-6 sm:px-6">
      <h2 id="log" className="mb-3 font-semibold">
        Log on disk
      </h2>
      <dl className="flex flex-wrap gap-x-10 gap-y-3">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt className="text-small text-muted">{name}</dt>
            <dd className={name === "Quarantined records" && log.quarantined_records > 0 ? "text-critical" : ""}>
              {value}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

function Loading() {
  return (
    <div role="status" aria-busy="true" aria-label="Loading the queue" className="px-4 py-4 sm:px-6">
      <Skeleton className="h-20 w-full" />
      <Skeleton className="mt-8 h-40 w-full" />
      <Skeleton className="mt-8 h-40 w-full" />
    </div>
  );
}
