/** A part of the page that scrolls by itself, and that the keyboard can reach to do so. */

import type { ReactNode } from "react";

export function Scrollable({ label, className, children }: { label: string; className: string; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by key
    <section aria-label={label} tabIndex={0} className={className}>
      {children}
    </section>
  );
}
