/** A number of a page's first line: label, value, a word about it, its recent past. */

import { exact, quantity } from "../format";
import { Sparkline } from "./sparkline";

interface FigureProps {
  label: string;
  value?: number;
  unit?: string;
  /** Instead of a value. */
  text?: string;
  note: string;
  spark?: readonly number[] | undefined;
}

export function Figure({ label, value, unit = "", text, note, spark }: FigureProps) {
  const shown = text === undefined ? quantity(value, unit) : { text, unit: "" };
  return (
    <div className="min-w-0 px-4 py-3.5 lg:px-6" title={text ?? exact(value, unit)}>
      <div className="text-small text-muted">{label}</div>
      <div className="mt-0.5 text-large font-semibold whitespace-nowrap">
        {shown.text}
        {shown.unit && <span className="ml-1 text-base font-normal text-muted">{shown.unit}</span>}
      </div>
      <div className="truncate text-small text-muted">{note}</div>
      {spark && <Sparkline values={spark} className="mt-2 hidden h-5 w-full sm:block" />}
    </div>
  );
}
