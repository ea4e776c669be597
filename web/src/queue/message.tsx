/** One message: where it lies, what it carries, decoded. */

import type { ReactNode } from "react";
import { exact, plural, say, seconds } from "../format";
import { Icon } from "../ui/icons";
import { Scrollable } from "../ui/scrollable";
import { Ago, Instant } from "../ui/when";
import type { Message, Origin } from "./api";
import { placeOf } from "./view";

interface MessageRowProps {
  message: Message;
  open: boolean;
  toggle: () => void;
  /** A box to choose it with. */
  choice?: ReactNode;
}

export function MessageRow({ message, open, toggle, choice }: MessageRowProps) {
  const { partition, offset, ordering_key: key } = message;
  return (
    <li className="border-b border-line" data-testid="message" data-place={placeOf(message)}>
      <div className={`flex items-start gap-3 px-4 py-2 hover:bg-raised sm:px-6 ${open ? "bg-raised" : ""}`}>
        {choice}
        <button
          type="button"
          aria-expanded={open}
          onClick={toggle}
          className="grid min-w-0 flex-1 grid-cols-[minmax(0,1fr)_auto] gap-x-4 text-left md:grid-cols-[9rem_minmax(0,1fr)_6rem_7rem]"
        >
          <span className="font-semibold">
            <span className="text-muted">{partition}:</span>
            {offset}
          </span>
          <span className="order-3 col-span-2 min-w-0 truncate text-muted md:order-none md:col-span-1">
            {message.origin?.reason ? <span className="text-text">{message.origin.reason}</span> : gist(message)}
            {key && <span className="ml-3">key {key}</span>}
          </span>
          <span className="hidden text-right text-muted md:block" title={exact(message.bytes, "bytes")}>
            {say(message.bytes, "B")}
          </span>
          <span className="text-right whitespace-nowrap text-muted">
            <Ago at={seconds(message.publish_time)} />
          </span>
        </button>
      </div>
      {open && <Opened message={message} />}
    </li>
  );
}

/** What it carries, in a few words. */
export function gist({ kind, rows, rows_total, text, content_type, problem }: Message): string {
  if (problem) return problem;
  if (kind === "records") {
    const gpus = new Set(rows.map((row) => row.gpu)).size;
    return `${plural(rows_total, "record")} of ${plural(gpus, "GPU")}${rows.length < rows_total ? " or more" : ""}`;
  }
  if (kind === "json") return (text ?? JSON.stringify(rows[0] ?? {})).slice(0, 200).replaceAll(/\s+/g, " ");
  if (kind === "text") return (text ?? "").slice(0, 200);
  return content_type || "binary data";
}

function Opened({ message }: { message: Message }) {
  const { origin, attributes, problem } = message;
  return (
    <div className="flex flex-col gap-4 bg-raised px-4 pt-1 pb-4 sm:px-6">
      {origin && <OriginFacts origin={origin} />}
      <dl className="flex flex-wrap gap-x-8 gap-y-2">
        <Fact name="Stored">
          <Instant at={seconds(message.publish_time)} />
        </Fact>
        <Fact name="Size">{say(message.bytes, "B")}</Fact>
        <Fact name="Content type">{message.content_type || "–"}</Fact>
        {message.ordering_key && <Fact name="Ordering key">{message.ordering_key}</Fact>}
        {Object.entries(attributes)
          .filter(([name]) => name !== "content-type" && !(origin && name.startsWith("dead-letter")))
          .map(([name, value]) => (
            <Fact key={name} name={name}>
              {value}
            </Fact>
          ))}
      </dl>
      {problem && (
        <p className="flex gap-2 text-warning">
          <Icon name="warning" size={14} /> {problem}
        </p>
      )}
      <Data message={message} />
    </div>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className="min-w-0">
      <dt className="text-small text-muted">{name}</dt>
      <dd className="break-all">{children}</dd>
    </div>
  );
}

function OriginFacts({ origin }: { origin: Origin }) {
  const { topic, partition, offset, group, attempts, reason } = origin;
  return (
    <dl className="flex flex-wrap gap-x-8 gap-y-2" data-testid="origin">
      <Fact name="Why it died">{reason ?? "not said"}</Fact>
      <Fact name="Came from">
        {topic ?? "unknown"}
        {partition !== null && ` ${partition}:${offset ?? "?"}`}
      </Fact>
      <Fact name="Given up by">
        {group ?? "unknown"}
        {attempts !== null && ` after ${plural(attempts, "attempt")}`}
      </Fact>
      {origin.first_time && (
        <Fact name="First tried">
          <Instant at={seconds(origin.first_time)} />
        </Fact>
      )}
      {origin.last_time && (
        <Fact name="Last tried">
          <Instant at={seconds(origin.last_time)} />
        </Fact>
      )}
    </dl>
  );
}

function Data({ message }: { message: Message }) {
  const { kind, rows, rows_total, text, base64, truncated } = message;
  return (
    <div>
      {rows.length > 0 && <Rows rows={rows} />}
      {rows.length > 0 && rows.length < rows_total && (
        <p className="mt-1 text-muted">
          The first {rows.length} of {rows_total.toLocaleString("en-GB")}.
        </p>
      )}
      {rows.length === 0 && kind !== "binary" && text !== null && <Code label="Text of the message">{text}</Code>}
      {base64 !== null && <Code label="Data of the message in base64">{base64}</Code>}
      {truncated && <p className="mt-1 text-muted">Only the beginning of {say(message.bytes, "B")}.</p>}
    </div>
  );
}

function Code({ label, children }: { label: string; children: string }) {
  return (
    <Scrollable label={label} className="max-h-80 overflow-auto rounded-md border border-line bg-bg p-3">
      <pre className="font-mono text-small whitespace-pre-wrap [overflow-wrap:anywhere]">{children}</pre>
    </Scrollable>
  );
}

/** Rows as a table: objects within them (metrics, labels) spread over columns of their own. */
export function flatten(rows: readonly Record<string, unknown>[]): { columns: string[]; cells: string[][] } {
  const flat = rows.map((row) => {
    const cells: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(row)) {
      if (value !== null && typeof value === "object" && !Array.isArray(value)) Object.assign(cells, value);
      else cells[name] = value;
    }
    return cells;
  });
  const columns = [...new Set(flat.flatMap(Object.keys))];
  const say = (value: unknown): string =>
    value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);
  return { columns, cells: flat.map((row) => columns.map((column) => say(row[column]))) };
}

function Rows({ rows }: { rows: readonly Record<string, unknown>[] }) {
  const { columns, cells } = flatten(rows);
  return (
    <Scrollable label="Rows of the message" className="max-h-80 overflow-auto rounded-md border border-line bg-bg">
      <table className="border-separate border-spacing-0 text-small whitespace-nowrap">
        <thead className="text-muted">
          <tr>
            {columns.map((column) => (
              <th key={column} scope="col" className="sticky top-0 bg-bg px-2.5 py-1.5">
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {cells.map((row, at) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: the rows of a message never change
            <tr key={at}>
              {row.map((cell, column) => (
                <td key={columns[column]} className="max-w-80 truncate border-t border-line px-2.5 py-1" title={cell}>
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </Scrollable>
  );
}
