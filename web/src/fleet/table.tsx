/** The same GPUs as a table, only the rows on the screen as elements; what is wrong first unless sorted otherwise. */

import { type MutableRefObject, memo, useMemo, useRef } from "react";
import { summaryOf } from "../alerts/alerts";
import { ago, exact, quantity, say } from "../format";
import { metricTitle, unitOf, useCatalogue } from "../metrics";
import { followLink, gpuPath } from "../router";
import { StatusMark } from "../ui/status";
import { useVisibleRows } from "../ui/virtual";
import { firstOrder } from "./controls";
import { type Fleet, gpuLabel, memoryTotal, valueAt } from "./fleet";
import type { Status } from "./status";
import type { FleetView } from "./view";

const ROW_HEIGHT = 36;

/** Someone reads the table when the pointer is on it, or when it was scrolled to. */
const SCROLLED_PX = 240;

interface Column {
  sort: string;
  title: string;
  className: string;
  numeric: boolean;
}

const METRIC_COLUMNS: Readonly<Record<string, string>> = {
  utilization: "w-24 sm:w-44",
  temperature: "w-20 sm:w-24",
  power_draw: "hidden w-24 sm:table-cell",
  memory_used: "hidden w-44 lg:table-cell",
};

function columnsFor(known: ReadonlySet<string>, metric: string, sort: string): Column[] {
  const chosen = [metric, sort].filter((name) => known.has(name) && !METRIC_COLUMNS[name]);
  const extra = [...new Set(chosen)].map((name) => [name, "hidden w-36 xl:table-cell"] as const);
  const metrics = [...Object.entries(METRIC_COLUMNS).filter(([name]) => known.has(name)), ...extra];
  return [
    { sort: "status", title: "Status", className: "w-20 sm:w-28 xl:w-64", numeric: false },
    { sort: "name", title: "GPU", className: "", numeric: false },
    { sort: "", title: "Model", className: "hidden w-52 xl:table-cell", numeric: false },
    ...metrics.map(([sort, className]) => ({ sort, title: shortTitle(sort), className, numeric: true })),
    { sort: "age", title: "Last sample", className: "hidden w-32 md:table-cell", numeric: true },
  ];
}

const SHORT: Readonly<Record<string, string>> = { temperature: "Temp.", power_draw: "Power", memory_used: "Memory" };
const shortTitle = (metric: string): string => SHORT[metric] ?? metricTitle(metric);

interface FleetTableProps {
  fleet: Fleet;
  statuses: readonly Status[];
  rows: readonly number[];
  view: FleetView;
  change: (part: Partial<FleetView>) => void;
  /** Set while someone reads, so that rows stay where they are. */
  reading: MutableRefObject<boolean>;
}

export function FleetTable({ fleet, statuses, rows, view, change, reading }: FleetTableProps) {
  const body = useRef<HTMLTableSectionElement>(null);
  const { first, end } = useVisibleRows(body, rows.length, ROW_HEIGHT);
  const names = [...fleet.columns.keys()].join(" ");
  // The same columns as long as they say the same, so that scrolling draws only the rows that come in.
  const columns = useMemo(
    () => columnsFor(new Set(names.split(" ")), view.metric, view.sort),
    [names, view.metric, view.sort],
  );
  const space = (count: number) =>
    count > 0 && (
      <tr aria-hidden style={{ height: count * ROW_HEIGHT }}>
        <td />
      </tr>
    );
  return (
    <section
      aria-label="GPUs"
      className="border-t border-line"
      onPointerEnter={() => {
        reading.current = true;
      }}
      onPointerLeave={() => {
        reading.current = window.scrollY > SCROLLED_PX;
      }}
    >
      <table
        data-testid="fleet-table"
        aria-rowcount={rows.length + 1}
        className="w-full table-fixed border-separate border-spacing-0"
      >
        <thead className="sticky top-13 z-10 bg-bg text-small text-muted">
          <tr aria-rowindex={1}>
            {columns.map((column) => (
              <Head key={column.title} column={column} view={view} change={change} />
            ))}
          </tr>
        </thead>
        <tbody ref={body}>
          {space(first)}
          {rows.slice(first, end).map((row, at) => (
            <Row
              key={fleet.gpus[row]}
              fleet={fleet}
              row={row}
              status={statuses[row] as Status}
              columns={columns}
              rowIndex={first + at + 2}
            />
          ))}
          {space(rows.length - end)}
        </tbody>
      </table>
    </section>
  );
}

const CELL =
  "overflow-hidden border-b border-line px-2 text-ellipsis whitespace-nowrap first:pl-4 last:pr-4 sm:first:pl-6 sm:last:pr-6";

