/** How bad an alert is, and in which state: a shape before a colour, and a word. */

import { Icon, type IconName } from "../ui/icons";
import type { AlertState } from "./api";

const LOOKS: Readonly<Record<string, { icon: IconName; colour: string }>> = {
  critical: { icon: "critical", colour: "text-critical" },
  warning: { icon: "warning", colour: "text-warning" },
  info: { icon: "info", colour: "text-unknown" },
};

/** The mark of a severity; without children it says the severity itself. */
export function SeverityMark({
  severity,
  quiet = false,
  size = 16,
}: {
  severity: string;
  quiet?: boolean;
  size?: number;
}) {
  const { icon, colour } = LOOKS[severity] ?? { icon: "unknown" as const, colour: "text-unknown" };
  return (
    <span className={`inline-flex h-5 items-center ${quiet ? "text-muted" : colour}`}>
      <Icon name={icon} size={size} label={severity || "no severity"} />
    </span>
  );
}

const STATES: Readonly<Record<AlertState, { icon: IconName; word: string }>> = {
  firing: { icon: "alerts", word: "firing" },
  pending: { icon: "waiting", word: "pending" },
  resolved: { icon: "ok", word: "resolved" },
};

export function StateMark({ state }: { state: AlertState }) {
  const { icon, word } = STATES[state];
  const colour = state === "firing" ? "text-text" : state === "resolved" ? "text-ok" : "text-muted";
  return (
    <span className={`inline-flex items-center gap-1.5 ${colour}`}>
      <Icon name={icon} size={14} />
      {word}
    </span>
  );
}
