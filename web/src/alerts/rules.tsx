/** The rules in force, by group: which are at work, which fire, and which cannot be evaluated. */

import { seconds, span } from "../format";
import { followLink } from "../router";
import { Icon } from "../ui/icons";
import { Ago } from "../ui/when";
import type { Rule, Rules } from "./api";
import { CloseLink, RuleFacts } from "./detail";
import { SeverityMark } from "./severity";
import { writeView } from "./view";

export function RuleList({ rules, open, search }: { rules: Rules; open: string; search: string }) {
  return (
    <div data-testid="rule-list">
      {rules.groups.map((group) => (
        <section
          key={`${group.file} ${group.name}`}
          aria-label={`Group ${group.name}`}
          className="border-b border-line"
        >
          <h2 className="flex flex-wrap items-baseline gap-x-3 px-4 pt-4 pb-1 font-semibold sm:px-6">
            {group.name}
            <span className="text-small font-normal text-muted">every {span(group.interval_s)}</span>
          </h2>
          <ul>
            {group.rules.map((rule) => (
              <li
                key={rule.id}
                className={`relative grid grid-cols-[1rem_minmax(0,1fr)_auto] gap-x-3 px-4 py-2 hover:bg-raised sm:px-6 ${rule.id === open ? "bg-raised shadow-[inset_3px_0_0_var(--text)]" : ""}`}
              >
                {rule.type === "recording" ? (
                  <span />
                ) : (
                  <SeverityMark severity={rule.labels.severity ?? ""} quiet={rule.state === "inactive"} />
                )}
                <div className="min-w-0">
                  <a
                    href={`/alerts${writeView(search, { ruleId: rule.id })}`}
                    onClick={followLink}
                    aria-current={rule.id === open ? "true" : undefined}
                    className="after:absolute after:inset-0"
                  >
                    {rule.name}
                  </a>
                  <code className="block truncate text-small text-muted">{rule.expr}</code>
                  {rule.health === "err" && (
                    <span className="flex items-center gap-1.5 text-critical">
                      <Icon name="critical" size={14} />
                      {rule.last_error}
                    </span>
                  )}
                </div>
                <RuleState rule={rule} />
              </li>
            ))}
          </ul>
        </section>
      ))}
      <p className="px-4 py-3 text-muted sm:px-6">
        Loaded <Ago at={seconds(rules.loaded_at)} />.
      </p>
    </div>
  );
}

function RuleState({ rule }: { rule: Rule }) {
  if (rule.type === "recording") return <span className="text-muted">recorded</span>;
  return (
    <span className="text-right">
      {rule.state === "inactive" ? (
        <span className="text-muted">inactive</span>
      ) : (
        <span className={rule.state === "firing" ? "font-semibold" : ""}>
          {rule.active} {rule.state}
        </span>
      )}
      <span className="block text-small text-muted">{rule.for_s > 0 ? `for ${span(rule.for_s)}` : "at once"}</span>
    </span>
  );
}

export function RuleDetail({
  rules,
  id,
  closeHref,
  search,
}: {
  rules: Rules;
  id: string;
  closeHref: string;
  search: string;
}) {
  const group = rules.groups.find((one) => one.rules.some((rule) => rule.id === id));
  const rule = group?.rules.find((one) => one.id === id);
  if (!group || !rule) return <p className="px-6 py-8 text-muted">This rule is not in force any more.</p>;
  return (
    <article aria-label={rule.name}>
      <div className="flex items-start justify-between gap-3 px-4 pt-4 sm:px-6">
        <h2 className="font-semibold">{rule.name}</h2>
        <CloseLink href={closeHref} />
      </div>
      {rule.annotations.summary && <p className="px-4 text-muted sm:px-6">{rule.annotations.summary}</p>}
      <RuleFacts rule={rule} group={group} />
      <p className="flex gap-4 px-4 py-4 sm:px-6">
        {rule.active > 0 && (
          <a
            href={`/alerts${writeView(search, { tab: rule.state === "firing" ? "firing" : "pending", rule: rule.name, ruleId: "" })}`}
            onClick={followLink}
            className="link"
          >
            Its alerts
          </a>
        )}
        <a
          href={`/alerts${writeView(search, { tab: "history", rule: rule.name, ruleId: "" })}`}
          onClick={followLink}
          className="link"
        >
          Its history
        </a>
      </p>
    </article>
  );
}
