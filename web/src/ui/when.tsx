/** An instant as people want it: how long ago, and on hover exactly when. */

import { ago, span, time, zoneName } from "../format";
import { useNow } from "./hooks";
import { useZone } from "./zone";

export function Ago({ at, bare = false }: { at: number; bare?: boolean }) {
  const zone = useZone();
  const now = useNow();
  if (Number.isNaN(at)) return "–";
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={`${time.full[zone](at)} ${zoneName(zone)}`}>
      {bare ? span(now - at) : ago(now - at)}
    </time>
  );
}

export function Instant({ at }: { at: number }) {
  const zone = useZone();
  const now = useNow();
  if (Number.isNaN(at)) return "–";
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={`${ago(now - at)}, ${zoneName(zone)}`}>
      {time.full[zone](at)}
    </time>
  );
}
