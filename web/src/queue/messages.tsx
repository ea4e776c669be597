/** The messages of a topic, looked at without consuming them. */

import type { TopicStats } from "../api";
import { plural } from "../format";
import { navigate } from "../router";
import { ONCE, usePoll } from "../ui/hooks";
import { ErrorNote, Skeleton } from "../ui/states";
import { PAGE_SIZE, queueApi } from "./api";
import { BrowseControls, Pages, useTopic } from "./browse";
import { MessageRow } from "./message";
import { fromBefore, fromNext, placeOf, type View, writeView } from "./view";

export function Messages({ topics, view, search }: { topics: readonly TopicStats[]; view: View; search: string }) {
  useTopic(
    view,
    search,
    topics.map(({ topic }) => topic),
  );
  const { topic, partition, from } = view;
  const { data, error, retry } = usePoll(
    async (signal) => (topic ? queueApi.messages({ topic, partition, from }, signal) : null),
    ONCE,
    false,
    `${topic} ${partition} ${from}`,
  );
  const kept = topics.find((each) => each.topic === topic)?.partitions ?? [];
  const open = (place: string): void =>
    navigate(`/queue${writeView(search, { message: place === view.message ? "" : place })}`, { replace: true });
  return (
    <section aria-label="Messages" data-testid="queue-messages">
      <BrowseControls view={view} search={search} topics={topics} reload={retry} />
      {error && <ErrorNote error={error} retry={retry} keeping={data !== null} />}
      {data ? (
        <>
          <p className="border-b border-line px-4 pb-2 text-muted sm:px-6">
            {plural(data.messages.length, "message")}
            {data.messages.length > 1 && (from === "latest" ? ", newest first" : ", oldest first")}
          </p>
          {data.messages.length === 0 && (
            <p className="px-4 py-8 text-center text-muted sm:px-6">There are no messages from here on.</p>
          )}
          <ul>
            {data.messages.map((message) => (
              <MessageRow
                key={placeOf(message)}
                message={message}
                open={placeOf(message) === view.message}
                toggle={() => open(placeOf(message))}
              />
            ))}
          </ul>
          <Pages
            before={fromBefore(data.messages, data.next, kept, PAGE_SIZE)}
            next={data.messages.length > 0 ? fromNext(data.next) : ""}
            search={search}
          />
        </>
      ) : (
        !error && <Skeleton className="mx-4 h-64 sm:mx-6" />
      )}
    </section>
  );
}
