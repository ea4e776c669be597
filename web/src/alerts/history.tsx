/** What alerts did: each that began to fire or was resolved, newest first. */

import { useEffect, useState } from "react";
import type { ApiError } from "../api";
import { plural, seconds } from "../format";
import { live } from "../live";
import { followLink } from "../router";
import { usePoll } from "../ui/hooks";
import { ErrorNote, Skeleton } from "../ui/states";
import { Table, type TableColumn } from "../ui/table";
import { Ago, Instant } from "../ui/when";
import { type AlertEvent, alertsApi, type EventPage } from "./api";
import { shortValue } from "./list";
import { SeverityMark, StateMark } from "./severity";
import { HISTORY_SPANS, type HistorySpan, type View, writeView } from "./view";
import { Where } from "./where";

const POLL_MS = 5000;

const COLUMNS: readonly TableColumn<AlertEvent>[] = [
  {
    title: "When",
    cell: ({ at }) => (
      <>
        <span className="hidden sm:inline">
          <Instant at={seconds(at)} />{" "}
        </span>
        <span className="text-muted">
          <Ago at={seconds(at)} />
        </span>
      </>
    ),
  },
  { title: "What", cell: ({ state }) => <StateMark state={state} /> },
  {
    title: "Alert",
    cell: ({ rule, labels, state }) => (
      <span className="inline-flex gap-2">
        <SeverityMark severity={labels.severity ?? ""} quiet={state === "resolved"} size={14} />
        {rule}
      </span>
    ),
  },
  { title: "GPU or host", cell: ({ gpu, host }) => <Where gpu={gpu} host={host} className="hover:underline" /> },
  { title: "Value", numeric: true, cell: ({ value }) => shortValue(value) },
];

export function History({ view, search }: { view: View; search: string }) {
  const question = `${view.span} ${view.rule} ${view.gpu}`;
  const [older, setOlder] = useState<EventPage | null>(null);
  const [olderError, setOlderError] = useState<ApiError | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another question has other pages
  useEffect(() => {
    setOlder(null);
    setOlderError(null);
  }, [question]);
  const ask = { start: live.now() - HISTORY_SPANS[view.span], rule: view.rule, gpu: view.gpu };
  // Someone who has gone back in time is not pulled to the present.
  const { data, error, retry } = usePoll((signal) => alertsApi.history(ask, signal), POLL_MS, older !== null, question);
  const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const events = [...(data?.events ?? []), ...(older?.events ?? [])].filter((event) => {
    const text = [event.rule, event.gpu, event.host, ...Object.values(event.labels)].join("\n").toLowerCase();
    return words.every((word) => text.includes(word)) && (!view.severity || event.labels.severity === view.severity);
  });
  const next = (older ?? data)?.next_page_token ?? "";
  const more = (): void => {
    alertsApi.history({ ...ask, pageToken: next }).then((page) => {
      setOlder((last) => ({ ...page, events: [...(last?.events ?? []), ...page.events] }));
    }, setOlderError);
  };
  const shown = error ?? olderError;
  return (
    <div data-testid="alert-history">
      <fieldset aria-label="Span" className="flex gap-0.5 px-2 pt-3 sm:px-4">
        {(Object.keys(HISTORY_SPANS) as HistorySpan[]).map((span) => (
          <a
            key={span}
            href={`/alerts${writeView(search, { span })}`}
            onClick={followLink}
            aria-current={span === view.span ? "true" : undefined}
            className="flex h-8 items-center rounded-md px-2.5 text-muted hover:text-text aria-[current=true]:bg-raised aria-[current=true]:font-semibold aria-[current=true]:text-text"
          >
            {span}
          </a>
        ))}
      </fieldset>
      {shown && <ErrorNote error={shown} retry={retry} keeping={data !== null} />}
      {data ? (
        <Table
          title={plural(events.length, "event")}
          testId="alert-events"
          columns={COLUMNS}
          rows={events}
          keyOf={({ id }) => id}
          none="Nothing fired in this span."
        />
      ) : (
        !error && <Skeleton className="m-6 h-40" />
      )}
      {next && (
        <p className="px-4 py-3 sm:px-6">
          <button type="button" className="button" onClick={more}>
            Older
          </button>
        </p>
      )}
    </div>
  );
}
