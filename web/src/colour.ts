/** Colour scales: one hue order that survives colour blindness, and cool to hot for temperatures. */

export type Rgb = readonly [red: number, green: number, blue: number];

/** Viridis, at equal steps. */
const VIRIDIS = [
  "#440154",
  "#482878",
  "#3e4a89",
  "#31688e",
  "#26828e",
  "#1f9e89",
  "#35b779",
  "#6ece58",
  "#b5de2b",
  "#fde725",
];

/** Cool to hot; blue and red stay apart for every kind of colour vision, and lightness peaks in the middle. */
const COOL_TO_HOT = ["#2f5fa8", "#4a8fc4", "#86bdd2", "#c9dcc0", "#f3d88a", "#f3aa58", "#e2703f"];

/** At and above the slowdown point. */
const TOO_HOT: Rgb = [196, 18, 48];

export interface Domain {
  min: number;
  max: number;
  /** Where the meaning changes: the slowdown point of a temperature. */
  threshold?: number;
}

export type Scale = (value: number) => Rgb;

function parse(hex: string): Rgb {
  const value = Number.parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

function interpolate(stops: readonly Rgb[], position: number): Rgb {
  const at = Math.min(1, Math.max(0, position)) * (stops.length - 1);
  const below = stops[Math.floor(at)] as Rgb;
  const above = stops[Math.ceil(at)] as Rgb;
  const part = at - Math.floor(at);
  return [0, 1, 2].map((i) =>
    Math.round((below[i] as number) * (1 - part) + (above[i] as number) * part),
  ) as unknown as Rgb;
}

const STOPS = { viridis: VIRIDIS.map(parse), coolToHot: COOL_TO_HOT.map(parse) };

export const isTemperature = (metric: string): boolean => metric.includes("temperature");

export function scaleFor(metric: string, domain: Domain): Scale {
  const stops = isTemperature(metric) ? STOPS.coolToHot : STOPS.viridis;
  const threshold = domain.threshold ?? Number.POSITIVE_INFINITY;
  const top = Math.min(domain.max, threshold);
  const width = top - domain.min || 1;
  return (value) => (value >= threshold ? TOO_HOT : interpolate(stops, (value - domain.min) / width));
}

export const css = ([red, green, blue]: Rgb): string => `rgb(${red} ${green} ${blue})`;

/** Relative luminance as WCAG defines it, 0–1. */
export function luminance(colour: Rgb): number {
  const [red, green, blue] = colour.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Black or white, whichever reads better on `colour`. */
export const inkOn = (colour: Rgb): string => (luminance(colour) > 0.179 ? "#000" : "#fff");

/** The next "round" number at or above `value`: 1, 2, 2.5 or 5 times a power of ten. */
export function roundUp(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= value * (1 - 1e-9)) ?? 10;
  return step * power;
}
