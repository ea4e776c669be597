/** Numbers, sizes, ages and times as people read them; rounded to what matters, with the unit beside. */

export interface Quantity {
  text: string;
  unit: string;
}

const NONE: Quantity = { text: "–", unit: "" };

function rounded(value: number, digits: number): string {
  return value.toLocaleString("en-GB", { maximumFractionDigits: digits, minimumFractionDigits: digits });
}

/** Three significant digits below a thousand, whole numbers above; never "1.00" for 1. */
function significant(value: number): string {
  const size = Math.abs(value);
  const digits = Number.isInteger(value) || size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
  return rounded(value, digits);
}

/** Units that take prefixes: how much one is more than the one before, and what they are called. */
const PREFIXED: Readonly<Record<string, { base: number; units: readonly string[] }>> = {
  MiB: { base: 1024, units: ["MiB", "GiB", "TiB", "PiB"] },
  B: { base: 1024, units: ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] },
  W: { base: 1000, units: ["W", "kW", "MW"] },
  J: { base: 1000, units: ["J", "kJ", "MJ", "GJ", "TJ"] },
  "": { base: 1000, units: ["", "k", "M", "G", "T"] },
  "/s": { base: 1000, units: ["/s", "k/s", "M/s", "G/s"] },
};

/** The prefix people would say `value` with: what to divide by, and the unit then. */
export function prefixFor(value: number, unit: string): { factor: number; unit: string } {
  const prefixed = PREFIXED[unit];
  let [factor, power] = [1, 0];
  while (prefixed && Math.abs(value) >= factor * prefixed.base && power < prefixed.units.length - 1) {
    factor *= prefixed.base;
    power += 1;
  }
  return { factor, unit: prefixed?.units[power] ?? unit };
}

/** A value in its catalogue unit, brought to the prefix people would say it with. */
export function quantity(value: number | null | undefined, unit: string): Quantity {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  switch (unit) {
    case "%":
      return { text: rounded(value, value >= 0.05 && value < 10 && !Number.isInteger(value) ? 1 : 0), unit };
    case "°C":
    case "MHz":
      return { text: rounded(value, 0), unit };
    case "s":
      return duration(value);
    default: {
      const prefix = prefixFor(value, unit);
      const whole = unit === "W" && prefix.factor === 1;
      const scaled = value / prefix.factor;
      return { text: whole ? rounded(scaled, 0) : significant(scaled), unit: prefix.unit };
    }
  }
}

/** Values of one axis: all with the same prefix, without the unit. */
export function ticks(values: readonly number[], unit: string): string[] {
  const { factor } = prefixFor(Math.max(...values.map(Math.abs)), unit);
  return values.map((value) => (value / factor).toLocaleString("en-GB", { maximumSignificantDigits: 4 }));
}

/** `quantity` as one string: "72 °C", "45 %", "1.24 kW", "12.3 k/s". */
export function say(value: number | null | undefined, unit: string): string {
  const { text, unit: shown } = quantity(value, unit);
  return shown ? `${text}${shown === "/s" ? "" : " "}${shown}` : text;
}

/** The exact value, for hovering. */
export function exact(value: number | null | undefined, unit: string): string {
  return value === null || value === undefined || !Number.isFinite(value) ? "no value" : `${value} ${unit}`.trim();
}

function duration(seconds: number): Quantity {
  if (seconds === 0) return { text: "0", unit: "s" };
  if (seconds < 1e-3) return { text: significant(seconds * 1e6), unit: "µs" };
  if (seconds < 1) return { text: significant(seconds * 1e3), unit: "ms" };
  if (seconds < 120) return { text: significant(seconds), unit: "s" };
  const [text, unit] = span(seconds).split(" ");
  return { text: text ?? "", unit: unit ?? "" };
}

/** A length of time in its largest whole unit: "3 s", "12 min", "5 h", "142 d". */
export function span(seconds: number): string {
  if (!Number.isFinite(seconds)) return NONE.text;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  if (whole < 172_800) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86_400)} d`;
}

export const ago = (seconds: number): string =>
  seconds < 1 ? "just now" : Number.isFinite(seconds) ? `${span(seconds)} ago` : "never";

export type Zone = "local" | "utc";

function timeFormat(zone: Zone, options: Intl.DateTimeFormatOptions): (seconds: number) => string {
  const format = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone === "utc" ? "UTC" : undefined });
  return (seconds) => (Number.isFinite(seconds) ? format.format(seconds * 1000) : "never");
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit" } as const;
const DAY = { day: "numeric", month: "short", year: "numeric" } as const;

function zoned(options: Intl.DateTimeFormatOptions): Record<Zone, (seconds: number) => string> {
  return { local: timeFormat("local", options), utc: timeFormat("utc", options) };
}

/** Ways to write an instant (seconds since 1970), in each zone. */
export const time = {
  full: zoned({ ...DAY, ...CLOCK }),
  clock: zoned(CLOCK),
  minute: zoned({ hour: "2-digit", minute: "2-digit" }),
  day: zoned({ day: "numeric", month: "short" }),
};

/** The zone's short name: "UTC", "CEST", "GMT+2". */
export function zoneName(zone: Zone): string {
  if (zone === "utc") return "UTC";
  const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts();
  return parts.find((part) => part.type === "timeZoneName")?.value ?? "local time";
}

/** RFC 3339 to seconds since 1970; NaN when there is none. */
export const seconds = (instant: string | null | undefined): number => (instant ? Date.parse(instant) / 1000 : NaN);

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en-GB")} ${count === 1 ? one : many}`;
}
