/** One GPU: who it is, and its charts on one time axis with one crosshair. */

import { useEffect, useMemo } from "react";
import { SERIES_METRICS_MAX } from "../api";
import { naturalRanks, parseFilter, selectRows } from "../fleet/select";
import { assessAll } from "../fleet/status";
import { DEFAULT_VIEW } from "../fleet/view";
import { ago, time, zoneName } from "../format";
import { useLive } from "../live";
import { useCatalogue } from "../metrics";
import { gpuPath, navigate, useChangeQuery, useSearch } from "../router";
import { useNow } from "../ui/hooks";
import { useKeys } from "../ui/keys";
import { Empty, ErrorNote, Note, PartialNote, Skeleton } from "../ui/states";
import { chooseZone, useZone } from "../ui/zone";
import { AlertNotes, useMarks } from "./alerts";
import { Chart } from "./chart";
import { chartsFor, withMemoryShare } from "./charts";
import { type GpuData, useGpuData } from "./data";
import { Identity, Neighbours, neighbours } from "./identity";
import { OLD_S, readRange, type Span, writeRange } from "./range";
import { RangeChoice } from "./range-choice";
import { SeriesTable } from "./table";

/** The GPU looked at last, while the tab is open; `/gpu` leads there. */
let lastSeenGpu = "";

export function GpuPage({ gpu }: { gpu: string }) {
  return gpu ? <OneGpu id={gpu} /> : <WhichGpu />;
}

/** Without a GPU in the address: the one seen last, else the one most in need of a look. */
function WhichGpu() {
  const { fleet } = useLive();
  useEffect(() => {
    if (lastSeenGpu) navigate(gpuPath(lastSeenGpu) + window.location.search, { replace: true });
    else if (fleet && fleet.gpus.length > 0) {
      const [worst = 0] = selectRows(fleet, assessAll(fleet), naturalRanks(fleet), DEFAULT_VIEW, parseFilter("", []));
      navigate(gpuPath(fleet.gpus[worst] as string) + window.location.search, { replace: true });
    }
  }, [fleet]);
  if (fleet?.gpus.length === 0) {
    return (
      <Empty title="No GPU has reported yet" command="telemetry up FILE">
        Send the first data, and its GPUs can be explored here.
      </Empty>
    );
  }
  return <Loading />;
}

function OneGpu({ id }: { id: string }) {
  const search = useSearch();
  const range = useMemo(() => readRange(search), [search]);
  const { data, error, loading, retry } = useGpuData(id, range);
  const { fleet } = useLive();

  const current = data?.gpu.gpu ?? id;
  const rows = useMemo(() => neighbours(fleet, current), [fleet, current]);
  useEffect(() => {
    if (data) lastSeenGpu = data.gpu.gpu;
  }, [data]);
  useKeys(
    useMemo(() => {
      const go = (by: number): void => {
        const gpu =
          fleet?.gpus[
            rows[(rows.findIndex((row) => fleet.gpus[row] === current) + by + rows.length) % rows.length] ?? -1
          ];
        if (gpu) navigate(gpuPath(gpu) + window.location.search);
      };
      return { "[": () => go(-1), "]": () => go(1) };
    }, [fleet, rows, current]),
  );

  if (error && (error.status === 404 || error.status === 409)) {
    return (
      <Empty title={error.status === 404 ? "There is no such GPU" : "That could be several GPUs"}>
        {error.detail || `The address names “${id}”.`}
      </Empty>
    );
  }
  return (
    <>
      {error && <ErrorNote error={error} retry={retry} keeping={data !== null} />}
      {data ? (
        <div aria-busy={loading}>
          <PartialNote completeness={data.completeness} />
          <AlertNotes gpu={data.gpu.gpu} host={data.gpu.host} />
          <OldNote lastSeen={data.lastSeen} zoomed={range.zoom !== null} />
          <div className="flex flex-wrap items-center justify-between gap-4 px-4 pt-4 pb-2 sm:px-6">
            <Identity gpu={data.gpu} fleet={fleet} />
            {fleet && <Neighbours fleet={fleet} rows={rows} current={data.gpu.gpu} />}
          </div>
          <Charts data={data} />
        </div>
      ) : (
        !error && <Loading />
      )}
    </>
  );
}

