/** The heatmap: one square a GPU on one canvas, with a tooltip, a click, and arrow keys. The table below says the same in words. */

import { type KeyboardEvent, type PointerEvent, useEffect, useMemo, useRef, useState } from "react";
import { summaryOf } from "../alerts/alerts";
import type { Scale } from "../colour";
import { ago, plural, say } from "../format";
import { metricTitle } from "../metrics";
import { followLink, gpuPath, navigate } from "../router";
import { useWidth } from "../ui/hooks";
import { StatusMark } from "../ui/status";
import { useColours } from "../ui/theme";
import { drawHeatmap } from "./draw";
import { type Fleet, gpuLabel, valueAt } from "./fleet";
import { hit, type Layout, layOut, squareAt } from "./layout";
import type { RowGroup } from "./select";
import type { Status } from "./status";

interface HeatmapProps {
  fleet: Fleet;
  statuses: readonly Status[];
  groups: readonly RowGroup[];
  metric: string;
  unit: string;
  scale: Scale;
}

interface Place {
  block: number;
  place: number;
}

/** Share of the window that squares may take before they shrink, within bounds in pixels. */
const HEIGHT_SHARE = 0.46;
const heightMax = (): number => Math.min(560, Math.max(240, window.innerHeight * HEIGHT_SHARE));

export function Heatmap({ fleet, statuses, groups, metric, unit, scale }: HeatmapProps) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const width = useWidth(box);
  const colours = useColours();
  const [over, setOver] = useState<Place | null>(null);

  const sizes = groups.map((group) => group.rows.length).join(",");
  const layout = useMemo(() => layOut(sizes.split(",").map(Number), width || 1, heightMax()), [sizes, width]);

  useEffect(() => {
    if (!canvas.current || !width) return;
    drawHeatmap(canvas.current, { fleet, statuses, groups, layout, metric, unit, scale, colours });
  }, [fleet, statuses, groups, layout, metric, unit, scale, colours, width]);

  const find = (event: PointerEvent): Place | null => {
    const bounds = event.currentTarget.getBoundingClientRect();
    return hit(layout, event.clientX - bounds.left, event.clientY - bounds.top);
  };
  const rowAt = (at: Place | null): number | undefined => (at ? groups[at.block]?.rows[at.place] : undefined);
  const open = (at: Place | null): void => {
    const gpu = fleet.gpus[rowAt(at) ?? -1];
    if (gpu !== undefined) navigate(gpuPath(gpu));
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === "Enter") open(over);
    else if (event.key === "Escape") setOver(null);
    else {
      const next = step(layout, over, event.key);
      if (!next) return;
      setOver(next);
    }
    event.preventDefault();
  };

  const row = rowAt(over);
  return (
    <div ref={box} className="relative" onPointerLeave={(event) => event.pointerType === "mouse" && setOver(null)}>
      <canvas
        ref={canvas}
        data-testid="fleet-heatmap"
        role="img"
        aria-label={`${metricTitle(metric)} of ${plural(statuses.length, "GPU")}, a square each. Arrow keys walk, Enter opens; the table below holds the same.`}
        tabIndex={0}
        className="block cursor-pointer touch-manipulation"
        style={{ width: layout.width, height: layout.height }}
        onPointerMove={(event) => event.pointerType === "mouse" && setOver(find(event))}
        onPointerUp={(event) => {
          const at = find(event);
          if (event.pointerType === "mouse") open(at);
          else setOver(at);
        }}
        onKeyDown={onKey}
        onBlur={(event) => box.current?.contains(event.relatedTarget) || setOver(null)}
      />
      {over && row !== undefined && (
        <Marked layout={layout} at={over} boxWidth={width}>
          <strong className="block truncate font-semibold">{gpuLabel(fleet, row)}</strong>
          <span className="block truncate text-muted">{fleet.models[row]}</span>
          <span className="mt-1 block">
            {metricTitle(metric)} <strong className="font-semibold">{say(valueAt(fleet, metric, row), unit)}</strong>
          </span>
          <StatusLine status={statuses[row] as Status} age={fleet.clock - (fleet.times[row] as number)} />
          <a
            href={gpuPath(fleet.gpus[row] as string)}
            onClick={followLink}
            // Keeps the focus, and so the tooltip, where it is until the tap has become a click.
            onMouseDown={(event) => event.preventDefault()}
            className="pointer-coarse:pointer-events-auto mt-1 hidden underline underline-offset-2 pointer-coarse:inline-block"
          >
            Open this GPU
          </a>
        </Marked>
      )}
    </div>
  );
}

function StatusLine({ status, age }: { status: Status; age: number }) {
  if (status.level !== "ok")
    return (
      <>
        <StatusMark level={status.level}>{status.reason}</StatusMark>
        {status.alert && <span className="block text-muted">{summaryOf(status.alert)}</span>}
      </>
    );
  return <span className="text-muted">{age < 2 ? "newest sample" : ago(age)}</span>;
}

const TOOLTIP_WIDTH = 248;

/** The frame around a square, and what is said about it beside. */
function Marked({
  layout,
  at,
  boxWidth,
  children,
}: {
  layout: Layout;
  at: Place;
  boxWidth: number;
  children: React.ReactNode;
}) {
  const { x, y } = squareAt(layout, at.block, at.place);
  const right = x + layout.side + 10 + TOOLTIP_WIDTH <= boxWidth;
  const left = right ? x + layout.side + 10 : Math.max(0, Math.min(x - TOOLTIP_WIDTH - 10, boxWidth - TOOLTIP_WIDTH));
  const below = !right && x - TOOLTIP_WIDTH - 10 < 0;
  return (
    <>
      <span
        className="pointer-events-none absolute border-2 border-text outline outline-bg"
        style={{
          left: x - 2,
          top: y - 2,
          width: layout.side + 4,
          height: layout.side + 4,
          borderRadius: layout.side < 12 ? 1 : 5,
        }}
      />
      <div
        role="status"
        className="pointer-events-none absolute z-10 rounded-md border border-line bg-bg px-3 py-2 shadow-lg"
        style={{ left, top: below ? y + layout.side + 10 : y - 8, width: TOOLTIP_WIDTH }}
      >
        {children}
      </div>
    </>
  );
}

/** The square that an arrow key leads to. */
function step(layout: Layout, at: Place | null, key: string): Place | null {
  const moves: Record<string, [number, number]> = {
    ArrowRight: [1, 0],
    ArrowLeft: [-1, 0],
    ArrowDown: [0, 1],
    ArrowUp: [0, -1],
  };
  const move = moves[key];
  if (!move) return null;
  if (!at) return { block: 0, place: 0 };
  const block = layout.blocks[at.block];
  if (!block) return null;
  const column = (at.place % block.columns) + move[0];
  const place = at.place + move[0] + move[1] * block.columns;
  if (column >= 0 && column < block.columns && place >= 0 && place < block.count) return { block: at.block, place };
  // Out of the block: to the first square of the next, or the last of the one before.
  const next = at.block + Math.sign(move[0] + move[1]);
  const neighbour = layout.blocks[next];
  return neighbour ? { block: next, place: next > at.block ? 0 : neighbour.count - 1 } : at;
}
