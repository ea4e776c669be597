/** What of a rule's expression can be drawn: the metrics it looks at, and a limit where it has one that is a plain value. */

import type { Catalogue } from "../metrics";

export interface Limit {
  metric: string;
  operator: string;
  /** A number, or the metric that holds it. */
  value: number | string;
}

export interface Reading {
  /** In the order in which they occur. */
  metrics: string[];
  limit: Limit | null;
}

const SERIES = String.raw`\b(?:DCGM_(?:FI|EXP)_[A-Z0-9_]+|gpu_[a-zA-Z0-9_]+)\b`;
const NUMBER = String.raw`-?\d+(?:\.\d+)?(?:e[+-]?\d+)?`;
/** Functions after which a value is still one of the metric's. */
const SAME = "(?:avg|min|max|last)_over_time";
const OPERAND = String.raw`(?:${SAME}\(\s*(${SERIES})\s*\[[^\]]*\]\s*\)|(${SERIES}))`;
/** What is computed with first, is no value of the metric any more. */
const COMPARISON = new RegExp(
  String.raw`(?<![-+*/%^]\s*)${OPERAND}\s*(>=|<=|>|<)\s*(?:bool\s+)?(?:(${NUMBER})(?![\w.])|(${SERIES}))(?!\s*[-+*/%^[])`,
);

/** The gateway's names of the metrics of series; names that it does not know are left out. */
function names(catalogue: Catalogue): (series: string) => string | null {
  const bySeries = new Map([...catalogue.values()].filter(({ dcgm }) => dcgm).map(({ dcgm, name }) => [dcgm, name]));
  return (series) => bySeries.get(series) ?? (series.startsWith("gpu_") ? series.slice("gpu_".length) : null);
}

export function readExpression(expression: string, catalogue: Catalogue): Reading {
  const nameOf = names(catalogue);
  const found = expression.match(new RegExp(SERIES, "g")) ?? [];
  const metrics = [...new Set(found.map(nameOf).filter((name) => name !== null))];
  const [, inside, plain, operator, number, other] = COMPARISON.exec(expression) ?? [];
  const series = inside ?? plain ?? "";
  const metric = nameOf(series);
  if (!metric || !operator) return { metrics, limit: null };
  if (number !== undefined) {
    // DCGM's ratios are shares of one, those of the gateway percent.
    const factor = series.startsWith("DCGM_FI_PROF_") && catalogue.get(metric)?.unit === "%" ? 100 : 1;
    return { metrics, limit: { metric, operator, value: Number(number) * factor } };
  }
  const value = nameOf(other ?? "");
  return { metrics, limit: value ? { metric, operator, value } : null };
}
