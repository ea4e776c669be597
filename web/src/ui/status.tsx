/** The four levels, the same everywhere: an icon of its own shape, a colour, and a word. */

import type { Level } from "../fleet/status";
import { Icon } from "./icons";

const COLOURS: Record<Level, string> = {
  ok: "text-ok",
  warning: "text-warning",
  critical: "text-critical",
  unknown: "text-unknown",
};

export function StatusMark({ level, children, size = 14 }: { level: Level; children?: string; size?: number }) {
  return (
    <span className={`inline-flex max-w-full items-center gap-1.5 align-bottom ${COLOURS[level]}`}>
      <Icon name={level} size={size} label={children ? undefined : level} />
      {children && <span className="truncate">{children}</span>}
    </span>
  );
}
