/** How the fleet is shown: what fills the squares, in which groups and order, and which GPUs at all. */

import type { ReactNode } from "react";
import { plural } from "../format";
import { metricTitle } from "../metrics";
import { type FleetView, GROUPS, type Group } from "./view";

interface ControlsProps {
  view: FleetView;
  change: (part: Partial<FleetView>) => void;
  metrics: readonly string[];
  shown: number;
  known: number;
}

export function Controls({ view, change, metrics, shown, known }: ControlsProps) {
  const options = metrics.map((metric) => (
    <option key={metric} value={metric}>
      {metricTitle(metric)}
    </option>
  ));
  return (
    <div className="grid grid-cols-3 items-center gap-x-3 gap-y-2 pb-4 sm:flex sm:flex-wrap sm:gap-x-4">
      <Labelled label="Fill">
        <select
          className="field w-full"
          value={view.metric}
          onChange={(event) => change({ metric: event.target.value })}
        >
          {options}
        </select>
      </Labelled>
      <Labelled label="Group">
        <select
          className="field w-full"
          value={view.group}
          onChange={(event) => change({ group: event.target.value as Group })}
        >
          {GROUPS.map((group) => (
            <option key={group} value={group}>
              {group === "none" ? "None" : `By ${group}`}
            </option>
          ))}
        </select>
      </Labelled>
      <Labelled label="Sort">
        <select className="field w-full" value={view.sort} onChange={(event) => change(firstOrder(event.target.value))}>
          <option value="status">Worst first</option>
          <option value="name">Name</option>
          <option value="age">Age of the sample</option>
          {options}
        </select>
      </Labelled>
      <label className="col-span-3 flex min-w-48 flex-1 items-center gap-2 lg:max-w-96">
        <span className="sr-only">Filter</span>
        <input
          type="search"
          className="field w-full"
          placeholder="Filter: text, host:…, status:lost, temperature>80"
          spellCheck={false}
          value={view.filter}
          onChange={(event) => change({ filter: event.target.value })}
        />
      </label>
      <span className="col-span-3 text-muted empty:hidden" aria-live="polite">
        {shown === known ? "" : `${shown.toLocaleString("en-GB")} of ${plural(known, "GPU")}`}
      </span>
    </div>
  );
}

/** Values are first sorted from the highest down, words from the front. */
export function firstOrder(sort: string): Pick<FleetView, "sort" | "descending"> {
  return { sort, descending: sort !== "status" && sort !== "name" };
}

function Labelled({ label, children }: { label: string; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is the child
    <label className="flex min-w-0 flex-col gap-1 sm:flex-row sm:items-center sm:gap-2">
      <span className="text-small text-muted sm:text-base">{label}</span>
      {children}
    </label>
  );
}
