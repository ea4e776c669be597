/** Alerts of one state, a row each: what needs somebody first. */

import { useState } from "react";
import { exact } from "../format";
import { followLink } from "../router";
import { Icon } from "../ui/icons";
import { Ago } from "../ui/when";
import { since, summaryOf } from "./alerts";
import type { Alert, AlertState } from "./api";
import { SeverityMark } from "./severity";
import { writeView } from "./view";
import { Where } from "./where";

/** Rows drawn at first; a storm has thousands. */
const ROWS_MAX = 200;

const GRID =
  "grid-cols-[1rem_minmax(0,1fr)_auto] gap-x-3 px-4 sm:px-6 @3xl:grid-cols-[1rem_minmax(0,1fr)_14rem_5rem_6rem]";

const SINCE: Record<AlertState, string> = { firing: "Firing for", pending: "Pending for", resolved: "Resolved" };

export const shortValue = (value: number | null): string =>
  value === null ? "–" : value.toLocaleString("en-GB", { maximumSignificantDigits: 4 });

export function AlertList({
  state,
  alerts,
  open,
  search,
}: {
  state: AlertState;
  alerts: readonly Alert[];
  open: string;
  search: string;
}) {
  const [shown, setShown] = useState(ROWS_MAX);
  return (
    <>
      <div className="@container">
        <div aria-hidden className={`hidden py-1.5 text-small text-muted @3xl:grid ${GRID}`}>
          <span />
          <span>Alert</span>
          <span>GPU or host</span>
          <span className="text-right">Value</span>
          <span className="text-right">{SINCE[state]}</span>
        </div>
        <ul data-testid="alert-list">
          {alerts.slice(0, shown).map((alert) => (
            <Row
              key={alert.id}
              alert={alert}
              open={alert.id === open}
              href={`/alerts${writeView(search, { alert: alert.id })}`}
            />
          ))}
        </ul>
      </div>
      {alerts.length > shown && (
        <p className="px-4 py-3 text-muted sm:px-6">
          {shown.toLocaleString("en-GB")} of {alerts.length.toLocaleString("en-GB")} are shown.{" "}
          <button type="button" className="link text-text" onClick={() => setShown(shown + 5 * ROWS_MAX)}>
            Show more
          </button>
        </p>
      )}
    </>
  );
}

function Row({ alert, open, href }: { alert: Alert; open: boolean; href: string }) {
  const silenced = alert.silenced_by.length > 0;
  return (
    <li
      className={`relative grid border-b border-line py-2.5 hover:bg-raised ${GRID} ${open ? "bg-raised shadow-[inset_3px_0_0_var(--text)]" : ""} ${silenced ? "text-muted" : ""}`}
    >
      <SeverityMark severity={alert.severity} quiet={silenced || alert.state === "resolved"} />
      <div className="min-w-0">
        <a
          href={href}
          onClick={followLink}
          aria-current={open ? "true" : undefined}
          data-alert={alert.id}
          className="block break-words after:absolute after:inset-0"
        >
          {summaryOf(alert)}
        </a>
        <div className="flex flex-wrap gap-x-3 text-small text-muted">
          <span>{alert.rule}</span>
          {/* What has columns of its own where there is room. */}
          <span className="@3xl:hidden">
            <Where gpu={alert.gpu} host={alert.host} className="relative hover:underline" />
          </span>
          {alert.value !== null && <span className="@3xl:hidden">value {shortValue(alert.value)}</span>}
          {silenced && (
            <span className="inline-flex items-center gap-1">
              <Icon name="silenced" size={12} /> silenced
            </span>
          )}
        </div>
      </div>
      <div className="hidden min-w-0 truncate @3xl:block">
        {/* Above the link that covers the row. */}
        <Where gpu={alert.gpu} host={alert.host} className="relative hover:underline" />
      </div>
      <div className="hidden text-right @3xl:block" title={exact(alert.value, "")}>
        {shortValue(alert.value)}
      </div>
      <div className="text-right whitespace-nowrap text-muted">
        <Ago at={since(alert)} bare={alert.state !== "resolved"} />
      </div>
    </li>
  );
}
