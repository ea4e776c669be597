/** The alerts of a GPU: a line each for what fires now, and marks on its charts for what fired. */

import { useMemo } from "react";
import { inOrder, since, summaryOf } from "../alerts/alerts";
import { type Alert, alertsApi } from "../alerts/api";
import { SeverityMark } from "../alerts/severity";
import { useAlerts } from "../alerts/store";
import { alertsPath } from "../alerts/view";
import { live, useLive } from "../live";
import { followLink } from "../router";
import { usePoll } from "../ui/hooks";
import { Icon } from "../ui/icons";
import { Ago } from "../ui/when";
import type { GpuData } from "./data";
import { type Mark, marksOf } from "./marks";

/** Lines shown; the rest is a link. */
const NOTES_MAX = 4;

function alertsOf(all: Iterable<Alert>, gpu: string, host: string): Alert[] {
  return [...all].filter((alert) => (alert.gpu ? alert.gpu === gpu : host !== "" && alert.host === host));
}

export function AlertNotes({ gpu, host }: { gpu: string; host: string }) {
  const { all } = useAlerts();
  const firing = inOrder(alertsOf(all.values(), gpu, host)).filter(({ state }) => state === "firing");
  if (firing.length === 0) return null;
  return (
    <ul aria-label="Firing alerts" data-testid="gpu-alerts" className="border-b border-line bg-raised">
      {firing.slice(0, NOTES_MAX).map((alert) => (
        <li key={alert.id} className="flex items-start gap-2 px-4 py-2 sm:px-6">
          <SeverityMark severity={alert.severity} quiet={alert.silenced_by.length > 0} />
          <div className="flex min-w-0 flex-wrap gap-x-3">
            <a href={alertsPath({ alert: alert.id })} onClick={followLink} className="link break-words">
              {summaryOf(alert)}
            </a>
            <span className="text-muted">
              {alert.rule}, for <Ago at={since(alert)} bare />
            </span>
            {alert.silenced_by.length > 0 && (
              <span className="inline-flex items-center gap-1 text-muted">
                <Icon name="silenced" size={12} /> silenced
              </span>
            )}
          </div>
        </li>
      ))}
      {firing.length > NOTES_MAX && (
        <li className="px-4 pb-2 sm:px-6">
          <a href={alertsPath({ gpu })} onClick={followLink} className="link">
            {firing.length - NOTES_MAX} more
          </a>
        </li>
      )}
    </ul>
  );
}

const POLL_MS = 30_000;
const NO_EVENTS = { events: [], next_page_token: "" };

/** When alerts of this GPU fired in the span that is shown. Without the alert service there are none. */
export function useMarks({ gpu, span }: GpuData): readonly Mark[] {
  const { all, phase } = useAlerts();
  const paused = useLive().phase === "paused";
  // The span moves with every sample; what it is asked for moves with its minutes.
  const from = Math.floor(span.from / 60) * 60;
  const { data } = usePoll(
    async (signal) => {
      if (phase !== "ok") return NO_EVENTS;
      return alertsApi.history({ start: from, end: Math.max(span.to, live.now()), gpu: gpu.gpu }, signal);
    },
    POLL_MS,
    paused,
    `${gpu.gpu} ${Math.floor(from / 600)} ${phase}`,
  );
  const events = (data ?? NO_EVENTS).events;
  const mine = useMemo(() => alertsOf(all.values(), gpu.gpu, gpu.host), [all, gpu.gpu, gpu.host]);
  const [begin, end] = [Math.floor(span.from / 10), Math.ceil(span.to / 10)];
  return useMemo(() => marksOf(mine, events, { from: begin * 10, to: end * 10 }), [mine, events, begin, end]);
}
