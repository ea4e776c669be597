/** The recent past of the queue's rates, for sparklines; kept by the page, since the queue only tells the present. */

import type { QueueStats } from "../api";

const POINTS_MAX = 80;

/** By what it is: "published", "waiting", "topic NAME", "lag GROUP", "acked GROUP". */
export type Past = ReadonlyMap<string, readonly number[]>;

export function recall(past: Past, stats: QueueStats): Past {
  const present = new Map<string, number>();
  let [published, waiting] = [0, 0];
  for (const topic of stats.topics) {
    present.set(`topic ${topic.topic}`, topic.publish_rate);
    published += topic.publish_rate;
  }
  for (const group of stats.groups) {
    present.set(`lag ${group.group}`, group.lag_messages);
    present.set(`acked ${group.group}`, group.ack_rate);
    waiting += group.lag_messages;
  }
  present.set("published", published).set("waiting", waiting);
  // What is gone from the queue is forgotten.
  return new Map([...present].map(([key, value]) => [key, [...(past.get(key) ?? []).slice(1 - POINTS_MAX), value]]));
}
