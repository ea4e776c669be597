/** Health: which services answer, how fast, which version, since when; and the stream this page lives on. */

import { api, type HealthResponse, type Service } from "../api";
import type { Level } from "../fleet/status";
import { ago, say, seconds, span, time, zoneName } from "../format";
import { type Live, useLive } from "../live";
import { useNow, usePoll } from "../ui/hooks";
import { ErrorNote, Skeleton } from "../ui/states";
import { StatusMark } from "../ui/status";
import { Table, type TableColumn } from "../ui/table";
import { useZone } from "../ui/zone";

const POLL_MS = 3000;

const LEVEL: Record<Service["state"], Level> = { ok: "ok", down: "critical", unknown: "unknown" };

const OVERALL: Record<HealthResponse["status"], { level: Level; text: string }> = {
  ok: { level: "ok", text: "All services answer." },
  degraded: { level: "warning", text: "Some services do not answer." },
  down: { level: "critical", text: "The pipeline is down." },
};

export function HealthPage() {
  const state = useLive();
  const { data, error, retry } = usePoll(api.health, POLL_MS, state.phase === "paused");
  const overall = data && OVERALL[data.status];
  return (
    <>
      {error && <ErrorNote error={error} retry={retry} keeping={data !== null} />}
      {overall && (
        <h1 className="flex items-center gap-3 px-4 pt-5 text-large font-semibold sm:px-6">
          <StatusMark level={overall.level} size={24} />
          {overall.text}
        </h1>
      )}
      {data ? <Services services={data.services} /> : !error && <Loading />}
      <Stream state={state} />
    </>
  );
}

function Services({ services }: { services: readonly Service[] }) {
  const zone = useZone();
  const now = useNow();
  const columns: TableColumn<Service>[] = [
    { title: "Service", cell: ({ name }) => name },
    { title: "State", cell: ({ state }) => <StatusMark level={LEVEL[state]}>{state}</StatusMark> },
    {
      title: "Latency",
      numeric: true,
      cell: ({ latency_ms }) => (!latency_ms ? "–" : say(latency_ms / 1000, "s")),
    },
    { title: "Version", cell: ({ version }) => version || "–" },
    {
      title: "Up for",
      cell: ({ since }) =>
        since ? (
          <span title={`${time.full[zone](seconds(since))} ${zoneName(zone)}`}>{span(now - seconds(since))}</span>
        ) : (
          "–"
        ),
    },
    ...(services.some(({ detail }) => detail)
      ? [
          {
            title: "Detail",
            cell: ({ detail }: Service) => <span className="whitespace-normal text-muted">{detail}</span>,
          },
        ]
      : []),
  ];
  return (
    <Table
      title="Services"
      testId="health-services"
      columns={columns}
      rows={services}
      keyOf={({ name }) => name}
      none="No services are known."
    />
  );
}

/** What this page itself sees of the live stream. */
function Stream({ state }: { state: Live }) {
  const now = useNow();
  const facts: [string, string][] = [
    ["Stream", state.phase],
    ["Last update", Number.isNaN(state.arrival) ? "none yet" : ago(now - state.skew - state.arrival)],
    ["Updates", state.updates.toLocaleString("en-GB")],
    ["Snapshots", state.snapshots.toLocaleString("en-GB")],
    [
      "Clock of the server",
      `${Math.abs(state.skew) < 1 ? "the same" : `${span(Math.abs(state.skew))} ${state.skew > 0 ? "ahead" : "behind"}`}`,
    ],
  ];
  return (
    <section aria-labelledby="stream" className="px-4 py-6 sm:px-6">
      <h2 id="stream" className="mb-3 font-semibold">
        This page
      </h2>
      <dl className="flex flex-wrap gap-x-10 gap-y-3">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt className="text-small text-muted">{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Loading() {
  return (
    <div role="status" aria-busy="true" aria-label="Loading the services" className="px-4 py-6 sm:px-6">
      <Skeleton className="h-8 w-72" />
      <Skeleton className="mt-6 h-40 w-full" />
    </div>
  );
}
