/** Which GPU it is, in one line, and its neighbours on the host. */

import { useAlerts } from "../alerts/store";
import type { Gpu } from "../api";
import { css, inkOn, scaleFor } from "../colour";
import { type Fleet, gpuLabel, valueAt } from "../fleet/fleet";
import { assess } from "../fleet/status";
import { say } from "../format";
import { followLink, gpuPath } from "../router";
import { CopyButton } from "../ui/copy";
import { StatusMark } from "../ui/status";

/** Labels that the line says already. */
const SAID = new Set(["uuid", "host", "index", "model", "gpu"]);

export function Identity({ gpu, fleet }: { gpu: Gpu; fleet: Fleet | null }) {
  const row = fleet?.rows.get(gpu.gpu);
  const { loud } = useAlerts();
  const status = fleet && row !== undefined ? assess(fleet, row, loud) : null;
  const name = gpu.host && gpu.index ? `${gpu.host} / ${gpu.index}` : gpu.gpu;
  const labels = Object.entries(gpu.labels).filter(([label, value]) => value && !SAID.has(label));
  return (
    <div className="flex min-w-0 flex-1 basis-96 flex-wrap items-baseline gap-x-5 gap-y-1">
      <h1 className="text-large font-semibold break-all">{name}</h1>
      {/* What an alert says stands above, in a line of its own. */}
      {status && !status.alert && <StatusMark level={status.level}>{status.reason || "ok"}</StatusMark>}
      {gpu.model && <span>{gpu.model}</span>}
      <span className="inline-flex min-w-0 items-center gap-1 text-muted">
        <span className="break-all">{gpu.gpu}</span>
        <CopyButton text={gpu.gpu} what="the identity" />
      </span>
      {labels.map(([label, value]) => (
        <span key={label} className="text-muted">
          {label.replaceAll("_", " ").toLowerCase()} <span className="text-text">{value}</span>
        </span>
      ))}
    </div>
  );
}

const NEIGHBOURS_MAX = 16;
const UTILIZATION = scaleFor("utilization", { min: 0, max: 100 });

/** The rows on the same host, by index; empty when there are none, or too many to be neighbours. */
export function neighbours(fleet: Fleet | null, gpu: string): number[] {
  const host = fleet?.hosts[fleet.rows.get(gpu) ?? -1];
  if (!fleet || !host) return [];
  const rows = fleet.gpus.map((_, row) => row).filter((row) => fleet.hosts[row] === host);
  if (rows.length > NEIGHBOURS_MAX) return [];
  return rows.sort((a, b) => Number(fleet.indexes[a]) - Number(fleet.indexes[b]));
}

export function Neighbours({ fleet, rows, current }: { fleet: Fleet; rows: readonly number[]; current: string }) {
  if (rows.length < 2) return null;
  return (
    <nav aria-label="GPUs of this host" className="flex flex-wrap items-center gap-1.5">
      {rows.map((row) => {
        const gpu = fleet.gpus[row] as string;
        const value = valueAt(fleet, "utilization", row);
        const colour = Number.isNaN(value) ? null : UTILIZATION(value);
        return (
          <a
            key={gpu}
            href={gpuPath(gpu) + window.location.search}
            onClick={followLink}
            aria-current={gpu === current ? "true" : undefined}
            aria-label={`${gpuLabel(fleet, row)}, utilisation ${say(value, "%")}`}
            title={`${gpuLabel(fleet, row)} · ${say(value, "%")}`}
            className="flex size-8 items-center justify-center rounded outline-offset-1 aria-[current=true]:outline-2 aria-[current=true]:outline-text"
            style={colour ? { background: css(colour), color: inkOn(colour) } : { background: "var(--empty)" }}
          >
            {fleet.indexes[row] || "·"}
          </a>
        );
      })}
    </nav>
  );
}
