/** What the heatmap's colours and shapes mean. */

import { useId } from "react";
import { css, type Domain, type Scale } from "../colour";
import { quantity } from "../format";

const STOPS = 24;

export function Legend({ scale, domain, unit, title }: { scale: Scale; domain: Domain; unit: string; title: string }) {
  const { min, max, threshold } = domain;
  const at = (share: number): number => min + (max - min) * share;
  const stops = Array.from({ length: STOPS }, (_, stop) => {
    const [from, to] = [stop / STOPS, (stop + 1) / STOPS];
    return `${css(scale(at(from)))} ${from * 100}% ${to * 100}%`;
  });
  const ticks = [min, at(0.5), max].map((value) => quantity(value, unit));
  return (
    <div className="flex flex-wrap items-start gap-x-8 gap-y-3 pt-4 text-small text-muted">
      <figure className="w-72 max-w-full" aria-label={`Colour scale of ${title}`}>
        <div
          className="relative h-2.5 rounded-sm"
          style={{ background: `linear-gradient(90deg, ${stops.join(", ")})` }}
        >
          {threshold !== undefined && (
            <span
              className="absolute -inset-y-1 w-0.5 bg-text"
              style={{ left: `${(100 * (threshold - min)) / (max - min)}%` }}
            />
          )}
        </div>
        <figcaption className="mt-1 flex justify-between">
          {ticks.map(({ text, unit: shown }, place) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: the ticks are a fixed row
            <span key={place}>
              {text} {shown}
            </span>
          ))}
        </figcaption>
      </figure>
      {threshold !== undefined && <span>│ slows down at {threshold} °C</span>}
      <ShapeKeys />
    </div>
  );
}

function ShapeKeys() {
  const hatch = useId();
  return (
    <ul className="flex flex-wrap gap-x-4 gap-y-1">
      <Key text="lost">
        <pattern id={hatch} width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <path d="M0 0v4" stroke="var(--hatch)" strokeWidth="2.5" />
        </pattern>
        <rect width="12" height="12" rx="2" fill="var(--empty)" />
        <rect width="12" height="12" rx="2" fill={`url(#${hatch})`} />
      </Key>
      <Key text="stale">
        <rect width="12" height="12" rx="2" fill="#21918c" opacity="0.35" />
      </Key>
      <Key text="alert, critical">
        <rect width="12" height="12" rx="2" fill="#21918c" />
        <rect x="1" y="1" width="10" height="10" rx="1" fill="none" stroke="var(--critical)" strokeWidth="2" />
      </Key>
      <Key text="warning">
        <rect width="12" height="12" rx="2" fill="#21918c" />
        <path d="M6 0h6v6Z" fill="var(--warning)" />
      </Key>
      <Key text="no value">
        <rect width="12" height="12" rx="2" fill="var(--empty)" />
      </Key>
    </ul>
  );
}

function Key({ text, children }: { text: string; children: React.ReactNode }) {
  return (
    <li className="flex items-center gap-1.5">
      <svg width="12" height="12" aria-hidden>
        {children}
      </svg>
      {text}
    </li>
  );
}