function Head({ column, view, change }: { column: Column; view: FleetView; change: FleetTableProps["change"] }) {
  const sorted = column.sort === view.sort;
  const next = sorted ? { descending: !view.descending } : firstOrder(column.sort);
  return (
    <th
      scope="col"
      aria-sort={sorted ? (view.descending ? "descending" : "ascending") : undefined}
      className={`${CELL} h-9 ${column.className} ${column.numeric ? "text-right" : ""}`}
    >
      {column.sort ? (
        <button type="button" className={`hover:text-text ${sorted ? "text-text" : ""}`} onClick={() => change(next)}>
          {column.title}
          {sorted && <span aria-hidden>{view.descending ? " ↓" : " ↑"}</span>}
        </button>
      ) : (
        column.title
      )}
    </th>
  );
}

interface RowProps {
  fleet: Fleet;
  row: number;
  status: Status;
  columns: readonly Column[];
  rowIndex: number;
}

const Row = memo(function Row({ fleet, row, status, columns, rowIndex }: RowProps) {
  const gpu = fleet.gpus[row] as string;
  const old = status.condition === "lost" || status.condition === "stale";
  return (
    <tr
      aria-rowindex={rowIndex}
      style={{ height: ROW_HEIGHT }}
      className={old ? "text-muted hover:bg-raised" : "hover:bg-raised"}
    >
      {columns.map((column) => (
        <td key={column.title} className={`${CELL} ${column.className} ${column.numeric ? "text-right" : ""}`}>
          {column.title === "Status" ? (
            <StatusCell status={status} />
          ) : column.title === "GPU" ? (
            <a href={gpuPath(gpu)} onClick={followLink} className="hover:underline" title={gpu}>
              <GpuName fleet={fleet} row={row} />
            </a>
          ) : column.title === "Model" ? (
            <span className="text-muted">{fleet.models[row]}</span>
          ) : column.sort === "age" ? (
            <Age seconds={fleet.clock - (fleet.times[row] as number)} />
          ) : (
            <Value fleet={fleet} row={row} metric={column.sort} />
          )}
        </td>
      ))}
    </tr>
  );
});

/** The host may be cut short at its front, where hosts are alike; the index may not. */
function GpuName({ fleet, row }: { fleet: Fleet; row: number }) {
  const [host, index] = [fleet.hosts[row], fleet.indexes[row]];
  if (!host || !index) return gpuLabel(fleet, row);
  return (
    <span className="flex">
      <span className="truncate [direction:rtl]">
        <bdi>{host}</bdi>
      </span>
      <span className="whitespace-pre"> / {index}</span>
    </span>
  );
}

function StatusCell({ status }: { status: Status }) {
  return (
    <span title={status.alert ? summaryOf(status.alert) : status.reason || "All is well"}>
      <span className="sm:hidden">
        <StatusMark level={status.level} />
      </span>
      <span className="hidden sm:inline xl:hidden">
        <StatusMark level={status.level}>{status.condition}</StatusMark>
      </span>
      <span className="hidden xl:inline">
        <StatusMark level={status.level}>{status.reason || "ok"}</StatusMark>
      </span>
    </span>
  );
}

function Age({ seconds }: { seconds: number }) {
  return <span className="text-muted">{Number.isNaN(seconds) ? "never" : seconds < 2 ? "newest" : ago(seconds)}</span>;
}

function Value({ fleet, row, metric }: { fleet: Fleet; row: number; metric: string }) {
  const unit = unitOf(useCatalogue(), metric);
  const value = valueAt(fleet, metric, row);
  const whole = metric === "memory_used" ? memoryTotal(fleet, row) : Number.NaN;
  return (
    <span title={exact(value, unit)} className={Number.isNaN(value) ? "text-muted" : ""}>
      {metric === "utilization" && <Bar share={value / 100} />}
      <span className="inline-block min-w-12">{say(value, unit)}</span>
      {whole > 0 && <span className="text-muted"> of {sayWhole(value, whole)}</span>}
    </span>
  );
}

/** The unit is said once when both share it: "38.2 GiB of 79.6", but "489 MiB of 79.6 GiB". */
function sayWhole(part: number, whole: number): string {
  const [shown, said] = [quantity(whole, "MiB"), quantity(part, "MiB")];
  return shown.unit === said.unit ? shown.text : `${shown.text} ${shown.unit}`;
}

function Bar({ share }: { share: number }) {
  return (
    <span
      aria-hidden
      className="mr-3 hidden h-1.5 w-20 overflow-hidden rounded-full bg-line align-middle sm:inline-block"
    >
      <span className="block h-full bg-strong" style={{ width: `${100 * (share || 0)}%` }} />
    </span>
  );
}
