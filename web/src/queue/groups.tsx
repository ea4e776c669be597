/** Subscription groups: what waits for them, how fast they take it, and who their members are. */

import { useState } from "react";
import type { GroupStats, MemberStats, TopicStats } from "../api";
import { exact, plural, say, seconds, span } from "../format";
import { followLink } from "../router";
import { Sparkline } from "../ui/sparkline";
import { StatusMark } from "../ui/status";
import { Table, type TableColumn } from "../ui/table";
import type { GroupSettings } from "./api";
import type { Past } from "./past";
import { SeekDialog } from "./seek";
import { queuePath } from "./view";

interface GroupsProps {
  groups: readonly GroupStats[];
  settings: readonly GroupSettings[];
  topics: readonly TopicStats[];
  past: Past;
  now: number;
}

export function Groups({ groups, settings, topics, past, now }: GroupsProps) {
  const [moving, setMoving] = useState("");
  const group = groups.find((each) => each.group === moving);
  /** Empty where each topic's letters go to a topic of their own: the first one is shown then. */
  const lettersOf = (group: string): string => settings.find(({ name }) => name === group)?.dead_letter_topic ?? "";
  const columns: TableColumn<GroupStats>[] = [
    {
      title: "Group",
      cell: ({ group, mode }) => (
        <>
          {group}
          <span className="block text-small text-muted">{mode}</span>
        </>
      ),
    },
    { title: "Lag", numeric: true, cell: (group) => <Lag group={group} past={past.get(`lag ${group.group}`) ?? []} /> },
    {
      title: "Acked",
      numeric: true,
      cell: ({ group, ack_rate }) => (
        <span className="inline-flex items-center gap-3" title={exact(ack_rate, "messages/s")}>
          <Sparkline values={past.get(`acked ${group}`) ?? []} className="hidden h-4 w-24 sm:block" />
          <span className="w-16">{say(ack_rate, "/s")}</span>
        </span>
      ),
    },
    { title: "Delivered", numeric: true, cell: ({ deliver_rate }) => say(deliver_rate, "/s") },
    { title: "Ready", numeric: true, cell: ({ ready }) => say(ready, "") },
    {
      title: "Unacked",
      numeric: true,
      cell: ({ unacked, oldest_unacked_age_s }) => (
        <>
          {say(unacked, "")}
          {unacked > 0 && <span className="block text-small text-muted">oldest {say(oldest_unacked_age_s, "s")}</span>}
        </>
      ),
    },
    { title: "Redelivered", numeric: true, cell: ({ redelivered }) => say(redelivered, "") },
    {
      title: "Dead letters",
      numeric: true,
      cell: ({ group, dead_lettered }) =>
        dead_lettered > 0 ? (
          <a
            href={queuePath({ tab: "letters", topic: lettersOf(group) })}
            onClick={followLink}
            className="hover:underline"
          >
            <StatusMark level="warning">{say(dead_lettered, "")}</StatusMark>
          </a>
        ) : (
          "0"
        ),
    },
    { title: "Members", cell: ({ members }) => <Members members={members} now={now} /> },
    {
      title: "",
      cell: ({ group }) => (
        <button type="button" className="button -my-1.5" aria-label={`Move ${group}…`} onClick={() => setMoving(group)}>
          Move…
        </button>
      ),
    },
  ];
  return (
    <>
      {group && <SeekDialog group={group} topics={topics} close={() => setMoving("")} />}
      <Table
        title="Groups"
        testId="queue-groups"
        columns={columns}
        rows={groups}
        keyOf={({ group }) => group}
        none="Nobody subscribes yet."
      />
    </>
  );
}

function Lag({ group, past }: { group: GroupStats; past: readonly number[] }) {
  return (
    <span className="inline-flex items-start gap-3" title={exact(group.lag_messages, "messages")}>
      <Sparkline values={past} className="hidden h-4 w-24 sm:block" />
      <span className="w-24">
        {say(group.lag_messages, "")}
        {group.lag_messages > 0 && (
          <span className="block text-small text-muted">{say(group.lag_age_s, "s")} behind</span>
        )}
        {group.blocked_on_max_unacked && <StatusMark level="warning">blocked</StatusMark>}
      </span>
    </span>
  );
}

function Members({ members, now }: { members: readonly MemberStats[]; now: number }) {
  if (members.length === 0) return <StatusMark level="unknown">no members</StatusMark>;
  return (
    <details>
      <summary>{plural(members.length, "member")}</summary>
      <ul className="mt-2 flex flex-col gap-2">
        {members.map((member) => (
          <li key={member.session_id}>
            {member.member || member.session_id} <span className="text-muted">{member.peer}</span>
            <span className="block text-small text-muted">
              {say(member.permits_messages, "")} permits ({say(member.permits_bytes, "B")}), {say(member.unacked, "")}{" "}
              unacked, joined {span(now - seconds(member.join_time))} ago
            </span>
            <span className="block text-small text-muted">
              {member.partitions.length > 0
                ? `partitions ${member.partitions.map(({ partition }) => partition).join(", ")}`
                : "no partitions"}
            </span>
          </li>
        ))}
      </ul>
    </details>
  );
}
