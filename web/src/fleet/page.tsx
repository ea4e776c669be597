/** The fleet on one page: five numbers, the heatmap, and the table with what is wrong first. */

import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useAlerts } from "../alerts/store";
import { scaleFor } from "../colour";
import { time, zoneName } from "../format";
import { live, useLive } from "../live";
import { metricTitle, unitOf, useCatalogue } from "../metrics";
import { navigate, useSearch } from "../router";
import { useNow } from "../ui/hooks";
import { Empty, ErrorNote, Note, PartialNote, Skeleton } from "../ui/states";
import { Controls } from "./controls";
import { domainOf } from "./domain";
import type { Fleet } from "./fleet";
import { Heatmap } from "./heatmap";
import { Kpis } from "./kpis";
import { Legend } from "./legend";
import { groupRows, naturalRanks, parseFilter, selectRows } from "./select";
import { assessAll } from "./status";
import { FleetTable } from "./table";
import { type FleetView, readView, writeView } from "./view";

/** The order of the rows is looked at again this often, and not while someone reads the table. */
const REORDER_MS = 5000;
/** Newest samples older than this are pointed out. */
const OLD_S = 60;

export function FleetPage() {
  const { fleet, error, history } = useLive();
  return (
    <>
      <h1 className="sr-only">GPU fleet</h1>
      {error && <ErrorNote error={error} retry={live.retryNow} keeping={fleet !== null} />}
      {!fleet ? (
        <Loading />
      ) : fleet.gpus.length === 0 ? (
        <>
          <PartialNote completeness={fleet.completeness} />
          <Empty title="No GPU has reported yet" command="telemetry up FILE">
            Send the first data: a CSV log of nvidia-smi or DCGM will do. GPUs appear here by themselves as soon as
            their samples arrive.
          </Empty>
        </>
      ) : (
        <>
          <PartialNote completeness={fleet.completeness} />
          <AgeNote clock={fleet.clock} />
          <Kpis fleet={fleet} history={history} />
          <Body fleet={fleet} />
        </>
      )}
    </>
  );
}

function Body({ fleet }: { fleet: Fleet }) {
  const search = useSearch();
  const catalogue = useCatalogue();
  const view = useMemo(() => withKnownMetric(readView(search), fleet), [search, fleet]);
  const change = useCallback((part: Partial<FleetView>) => {
    navigate(window.location.pathname + writeView(window.location.search, part), { replace: true });
  }, []);

  const { loud } = useAlerts();
  const statuses = useMemo(() => assessAll(fleet, loud), [fleet, loud]);
  const { gpus, hosts, indexes } = fleet;
  const ranks = useMemo(() => naturalRanks({ gpus, hosts, indexes }), [gpus, hosts, indexes]);
  const names = [...fleet.columns.keys()].sort().join(" ");
  const metrics = useMemo(() => names.split(" "), [names]);
  const filter = useMemo(() => parseFilter(view.filter, metrics), [view.filter, metrics]);

  const reading = useRef(false);
  const turn = useTurns(reading);
  // Values move every second; the order only changes with what is asked for, or at the next turn.
  // biome-ignore lint/correctness/useExhaustiveDependencies: as said
  const rows = useMemo(
    () => selectRows(fleet, statuses, ranks, view, filter),
    [ranks, filter, view.sort, view.descending, turn],
  );
  // biome-ignore lint/correctness/useExhaustiveDependencies: the rows bring the fleet they were chosen from
  const groups = useMemo(() => groupRows(fleet, rows, ranks, view.group, view.sort), [rows, view.group, view.sort]);

  const unit = unitOf(catalogue, view.metric);
  const { min, max, threshold } = domainOf(fleet, view.metric, unit);
  const domain = useMemo(() => ({ min, max, threshold }), [min, max, threshold]);
  const scale = useMemo(() => scaleFor(view.metric, domain), [view.metric, domain]);

  return (
    <>
      <section aria-label="Heatmap" className="px-4 pt-4 pb-6 sm:px-6">
        <Controls view={view} change={change} metrics={metrics} shown={rows.length} known={fleet.gpus.length} />
        {filter.problem && <p className="pb-3 text-warning">{filter.problem}</p>}
        {rows.length > 0 ? (
          <>
            <Heatmap fleet={fleet} statuses={statuses} groups={groups} metric={view.metric} unit={unit} scale={scale} />
            <Legend scale={scale} domain={domain} unit={unit} title={metricTitle(view.metric)} />
          </>
        ) : (
          <p className="py-12 text-center text-muted">
            No GPU matches this filter.{" "}
            <button
              type="button"
              className="text-text underline underline-offset-2"
              onClick={() => change({ filter: "" })}
            >
              Show all {fleet.gpus.length}
            </button>
          </p>
        )}
      </section>
      <FleetTable fleet={fleet} statuses={statuses} rows={rows} view={view} change={change} reading={reading} />
    </>
  );
}

/** A fleet without the metric in the address shows the first that it has. */
function withKnownMetric(view: FleetView, fleet: Fleet): FleetView {
  if (fleet.columns.has(view.metric)) return view;
  const [first] = fleet.columns.keys();
  return first ? { ...view, metric: first } : view;
}

/** A number that goes up when the order may change: now and then, but not under a reader's eyes. */
function useTurns(reading: { current: boolean }): number {
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => {
      if (!reading.current) setTurn((last) => last + 1);
    }, REORDER_MS);
    return () => clearInterval(timer);
  }, [reading]);
  return turn;
}

function AgeNote({ clock }: { clock: number }) {
  const now = useNow();
  if (!(now - clock > OLD_S)) return null;
  return (
    <Note level="unknown">
      The newest sample is from <strong className="font-semibold">{time.full.local(clock)}</strong> {zoneName("local")}.
      Ages below are counted from it.
    </Note>
  );
}

function Loading() {
  return (
    <div aria-busy="true" aria-label="Loading the fleet" role="status">
      <div className="grid grid-cols-2 border-b border-line md:grid-cols-5">
        {["a", "b", "c", "d", "e"].map((key) => (
          <div key={key} className="flex flex-col gap-2 px-4 py-4 first:col-span-2 lg:px-6 md:first:col-span-1">
            <Skeleton className="h-4 w-20" />
            <Skeleton className="h-8 w-28" />
            <Skeleton className="h-4 w-24" />
          </div>
        ))}
      </div>
      <div className="px-4 py-4 sm:px-6">
        <Skeleton className="mb-4 h-8 w-80 max-w-full" />
        <Skeleton className="h-72 w-full" />
      </div>
    </div>
  );
}
