/** The last hour of what a rule looks at, for the GPU that an alert is about. */

import { useMemo } from "react";
import { say, span } from "../format";
import { Chart } from "../gpu/chart";
import type { ChartSpec } from "../gpu/charts";
import { loadSeries } from "../gpu/data";
import { marksOf } from "../gpu/marks";
import type { Span } from "../gpu/range";
import { live } from "../live";
import { metricTitle, unitOf, useCatalogue } from "../metrics";
import { gpuPath, navigate, withQuery } from "../router";
import { usePoll } from "../ui/hooks";
import { Skeleton } from "../ui/states";
import type { Alert, AlertEvent } from "./api";
import { type Limit, readExpression } from "./expression";

const HOUR_S = 3600;
const MINUTE_S = 60;
const POLL_MS = 10_000;
/** Charts of one alert. */
const CHARTS_MAX = 3;

export function AlertChart({
  alert,
  expression,
  events,
}: {
  alert: Alert;
  expression: string;
  events: readonly AlertEvent[];
}) {
  const catalogue = useCatalogue();
  const { metrics, limit } = useMemo(() => readExpression(expression, catalogue), [expression, catalogue]);
  const across = typeof limit?.value === "string" ? limit.value : "";
  const drawn = metrics.filter((metric) => metric !== across).slice(0, CHARTS_MAX);
  const asked = [...drawn, ...(across ? [across] : [])].join(" ");
  const { data, error } = usePoll(
    async (signal) => {
      if (!asked) return null;
      const to = live.now();
      const { series } = await loadSeries(alert.gpu, asked.split(" "), { from: to - HOUR_S, to }, to, signal);
      // Without the empty part before there was anything to see.
      const first = series.times.find((_, at) => drawn.some((metric) => typeof series.mean[metric]?.[at] === "number"));
      const from = Math.min(first ?? to - HOUR_S, to - MINUTE_S);
      return { series, span: { from, to } };
    },
    POLL_MS,
    false,
    `${alert.gpu} ${asked}`,
  );
  const marks = useMemo(() => (data ? marksOf([alert], events, data.span) : []), [alert, events, data]);
  if (!asked) return null;
  if (!data)
    return error ? <p className="px-4 py-3 text-muted sm:px-6">{error.message}</p> : <Skeleton className="mx-6 h-44" />;
  return (
    <div data-testid="alert-chart">
      {drawn.map((metric) => (
        <Chart
          key={metric}
          spec={specOf(metric, unitOf(catalogue, metric), limit, data.span)}
          series={data.series}
          span={data.span}
          height={130}
          marks={marks}
          onZoom={({ from, to }) =>
            navigate(gpuPath(alert.gpu) + withQuery("", { from: from.toFixed(1), to: to.toFixed(1) }))
          }
        />
      ))}
    </div>
  );
}

function specOf(metric: string, unit: string, limit: Limit | null, { from, to }: Span): ChartSpec {
  const title = `${metricTitle(metric)}, last ${span(to - from)}`;
  const spec = { title, unit, lines: [{ metric, label: metricTitle(metric) }] };
  if (limit?.metric !== metric) return spec;
  const sign = limit.operator.replace(">=", "≥").replace("<=", "≤");
  const label =
    typeof limit.value === "string"
      ? // The chart adds the value.
        `${sign} ${metricTitle(limit.value).toLowerCase()}`
      : `${sign} ${say(limit.value, unit)}`;
  return { ...spec, reference: { metric: limit.value, label, critical: true } };
}
