/** Whether the picture is live, and how old its newest sample is; pressing it pauses and goes on. */

import { span, time, zoneName } from "../format";
import { type Live, live, useLive } from "../live";
import { useNow } from "./hooks";
import { Icon, type IconName } from "./icons";

/** A stream that says nothing for this long has nothing new. */
export const QUIET_S = 15;

interface Shown {
  word: string;
  icon: IconName | "dot";
  colour: string;
}

function shown(state: Live, now: number): Shown {
  if (state.phase === "paused") return { word: "Paused", icon: "play", colour: "text-text" };
  if (state.phase === "loading")
    return { word: state.error ? "Cannot connect" : "Connecting", icon: "unknown", colour: "text-muted" };
  if (state.phase === "reconnecting") return { word: "Reconnecting", icon: "warning", colour: "text-warning" };
  const quiet = !(now - state.skew - state.arrival < QUIET_S) && !(now - (state.fleet?.clock ?? 0) < QUIET_S);
  if (quiet) return { word: "No new data", icon: "unknown", colour: "text-muted" };
  return { word: "Live", icon: "dot", colour: "text-ok" };
}

export function LiveState() {
  const state = useLive();
  const now = useNow();
  const { word, icon, colour } = shown(state, now);
  const clock = state.fleet?.clock ?? Number.NaN;
  const age = Number.isNaN(clock) ? "" : `${span(now - clock)} ago`;
  const paused = state.phase === "paused";
  return (
    <button
      type="button"
      data-testid="live-state"
      data-phase={state.phase}
      aria-pressed={paused}
      onClick={live.toggle}
      title={`${paused ? "Go on" : "Pause"} (space)${age && `. Newest sample: ${time.full.local(clock)} ${zoneName("local")}`}`}
      className="flex h-8 items-center gap-2 rounded-md px-2 whitespace-nowrap hover:bg-raised"
    >
      <span className={`inline-flex w-4 justify-center ${colour}`}>
        {icon === "dot" ? <span className="size-2 rounded-full bg-current" /> : <Icon name={icon} />}
      </span>
      <span>{word}</span>
      {age && <span className="text-muted">{age}</span>}
    </button>
  );
}
