/** Which alerts a silence would hold back, and what a silence of an alert is filled with to begin with. */

import type { Alert, Matcher } from "./api";

/** Null where the expression is none. */
function pattern(text: string): RegExp | null {
  try {
    return new RegExp(`^(?:${text})$`, "s");
  } catch {
    return null;
  }
}

/** Why it cannot be used; empty when it can. */
export function problemOf(matcher: Matcher): string {
  if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(matcher.name)) return "A label’s name has letters, digits and underscores.";
  const regular = matcher.op === "=~" || matcher.op === "!~";
  return regular && !pattern(matcher.value) ? `“${matcher.value}” is no regular expression.` : "";
}

export function matches(matchers: readonly Matcher[], labels: Readonly<Record<string, string>>): boolean {
  return matchers.every(({ name, value, op }) => {
    const label = labels[name] ?? "";
    if (op === "=" || op === "!=") return (label === value) === (op === "=");
    return (pattern(value)?.test(label) ?? false) === (op === "=~");
  });
}

/** The narrowest that lasts: the rule and what it is about, without labels that come and go. */
export function matchersFor(alert: Alert): Matcher[] {
  const wanted = ["alertname", ...(alert.labels.UUID ? ["UUID"] : ["Hostname", "host"])];
  const found = wanted.flatMap((name) => {
    const value = alert.labels[name] ?? (name === "alertname" ? alert.rule : "");
    return value ? [{ name, value, op: "=" as const }] : [];
  });
  if (found.length > 1) return found;
  // About neither a GPU nor a host: all it has, but for what only says how bad it is.
  const others = Object.entries(alert.labels).filter(([name]) => name !== "alertname" && name !== "severity");
  return [...found, ...others.map(([name, value]) => ({ name, value, op: "=" as const }))];
}
