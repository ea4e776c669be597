/** What the charts show, as a table: a row a step, newest first. */

import { exact, quantity, time, zoneName } from "../format";
import { metricTitle, unitOf, useCatalogue } from "../metrics";
import { Scrollable } from "../ui/scrollable";
import { useZone } from "../ui/zone";
import { mostWanted } from "./charts";
import type { Series } from "./series";

/** Older rows are left to the API. */
const ROWS_MAX = 300;

export function SeriesTable({ series }: { series: Series }) {
  const catalogue = useCatalogue();
  const zone = useZone();
  const metrics = mostWanted(Object.keys(series.mean).sort());
  const rows = series.times
    .map((instant, at) => ({ instant, values: metrics.map((metric) => series.mean[metric]?.[at] ?? null) }))
    .filter(({ values }) => values.some((value) => value !== null))
    .slice(-ROWS_MAX)
    .reverse();
  return (
    <Scrollable label="Values as a table" className="max-h-[75vh] overflow-auto border-y border-line">
      <table className="border-separate border-spacing-0 whitespace-nowrap">
        <thead className="text-small text-muted">
          <tr>
            <th scope="col" className="sticky top-0 left-0 z-10 bg-bg py-2 pr-6 pl-4 align-bottom sm:pl-6">
              Time, {zoneName(zone)}
            </th>
            {metrics.map((metric) => (
              <th key={metric} scope="col" className="sticky top-0 bg-bg px-3 py-2 text-right align-bottom">
                {metricTitle(metric)}
                {unitOf(catalogue, metric) && <span className="block">{unitOf(catalogue, metric)}</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ instant, values }) => (
            <tr key={instant} className="hover:bg-raised">
              <th scope="row" className="sticky left-0 border-t border-line bg-bg py-1.5 pr-6 pl-4 sm:pl-6">
                {time.full[zone](instant)}
              </th>
              {values.map((value, at) => {
                const unit = unitOf(catalogue, metrics[at] as string);
                return (
                  <td
                    key={metrics[at]}
                    className="border-t border-line px-3 py-1.5 text-right"
                    title={exact(value, unit)}
                  >
                    {value === null ? "–" : unit === "°C" || unit === "%" ? quantity(value, unit).text : round(value)}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </Scrollable>
  );
}

/** In the catalogue's unit, which the head says; no prefix, so that a column can be read down. */
const round = (value: number): string =>
  value.toLocaleString("en-GB", { maximumFractionDigits: Math.abs(value) < 100 ? 1 : 0 });
