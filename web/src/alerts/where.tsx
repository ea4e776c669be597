/** What an alert is about, as links: the GPU, or the host. */

import { gpuLabel } from "../fleet/fleet";
import { useLive } from "../live";
import { followLink, gpuPath, withQuery } from "../router";

export function GpuLink({ gpu, className = "link" }: { gpu: string; className?: string }) {
  const { fleet } = useLive();
  const row = fleet?.rows.get(gpu);
  return (
    <a href={gpuPath(gpu)} onClick={followLink} title={gpu} className={className}>
      {fleet && row !== undefined ? gpuLabel(fleet, row) : gpu}
    </a>
  );
}

export function HostLink({ host, className = "link" }: { host: string; className?: string }) {
  return (
    <a href={`/${withQuery("", { filter: `host:${host}` })}`} onClick={followLink} className={className}>
      {host}
    </a>
  );
}

/** The GPU, else the host; nothing where it is about neither. */
export function Where({ gpu, host, className }: { gpu: string; host: string; className?: string }) {
  if (gpu) return <GpuLink gpu={gpu} {...(className ? { className } : {})} />;
  return host ? <HostLink host={host} {...(className ? { className } : {})} /> : <span className="text-muted">–</span>;
}
