/** The five numbers. Each leads to what it counts. */

import { memo, type ReactNode } from "react";
import { count, firingOver } from "../alerts/alerts";
import { useAlerts } from "../alerts/store";
import { exact, plural, quantity, say, time, zoneName } from "../format";
import { live } from "../live";
import { followLink, gpuPath } from "../router";
import { Icon } from "../ui/icons";
import { Sparkline } from "../ui/sparkline";
import { type Fleet, gpuLabel } from "./fleet";
import { type History, summarise } from "./summary";

interface KpiProps {
  label: string;
  value: number;
  unit: string;
  note: ReactNode;
  href: string;
  spark: number[];
  testId: string;
  /** What follows the value, such as "/ 247". */
  of?: string;
  title?: string;
}

function Kpi({ label, value, unit, note, href, spark, testId, of, title }: KpiProps) {
  const shown = quantity(value, unit);
  return (
    <a
      href={href}
      onClick={followLink}
      data-testid={testId}
      title={title ?? exact(value, unit)}
      className="group flex min-w-0 flex-col px-4 py-2.5 sm:py-3.5 first:col-span-2 hover:bg-raised lg:px-6 md:first:col-span-1"
    >
      <span className="text-small text-muted group-hover:text-text">{label}</span>
      <span className="mt-0.5 flex flex-wrap items-baseline gap-x-1.5 text-large font-semibold whitespace-nowrap">
        {unit ? shown.text : Number.isFinite(value) ? value.toLocaleString("en-GB") : shown.text}
        {unit && <span className="text-base font-normal text-muted">{shown.unit}</span>}
        {of && <span className="text-base font-normal text-muted">{of}</span>}
      </span>
      <span className="truncate text-small text-muted">{note}</span>
      <Sparkline values={spark} className="mt-2 hidden h-5 w-full sm:block" />
    </a>
  );
}

export const Kpis = memo(function Kpis({ fleet, history }: { fleet: Fleet; history: History }) {
  const now = summarise(fleet);
  const stale = now.known - now.reporting - now.lost;
  const hottest = now.hottestRow >= 0 ? now.hottestRow : null;
  return (
    <section
      aria-label="The fleet in five numbers"
      className="grid grid-cols-2 divide-line border-b border-line md:grid-cols-5 md:divide-x"
    >
      <Kpi
        testId="kpi-reporting"
        label="Reporting"
        value={now.reporting}
        unit=""
        of={`of ${now.known.toLocaleString("en-GB")} GPUs`}
        note={
          now.lost > 0 ? (
            <span className="text-critical">
              {now.lost} lost{stale > 0 && `, ${stale} stale`}
            </span>
          ) : stale > 0 ? (
            <span className="text-warning">{stale} stale</span>
          ) : (
            "none silent"
          )
        }
        href={now.lost > 0 ? "/?filter=status:lost" : stale > 0 ? "/?filter=status:stale" : "/?sort=-age"}
        spark={history.map((point) => point.reporting)}
        title={`As of ${time.full.local(fleet.clock)} ${zoneName("local")}`}
      />
      <Kpi
        testId="kpi-utilization"
        label="Mean utilisation"
        value={now.utilization}
        unit="%"
        note={
          Number.isNaN(now.memoryTotal)
            ? "of the GPUs that report"
            : `${percent(now.memoryUsed, now.memoryTotal)} of memory used`
        }
        href="/?sort=utilization"
        spark={history.map((point) => point.utilization)}
      />
      <Kpi
        testId="kpi-power"
        label="Power now"
        value={now.power}
        unit="W"
        note={
          Number.isNaN(now.powerLimit)
            ? "no limit known"
            : `${percent(now.power, now.powerLimit)} of ${say(now.powerLimit, "W")}`
        }
        href="/?metric=power_draw&sort=-power_draw"
        spark={history.map((point) => point.power)}
      />
      <Kpi
        testId="kpi-hottest"
        label="Hottest GPU"
        value={now.hottest}
        unit="°C"
        note={hottest === null ? "no temperature known" : gpuLabel(fleet, hottest)}
        href={hottest === null ? "/?metric=temperature" : gpuPath(fleet.gpus[hottest] as string)}
        spark={history.map((point) => point.hottest)}
      />
      <AlertKpi />
    </section>
  );
});

/** What fires and is not silenced. */
function AlertKpi() {
  const { phase, all } = useAlerts();
  const { firing, silenced, critical, warning, pending } = count(all.values());
  const loud = firing - silenced;
  const known = phase === "ok" || all.size > 0;
  const parts = [
    critical > 0 && `${critical.toLocaleString("en-GB")} critical`,
    warning > 0 && plural(warning, "warning"),
    silenced > 0 && `${silenced.toLocaleString("en-GB")} silenced`,
  ].filter(Boolean);
  const level = critical > 0 ? "critical" : warning > 0 ? "warning" : null;
  const text = known
    ? parts.join(", ") ||
      (loud > 0 ? "for information" : pending > 0 ? `${pending.toLocaleString("en-GB")} pending` : "none pending")
    : phase === "loading"
      ? "…"
      : "alert service is away";
  return (
    <Kpi
      testId="kpi-alerts"
      label="Firing alerts"
      value={known ? loud : Number.NaN}
      unit=""
      note={
        <span className="inline-flex items-center gap-1">
          {level && (
            <span className={level === "critical" ? "inline-flex text-critical" : "inline-flex text-warning"}>
              <Icon name={level} size={12} />
            </span>
          )}
          {text}
        </span>
      }
      href="/alerts"
      spark={firingOver(all.values(), live.now())}
      title={known ? `${firing} firing, ${silenced} of them silenced, ${pending} pending` : text}
    />
  );
}

const percent = (part: number, whole: number): string => say((100 * part) / whole, "%");
