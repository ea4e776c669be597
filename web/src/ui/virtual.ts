/** Which rows of a long list are on the screen, when all have one height and the page itself scrolls. */

import { type RefObject, useEffect, useState } from "react";

/** Rows kept ready above and below. */
const OVERSCAN = 12;

export interface Window {
  first: number;
  /** One past the last. */
  end: number;
}

/** `top` is where the list begins, relative to the screen's upper edge. */
export function visibleRows(top: number, screen: number, count: number, height: number): Window {
  const first = Math.floor(-top / height) - OVERSCAN;
  const end = Math.ceil((screen - top) / height) + OVERSCAN;
  return { first: Math.min(count, Math.max(0, first)), end: Math.min(count, Math.max(0, end)) };
}

export function useVisibleRows(list: RefObject<HTMLElement | null>, count: number, height: number): Window {
  const [shown, setShown] = useState<Window>({ first: 0, end: Math.min(count, 40) });
  useEffect(() => {
    const look = (): void => {
      if (!list.current) return;
      const next = visibleRows(list.current.getBoundingClientRect().top, window.innerHeight, count, height);
      setShown((last) => (last.first === next.first && last.end === next.end ? last : next));
    };
    look();
    window.addEventListener("scroll", look, { passive: true });
    window.addEventListener("resize", look);
    // The list moves without a scroll when what stands above it grows.
    const observer = new ResizeObserver(look);
    observer.observe(document.body);
    return () => {
      window.removeEventListener("scroll", look);
      window.removeEventListener("resize", look);
      observer.disconnect();
    };
  }, [list, count, height]);
  return { first: Math.min(shown.first, count), end: Math.min(shown.end, count) };
}
