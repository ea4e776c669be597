/** Who changed what of the queue, newest first. */

import type { Level } from "../fleet/status";
import { seconds } from "../format";
import { usePoll } from "../ui/hooks";
import { ErrorNote, RoleNote, Skeleton } from "../ui/states";
import { StatusMark } from "../ui/status";
import { Table, type TableColumn } from "../ui/table";
import { Ago, Instant } from "../ui/when";
import { type AuditEntry, queueApi } from "./api";

const POLL_MS = 5000;

const LEVEL: Record<AuditEntry["outcome"], Level> = {
  begun: "unknown",
  done: "ok",
  refused: "warning",
  failed: "critical",
  cancelled: "unknown",
  unknown: "unknown",
};

const COLUMNS: readonly TableColumn<AuditEntry>[] = [
  {
    title: "When",
    cell: ({ time }) => (
      <>
        <Instant at={seconds(time)} />
        <span className="block text-small text-muted">
          <Ago at={seconds(time)} />
        </span>
      </>
    ),
  },
  { title: "What", cell: ({ action }) => action },
  { title: "Of", cell: ({ target }) => target },
  {
    title: "How",
    cell: ({ parameters }) => (
      <code className="text-small break-all whitespace-normal text-muted">
        {Object.entries(parameters)
          .map(([name, value]) => `${name} ${JSON.stringify(value)}`)
          .join(", ") || "–"}
      </code>
    ),
  },
  {
    title: "Outcome",
    cell: ({ outcome, detail }) => (
      <>
        <StatusMark level={LEVEL[outcome]}>{outcome}</StatusMark>
        {detail && <span className="block max-w-80 text-small break-words whitespace-normal text-muted">{detail}</span>}
      </>
    ),
  },
  { title: "Who", cell: ({ who, peer }) => <>{who || peer}</> },
];

export function Changes() {
  const { data, error, retry } = usePoll(queueApi.audit, POLL_MS);
  if (error?.status === 403) {
    return (
      <div className="px-4 py-8 sm:px-6">
        <RoleNote needs="operate" what="Seeing who changed what" />
      </div>
    );
  }
  return (
    <>
      {error && <ErrorNote error={error} retry={retry} keeping={data !== null} />}
      {data ? (
        <Table
          title="Changes"
          testId="queue-changes"
          columns={COLUMNS}
          rows={data.entries}
          keyOf={({ id }) => id}
          none="Nobody has changed anything over REST since the gateway started."
        />
      ) : (
        !error && <Skeleton className="m-6 h-40" />
      )}
    </>
  );
}
