/** A chart of one to three metrics: the last value large, the others small, the line below. */

import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { throttles } from "../fleet/status";
import { exact, quantity, say, time } from "../format";
import { useWidth } from "../ui/hooks";
import { type Colours, useColours } from "../ui/theme";
import { useZone } from "../ui/zone";
import { type ChartSpec, type Line, referenceValue } from "./charts";
import type { Mark } from "./marks";
import { DASHES, lineColour, plotOptions } from "./plot";
import type { Span } from "./range";
import { drawable, type Series, statistics } from "./series";

interface ChartProps {
  spec: ChartSpec;
  series: Series;
  span: Span;
  height: number;
  onZoom: (span: Span) => void;
  /** When alerts fired. */
  marks?: readonly Mark[];
}

const NO_MARKS: readonly Mark[] = [];

export function Chart({ spec, series, span, height, onZoom, marks = NO_MARKS }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const width = useWidth(box);
  const colours = useColours();
  const zone = useZone();
  const [cursor, setCursor] = useState<number | null>(null);

  const metrics = spec.lines.map((line) => line.metric).join(" ");
  const data = useMemo(
    () =>
      drawable(
        series.times,
        metrics.split(" ").map((metric) => series.mean[metric] ?? []),
      ),
    [series, metrics],
  );
  const across = spec.reference ? referenceValue(series, spec.reference.metric) : null;
  const reference =
    spec.reference && across !== null
      ? {
          value: across,
          label:
            typeof spec.reference.metric === "number"
              ? spec.reference.label
              : `${spec.reference.label} ${say(across, spec.unit)}`,
          critical: spec.reference.critical,
        }
      : null;

  const now = useRef({ span, reference, data, onZoom, marks });
  now.current = { span, reference, data, onZoom, marks };

  const { unit, min, max } = spec;
  const lines = spec.lines.length;
  useEffect(() => {
    if (!box.current || !width) return;
    const options = plotOptions({
      width,
      height,
      unit,
      lines,
      min,
      max,
      colours,
      zone,
      span: () => now.current.span,
      reference: () => now.current.reference,
      marks: () => now.current.marks,
      onCursor: setCursor,
      onZoom: (chosen) => now.current.onZoom(chosen),
    });
    const made = new uPlot(options, now.current.data as uPlot.AlignedData, box.current);
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
  }, [width, height, unit, lines, min, max, colours, zone]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: span, marks and the line across are read as it draws
  useEffect(() => {
    plot.current?.setData(data as uPlot.AlignedData);
  }, [data, span.from, span.to, marks, across]);

  const instant = cursor === null ? undefined : data[0][cursor];
  return (
    <figure
      className="min-w-0 border-b border-line px-4 pt-4 pb-2 sm:px-6"
      aria-label={marks.length > 0 ? `${spec.title}; ${marks.map(({ label }) => label).join(", ")}` : spec.title}
    >
      <figcaption className="flex min-h-14 flex-wrap items-start gap-x-6 gap-y-1">
        <h2 className="w-full text-small text-muted">
          {spec.title}
          {instant !== undefined && <span className="ml-2 text-text">{time.clock[zone](instant)}</span>}
        </h2>
        {spec.lines.map((line, at) => (
          <Readout
            key={line.metric}
            line={line}
            unit={spec.unit}
            series={series}
            at={instant === undefined ? undefined : (data[at + 1] as (number | null)[])[cursor as number]}
            mark={lines > 1 ? { colours, line: at } : null}
          />
        ))}
      </figcaption>
      <div ref={box} style={{ height }} className="min-w-0 overflow-hidden" />
    </figure>
  );
}

interface ReadoutProps {
  line: Line;
  unit: string;
  series: Series;
  /** The value under the crosshair, when there is one. */
  at: number | null | undefined;
  mark: { colours: Colours; line: number } | null;
}

function Readout({ line, unit, series, at, mark }: ReadoutProps) {
  const { last, min, mean, max } = statistics(series, line.metric);
  const value = at === undefined ? last : at;
  const shown = quantity(value, unit);
  return (
    <div>
      <div className="whitespace-nowrap" title={exact(value, unit)}>
        <span className="text-large font-semibold">{shown.text}</span>
        <span className="ml-1 text-muted">{shown.unit}</span>
        {mark && (
          <span className="ml-2 text-small text-muted">
            <LineMark {...mark} /> {line.label}
          </span>
        )}
      </div>
      <div className="text-small text-muted">
        {line.metric === "throttle_reasons"
          ? // A mean of bits means nothing.
            Number.isInteger(value) && throttles(value as number)
          : `min ${say(min, unit)} · avg ${say(mean, unit)} · max ${say(max, unit)}`}
      </div>
    </div>
  );
}

function LineMark({ colours, line }: { colours: Colours; line: number }) {
  return (
    <svg width="20" height="8" aria-hidden className="inline-block align-middle">
      <path
        d="M0 4h20"
        stroke={lineColour(colours, line)}
        strokeWidth="2"
        strokeDasharray={DASHES[line % DASHES.length]?.join(" ")}
      />
    </svg>
  );
}
