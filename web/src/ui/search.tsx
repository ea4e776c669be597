/** Search for a GPU, host or model from anywhere: `/`, type, choose. */

import { type KeyboardEvent, type RefObject, useId, useMemo, useState } from "react";
import type { Loud } from "../alerts/alerts";
import { useAlerts } from "../alerts/store";
import { type Fleet, gpuLabel } from "../fleet/fleet";
import { naturalOrder, parseFilter } from "../fleet/select";
import { assess } from "../fleet/status";
import { useLive } from "../live";
import { gpuPath, navigate, withQuery } from "../router";
import { Icon } from "./icons";
import { StatusMark } from "./status";

const MATCHES_MAX = 8;
const NOBODY = { gpus: [], hosts: [], indexes: [] };

/** The first rows that match, in `order`. */
function matchingRows(fleet: Fleet | null, order: Iterable<number>, text: string, loud: Loud): number[] {
  if (!fleet || !text.trim()) return [];
  const filter = parseFilter(text, fleet.columns.keys());
  const rows: number[] = [];
  for (const row of order) {
    if (rows.length === MATCHES_MAX) break;
    if (filter.matches(fleet, row, assess(fleet, row, loud))) rows.push(row);
  }
  return rows;
}

export function Search({ input }: { input: RefObject<HTMLInputElement | null> }) {
  const { fleet } = useLive();
  const { loud } = useAlerts();
  const [text, setText] = useState("");
  const [open, setOpen] = useState(false);
  const [chosen, setChosen] = useState(0);
  const list = useId();
  const { gpus, hosts, indexes } = fleet ?? NOBODY;
  const order = useMemo(() => (open ? naturalOrder({ gpus, hosts, indexes }) : []), [open, gpus, hosts, indexes]);
  const rows = useMemo(() => (open ? matchingRows(fleet, order, text, loud) : []), [open, fleet, order, text, loud]);
  const shown = open && text.trim() !== "";
  const last = rows.length;

  const leave = (): void => {
    setOpen(false);
    setText("");
    input.current?.blur();
  };
  const go = (at: number): void => {
    const gpu = fleet?.gpus[rows[at] ?? -1];
    navigate(gpu === undefined ? `/${withQuery("", { filter: text.trim() })}` : gpuPath(gpu));
    leave();
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === "Escape") leave();
    else if (event.key === "Enter" && text.trim()) go(chosen);
    else if (event.key === "ArrowDown") setChosen((chosen + 1) % (last + 1));
    else if (event.key === "ArrowUp") setChosen((chosen + last) % (last + 1));
    else return;
    event.preventDefault();
  };
  const option = (at: number) => ({
    id: `${list}-${at}`,
    role: "option",
    "aria-selected": at === chosen,
    tabIndex: -1,
    className: "flex w-full items-center gap-2 px-3 py-2 text-left aria-selected:bg-line",
    onPointerDown: (event: { preventDefault(): void }) => event.preventDefault(),
    onClick: () => go(at),
  });

  return (
    <div className="relative min-w-0 flex-1 sm:max-w-96">
      <span className="pointer-events-none absolute inset-y-0 left-2.5 flex items-center text-muted">
        <Icon name="search" />
      </span>
      <input
        ref={input}
        type="search"
        role="combobox"
        aria-label="Search a GPU, host or model"
        aria-expanded={shown}
        aria-controls={list}
        aria-activedescendant={shown ? `${list}-${chosen}` : undefined}
        placeholder="Search"
        autoComplete="off"
        spellCheck={false}
        className="field w-full pl-8!"
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setChosen(0);
          setOpen(true);
        }}
        onFocus={() => setOpen(true)}
        onBlur={() => setOpen(false)}
        onKeyDown={onKey}
      />
      {text === "" && (
        <kbd className="pointer-events-none absolute top-1.5 right-2.5 hidden text-small/5 text-muted lg:block">/</kbd>
      )}
      {shown && (
        <div
          id={list}
          role="listbox"
          aria-label="Matches"
          className="absolute inset-x-0 top-10 z-40 min-w-64 overflow-hidden rounded-md border border-line bg-raised py-1 shadow-lg"
        >
          {fleet &&
            rows.map((row, at) => (
              <button type="button" key={fleet.gpus[row]} {...option(at)}>
                <StatusMark level={assess(fleet, row, loud).level} />
                <span className="max-w-[75%] shrink-0 truncate">{gpuLabel(fleet, row)}</span>
                <span className="ml-auto truncate text-muted">{fleet.gpus[row]}</span>
              </button>
            ))}
          <button type="button" {...option(rows.length)}>
            <Icon name="fleet" size={14} />
            <span className="truncate">
              Show the fleet filtered by “{text.trim()}”
              {rows.length === 0 && <span className="text-muted"> (no GPU matches)</span>}
            </span>
          </button>
        </div>
      )}
    </div>
  );
}
