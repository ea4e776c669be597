/** The page's icons: 16 × 16, drawn with the text's colour. */

import type { ReactNode } from "react";

const SHAPES = {
  fleet: (
    <>
      <rect x="2" y="2" width="5" height="5" rx="1" />
      <rect x="9" y="2" width="5" height="5" rx="1" />
      <rect x="2" y="9" width="5" height="5" rx="1" />
      <rect x="9" y="9" width="5" height="5" rx="1" />
    </>
  ),
  gpu: (
    <>
      <path d="M1.5 2v12M1.5 4h13v7h-13" />
      <circle cx="9" cy="7.5" r="2" />
      <path d="M4 11v2h6v-2" />
    </>
  ),
  queue: (
    <>
      <path d="M2 3.5h12M2 8h12M2 12.5h7" />
      <path d="m11 10.5 2 2-2 2" />
    </>
  ),
  alerts: (
    <>
      <path d="M3.5 11.5c1-1 1-2 1-4.5a3.5 3.5 0 0 1 7 0c0 2.5 0 3.5 1 4.5Z" />
      <path d="M6.7 13.8c.3.5.7.7 1.3.7s1-.2 1.3-.7" />
    </>
  ),
  silenced: (
    <>
      <path d="M5.2 4.8a3.5 3.5 0 0 1 6.3 2.2c0 1.5 0 2.5.3 3.2M10.5 11.5h-7c1-1 1-2 1-4.5" />
      <path d="M6.7 13.8c.3.5.7.7 1.3.7s1-.2 1.3-.7M2 2l12 12" />
    </>
  ),
  health: <path d="M1.5 8.5h3l2-5 3 9 2-4h3" />,
  search: (
    <>
      <circle cx="7" cy="7" r="4.5" />
      <path d="m10.5 10.5 3.5 3.5" />
    </>
  ),
  dark: <path d="M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7Z" />,
  light: (
    <>
      <circle cx="8" cy="8" r="3" />
      <path d="M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1" />
    </>
  ),
  system: (
    <>
      <rect x="1.5" y="2.5" width="13" height="9" rx="1" />
      <path d="M5.5 14h5" />
    </>
  ),
  pause: <path d="M5.5 3.5v9M10.5 3.5v9" />,
  play: <path d="M5 3.5v9l7-4.5Z" />,
  copy: (
    <>
      <rect x="5.5" y="5.5" width="8" height="8" rx="1" />
      <path d="M10.5 5.5v-3h-8v8h3" />
    </>
  ),
  ok: <path d="m3 8.5 3.5 3.5L13 4.5" />,
  warning: (
    <>
      <path d="M8 2 14.5 13.5h-13Z" />
      <path d="M8 6.5v3M8 11.5v.2" />
    </>
  ),
  critical: (
    <>
      <path d="M5.4 1.5h5.2l3.9 3.9v5.2l-3.9 3.9H5.4l-3.9-3.9V5.4Z" />
      <path d="M8 4.8v4M8 11v.2" />
    </>
  ),
  unknown: (
    <>
      <circle cx="8" cy="8" r="6.5" strokeDasharray="2.2 1.9" />
      <path d="M6.3 6.3a1.8 1.8 0 1 1 2.4 1.8c-.5.2-.7.5-.7 1M8 11.3v.2" />
    </>
  ),
  info: (
    <>
      <circle cx="8" cy="8" r="6.5" />
      <path d="M8 7.3v4M8 4.7v.2" />
    </>
  ),
  waiting: (
    <>
      <circle cx="8" cy="8" r="6.5" />
      <path d="M8 4.5V8l2.3 1.5" />
    </>
  ),
  close: <path d="m3.5 3.5 9 9M12.5 3.5l-9 9" />,
  previous: <path d="m10 3-5 5 5 5" />,
  next: <path d="m6 3 5 5-5 5" />,
  keyboard: (
    <>
      <rect x="1" y="4" width="14" height="8.5" rx="1" />
      <path d="M3.5 6.5h.5M6 6.5h.5M9 6.5h.5M11.5 6.5h.5M4.5 10h7" />
    </>
  ),
} satisfies Record<string, ReactNode>;

export type IconName = keyof typeof SHAPES;

/** Decoration unless it has a label. */
export function Icon({ name, size = 16, label }: { name: IconName; size?: number; label?: string }) {
  return (
    // biome-ignore lint/a11y/noSvgWithoutTitle: named by aria-label, or hidden
    <svg
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.5"
      strokeLinecap="round"
      strokeLinejoin="round"
      className="inline-block shrink-0"
      {...(label ? { role: "img", "aria-label": label } : { "aria-hidden": true })}
    >
      {SHAPES[name]}
    </svg>
  );
}