function Charts({ data }: { data: GpuData }) {
  const catalogue = useCatalogue();
  const search = useSearch();
  const change = useChangeQuery();
  const { span } = data;
  const range = readRange(search);
  const asTable = new URLSearchParams(search).get("view") === "table";
  const series = useMemo(() => withMemoryShare(data.series), [data.series]);
  const marks = useMarks(data);
  const { main, other } = useMemo(() => chartsFor(series, catalogue), [series, catalogue]);

  const setZoom = (zoom: Span | null): void => {
    const to = writeRange(window.location.search, { range: range.range, zoom });
    navigate(window.location.pathname + to, { replace: zoom === null });
  };
  return (
    <>
      <div className="flex flex-wrap items-center gap-x-4 gap-y-1 border-b border-line px-4 pb-2 text-muted sm:px-6">
        <div className="-ml-2.5 lg:hidden">
          <RangeChoice />
        </div>
        <SpanText span={span} />
        {range.zoom && (
          <button type="button" className="text-text underline underline-offset-2" onClick={() => setZoom(null)}>
            Back to {range.range}
          </button>
        )}
        <button
          type="button"
          aria-pressed={asTable}
          className="ml-auto underline-offset-2 hover:text-text hover:underline"
          onClick={() => change({ view: asTable ? "" : "table" })}
        >
          {asTable ? "Show as charts" : "Show as table"}
        </button>
      </div>
      {data.gpu.metrics.length > SERIES_METRICS_MAX && (
        <Note level="unknown">
          Showing {SERIES_METRICS_MAX} of this GPU’s {data.gpu.metrics.length} metrics.
        </Note>
      )}
      {main.length + other.length === 0 && (
        <p className="py-16 text-center text-muted">There are no samples in this span.</p>
      )}
      {asTable ? (
        <SeriesTable series={data.series} />
      ) : (
        <div data-testid="gpu-charts">
          <div className="grid divide-line lg:grid-cols-2 lg:divide-x">
            {main.map((spec) => (
              <Chart
                key={spec.title}
                spec={spec}
                series={series}
                span={span}
                height={190}
                onZoom={setZoom}
                marks={marks}
              />
            ))}
          </div>
          <div className="grid divide-line sm:grid-cols-2 sm:divide-x xl:grid-cols-4">
            {other.map((spec) => (
              <Chart
                key={spec.title}
                spec={spec}
                series={series}
                span={span}
                height={110}
                onZoom={setZoom}
                marks={marks}
              />
            ))}
          </div>
        </div>
      )}
    </>
  );
}

function SpanText({ span }: { span: Span }) {
  const zone = useZone();
  const other = zone === "utc" ? "local" : "utc";
  const sameDay = time.day[zone](span.from) === time.day[zone](span.to);
  return (
    <span>
      {time.full[zone](span.from)} – {sameDay ? time.clock[zone](span.to) : time.full[zone](span.to)} {zoneName(zone)}
      {zoneName("local") !== "UTC" && (
        <button
          type="button"
          className="ml-2 underline-offset-2 hover:text-text hover:underline"
          onClick={() => chooseZone(other)}
        >
          in {zoneName(other)}
        </button>
      )}
    </span>
  );
}

function OldNote({ lastSeen, zoomed }: { lastSeen: number; zoomed: boolean }) {
  const now = useNow();
  const zone = useZone();
  if (zoomed || !(now - lastSeen > OLD_S)) return null;
  return (
    <Note level="unknown">
      The newest sample of this GPU is from <strong className="font-semibold">{time.full[zone](lastSeen)}</strong>{" "}
      {zoneName(zone)} ({ago(now - lastSeen)}); the time range ends there.
    </Note>
  );
}

function Loading() {
  return (
    <div role="status" aria-busy="true" aria-label="Loading the GPU">
      <div className="px-4 pt-4 pb-6 sm:px-6">
        <Skeleton className="h-8 w-96 max-w-full" />
        <Skeleton className="mt-3 h-4 w-64" />
      </div>
      <div className="grid gap-6 px-4 sm:px-6 lg:grid-cols-2">
        {["a", "b", "c", "d"].map((key) => (
          <Skeleton key={key} className="h-60" />
        ))}
      </div>
    </div>
  );
}
