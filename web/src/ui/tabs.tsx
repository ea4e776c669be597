/** The parts of a page, as links: each has an address of its own. */

import { useEffect, useRef } from "react";
import { followLink } from "../router";

export interface Tab {
  name: string;
  title: string;
  href: string;
  /** How many there are; left out while unknown. */
  count?: number | undefined;
}

export function Tabs({ label, tabs, current }: { label: string; tabs: readonly Tab[]; current: string }) {
  const bar = useRef<HTMLElement>(null);
  // On a phone the bar is longer than the screen.
  // biome-ignore lint/correctness/useExhaustiveDependencies: when another is the current one
  useEffect(() => {
    const chosen = bar.current?.querySelector<HTMLElement>("[aria-current=page]");
    if (chosen && bar.current)
      bar.current.scrollLeft = chosen.offsetLeft - (bar.current.clientWidth - chosen.offsetWidth) / 2;
  }, [current]);
  return (
    <nav ref={bar} aria-label={label} className="relative flex overflow-x-auto border-b border-line px-1 sm:px-3">
      {tabs.map(({ name, title, href, count }) => (
        <a
          key={name}
          href={href}
          onClick={followLink}
          aria-current={name === current ? "page" : undefined}
          className="relative flex h-11 items-center gap-1.5 px-3 whitespace-nowrap text-muted outline-offset-[-2px] hover:text-text aria-[current=page]:font-semibold aria-[current=page]:text-text aria-[current=page]:after:absolute aria-[current=page]:after:inset-x-3 aria-[current=page]:after:bottom-0 aria-[current=page]:after:h-0.5 aria-[current=page]:after:bg-text"
        >
          {title}
          {count !== undefined && (
            <span className="min-w-5 rounded-full bg-raised px-1.5 text-center text-small font-normal text-muted">
              {count.toLocaleString("en-GB")}
            </span>
          )}
        </a>
      ))}
    </nav>
  );
}
