/** Topics: what is kept, and how fast more comes. */

import type { TopicStats } from "../api";
import { exact, say } from "../format";
import { followLink } from "../router";
import { Sparkline } from "../ui/sparkline";
import { Table, type TableColumn } from "../ui/table";
import type { Past } from "./past";
import { queuePath, type Tab } from "./view";

interface TopicsProps {
  topics: readonly TopicStats[];
  /** Those of them that hold dead letters. */
  dead: readonly TopicStats[];
  past: Past;
}

export function Topics({ topics, dead, past }: TopicsProps) {
  const columns: TableColumn<TopicStats>[] = [
    {
      title: "Topic",
      cell: (topic) => <TopicLink topic={topic.topic} tab={dead.includes(topic) ? "letters" : "messages"} />,
    },
    {
      title: "Publish rate",
      numeric: true,
      cell: ({ topic, publish_rate }) => (
        <span className="inline-flex items-center gap-3" title={exact(publish_rate, "messages/s")}>
          <Sparkline values={past.get(`topic ${topic}`) ?? []} className="hidden h-4 w-24 sm:block" />
          <span className="w-16">{say(publish_rate, "/s")}</span>
        </span>
      ),
    },
    {
      title: "Kept",
      numeric: true,
      cell: ({ messages }) => <span title={exact(messages, "messages")}>{say(messages, "")}</span>,
    },
    { title: "Size", numeric: true, cell: ({ bytes }) => <span title={exact(bytes, "bytes")}>{say(bytes, "B")}</span> },
    {
      title: "Published",
      numeric: true,
      cell: ({ published }) => <span title={exact(published, "messages")}>{say(published, "")}</span>,
    },
    { title: "Duplicates refused", numeric: true, cell: ({ duplicates }) => say(duplicates, "") },
    { title: "Partitions", numeric: true, cell: ({ partitions }) => partitions.length },
  ];
  return (
    <Table
      title="Topics"
      testId="queue-topics"
      columns={columns}
      rows={topics}
      keyOf={({ topic }) => topic}
      none="No topics."
    />
  );
}

/** To its messages. */
function TopicLink({ topic, tab }: { topic: string; tab: Tab }) {
  return (
    <a href={queuePath({ tab, topic })} onClick={followLink} className="link">
      {topic}
    </a>
  );
}
