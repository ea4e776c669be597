/** Keys that work everywhere: single ones, and "g f" for going places. */

import { useEffect } from "react";

export const KEYS: readonly { keys: string; what: string }[] = [
  { keys: "/", what: "Search a GPU, host or model" },
  { keys: "space", what: "Pause and go on" },
  { keys: "g f", what: "Go to the fleet" },
  { keys: "g g", what: "Go to the GPU seen last" },
  { keys: "g q", what: "Go to the queue" },
  { keys: "g a", what: "Go to the alerts" },
  { keys: "g h", what: "Go to health" },
  { keys: "[ ]", what: "On a GPU: the one before, the next on its host" },
  { keys: "j k", what: "On the alerts: the next, the one before" },
  { keys: "s", what: "On an alert: silence it" },
  { keys: "esc", what: "Close, or leave a field" },
  { keys: "?", what: "Show these keys" },
];

const NAMES: Readonly<Record<string, string>> = { " ": "space", Escape: "esc" };

/** How long after "g" its second key may come. */
const SEQUENCE_MS = 1200;

/** Whether a key pressed there means something to the element itself. */
function takesKeys(target: EventTarget | null, key: string): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.closest("input, select, textarea, [contenteditable]")) return true;
  return key === " " && target.closest("button, a, summary, [role=button]") !== null;
}

/** Call `actions[key]`, where key is as `KeyboardEvent.key` says, "space", "esc", or "g x". */
export function useKeys(actions: Readonly<Record<string, () => void>>): void {
  useEffect(() => {
    let prefixUntil = 0;
    const onKey = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
      if (event.ctrlKey || event.metaKey || event.altKey || takesKeys(event.target, event.key)) return;
      const key = NAMES[event.key] ?? event.key;
      const name = event.timeStamp < prefixUntil ? `g ${key}` : key;
      prefixUntil = key === "g" && name === "g" ? event.timeStamp + SEQUENCE_MS : 0;
      const action = actions[name];
      if (!action) return;
      event.preventDefault();
      action();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [actions]);
}
