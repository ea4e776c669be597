/** Dark, light, or as the system says; and a way for canvases to read the theme's colours. */

import { useMemo, useSyncExternalStore } from "react";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const CHANGED = "themechange";
const systemDark = window.matchMedia("(prefers-color-scheme: dark)");

function chosen(): Theme {
  const theme = document.documentElement.dataset.theme;
  return theme === "dark" || theme === "light" ? theme : "system";
}

export function chooseTheme(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // It holds until the page is left, then.
  }
  window.dispatchEvent(new Event(CHANGED));
}

function subscribe(listener: () => void): () => void {
  window.addEventListener(CHANGED, listener);
  systemDark.addEventListener("change", listener);
  return () => {
    window.removeEventListener(CHANGED, listener);
    systemDark.removeEventListener("change", listener);
  };
}

export const useTheme = (): Theme => useSyncExternalStore(subscribe, chosen);

const COLOURS = [
  "bg",
  "raised",
  "line",
  "line-strong",
  "text",
  "muted",
  "critical",
  "warning",
  "empty",
  "hatch",
  "line-1",
  "line-2",
  "line-3",
] as const;
export type Colours = Record<(typeof COLOURS)[number], string>;

/** The theme's colours as they are now, for drawing. */
export function useColours(): Colours {
  const name = useSyncExternalStore(subscribe, () => `${chosen()} ${systemDark.matches}`);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the colours change with the theme's name
  return useMemo(() => {
    const style = getComputedStyle(document.documentElement);
    return Object.fromEntries(COLOURS.map((key) => [key, style.getPropertyValue(`--${key}`).trim()])) as Colours;
  }, [name]);
}
