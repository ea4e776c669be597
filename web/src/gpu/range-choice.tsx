/** Chooses the span of time. */

import { navigate, useSearch } from "../router";
import { RANGES, type RangeName, readRange, writeRange } from "./range";

export function RangeChoice() {
  const { range, zoom } = readRange(useSearch());
  const choose = (next: RangeName): void => {
    const { pathname, search } = window.location;
    navigate(pathname + writeRange(search, { range: next, zoom: null }), { replace: true });
  };
  return (
    <fieldset aria-label="Time range" className="flex gap-0.5">
      {(Object.keys(RANGES) as RangeName[]).map((name) => (
        <button
          key={name}
          type="button"
          aria-pressed={name === range && !zoom}
          onClick={() => choose(name)}
          className="h-8 rounded-md px-2.5 text-muted hover:text-text aria-pressed:bg-raised aria-pressed:font-semibold aria-pressed:text-text"
        >
          {name}
        </button>
      ))}
    </fieldset>
  );
}
