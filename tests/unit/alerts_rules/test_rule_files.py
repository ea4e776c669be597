"""Rule files: what is read from them, and how each mistake is refused with file, line and reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from telemetry.alerts.promql import TEXT_MAX
from telemetry.alerts.rule_files import RULES_MAX, load_rules, parse_rules
from telemetry.alerts.rules import RuleError

GOOD = """\
groups:
  - name: heat
    interval: 15s
    limit: 7
    rules:
      - record: gpu:hot
        expr: gpu_a > 80
        labels: {team: x}
      - alert: Hot
        expr: |
          avg_over_time(gpu:hot[10m])
            > 85
        for: 1m30s
        keep_firing_for: 5m
        labels:
          severity: warning
        annotations:
          summary: "{{ $labels.gpu }} has {{ $value }}"
  - name: default
    rules: []
"""


def rule(text: str, extra: str = "") -> str:
    return f"groups:\n- name: g\n  rules:\n  - alert: A\n    expr: {text}\n{extra}"


def refused(text: str) -> RuleError:
    with pytest.raises(RuleError) as caught:
        parse_rules([("rules.yaml", text)])
    return caught.value


def test_a_file_is_read_with_everything_in_it() -> None:
    rules = parse_rules([("rules.yaml", GOOD)])
    heat, default = rules.groups
    assert (heat.name, heat.line, heat.interval_us, heat.limit) == ("heat", 2, 15_000_000, 7)
    assert (default.interval_us, default.limit, default.rules) == (60_000_000, 0, ())
    recording, alerting = heat.rules
    assert (recording.record, recording.alert, recording.labels, recording.line) == ("gpu:hot", "", {"team": "x"}, 6)
    assert (alerting.alert, alerting.for_us, alerting.keep_firing_for_us) == ("Hot", 90_000_000, 300_000_000)
    assert alerting.annotate({"gpu": "3"}, 91.5) == {"summary": "3 has 91.5"}
    assert alerting.range_us == 600_000_000


def test_how_far_a_rule_looks_back_includes_what_others_record_for_it() -> None:
    text = """
groups:
- name: g
  rules:
  - {record: a, expr: "avg_over_time(gpu_a[5m] offset 1m)"}
  - {record: b, expr: "max_over_time(a[1h])"}
  - {alert: C, expr: "b > 1"}
"""
    assert [each.range_us // 60_000_000 for each in parse_rules([("f", text)])] == [6, 66, 66]


def test_a_rule_keeps_its_identity_while_only_its_expression_changes() -> None:
    (before,), (after,) = (parse_rules([("f", rule(text))]) for text in ("gpu_a > 1", "gpu_a > 2"))
    assert before.rule_id == after.rule_id
    twice = parse_rules([("f", rule("gpu_a > 1")), ("other", rule("gpu_a > 1"))])
    assert len({each.rule_id for each in twice}) == 2


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("groups: [", 2, "not YAML"),
        ("a: b: c", 1, "not YAML"),
        ("- a", 1, "the file has to be a mapping"),
        ("rules: []", 1, "the file has no field 'rules'"),
        ("groups:\n  name: x", 2, "groups has to be a list"),
        ("groups:\n- rules: []", 2, "a group has to have name"),
        ("groups:\n- name: a\n- name: a", 3, "the group 'a' is there already, in line 2"),
        ("groups:\n- name: a\n  name: b", 3, "'name' is there twice"),
        ("groups:\n- name: a\n  interval: soon", 3, "interval 'soon' is not a duration"),
        ("groups:\n- name: a\n  interval: 1500ms", 3, "whole number of seconds"),
        ("groups:\n- name: a\n  limit: -1", 3, "limit '-1'"),
        ("groups:\n- name: a\n  query_offset: 1m", 3, "query_offset of a group is not supported"),
        ("groups:\n- name: a\n  rules:\n  - expr: gpu_a", 4, "either alert or record"),
        ("groups:\n- name: a\n  rules:\n  - alert: A", 4, "a rule has to have expr"),
        ("groups:\n- name: a\n  rules:\n  - record: a-b\n    expr: x", 4, "'a-b' cannot be the name of a series"),
        ("groups:\n- name: a\n  rules:\n  - record: a\n    expr: x\n    for: 1m", 6, "a recording rule has no for"),
        ("groups:\n- name: a\n  rules:\n  - record: a\n    expr: x\n    labels: {a: '{{ $value }}'}", 6, "templates"),
        (rule("gpu_a >"), 5, "not PromQL"),
        (rule("frobnicate(gpu_a)"), 5, "unknown function with name 'frobnicate'"),
        (rule("histogram_quantile(0.9, gpu_a)"), 5, "the function histogram_quantile is not supported"),
        (rule("holt_winters(gpu_a[5m], 0.5, 0.5)"), 5, "holt_winters"),
        (rule("rate(gpu_a)"), 5, "expected type"),
        (rule("gpu_a[5m]"), 5, "a function such as rate"),
        (rule("max_over_time(rate(gpu_a[1m])[5m:])"), 5, "subqueries"),
        (rule("gpu_a @ 100 > 1"), 5, "modifier @"),
        (rule("gpu_a offset -5m"), 5, "the future"),
        (rule("avg_over_time(gpu_a[2d])"), 5, "looks back further than 24 hours"),
        (rule("'{__name__=~\"gpu_.*\"}'"), 5, "not match names"),
        (rule("'{Hostname=\"a\"}'"), 5, "name its metric"),
        (rule('\'gpu_a{a="b" or c="d"}\''), 5, "joined by 'or'"),
        (rule("'gpu_a{a=~\"(\"}'"), 5, "regex"),
        (rule("ALERTS > 1"), 5, "ALERTS is not supported"),
        (rule("sum by (__name__) (gpu_a)"), 5, "__name__"),
        (rule('count_values("v", gpu_a)'), 5, "the aggregation count_values is not supported"),
        (rule("limitk(3, gpu_a)"), 5, "limitk"),
        (rule('\'label_replace(gpu_a, "a-b", "", "c", "")\''), 5, "'a-b' cannot be used as a label"),
        (rule("timestamp(gpu_a + 1)"), 5, "timestamp takes a selector"),
        (rule("'\"text\"'"), 5, "stands where a number"),
        (rule("1 +" * 1000 + "1" + " " * TEXT_MAX), 5, "nested more than"),
        (rule("(" * TEXT_MAX + "1" + ")" * TEXT_MAX), 5, f"at most {TEXT_MAX} are allowed"),
        (rule("gpu_a", "    for: 5 minutes"), 6, "for '5 minutes' is not a duration"),
        (rule("gpu_a", "    labels: [a]"), 6, "labels has to be a mapping"),
        (rule("gpu_a", "    labels: {a-b: c}"), 6, "'a-b' cannot be used in labels"),
        (rule("gpu_a", "    labels: {alertname: c}"), 6, "'alertname' cannot be used in labels"),
        (rule("gpu_a", "    labels:\n      a:\n        b: c"), 8, "a has to be a text"),
        (rule("gpu_a", "    runbook: x"), 6, "a rule has no field 'runbook'; it may have"),
        (rule("gpu_a", "    annotations:\n      a: b\n      c: '{{ query \"x\" }}'"), 8, "query is not supported"),
        (rule("gpu_a", "    annotations: {a: '{{ if $value }}x{{ end }}'}"), 6, "if is not supported"),
        (rule("gpu_a", "    annotations: {a: '{{ $value'}"), 6, "{{ is not closed"),
        (rule("gpu_a", "    annotations: {a: '{{ $x }}'}"), 6, "$x is not supported"),
        (rule("gpu_a", "    annotations: {a: '{{ $value | printf \"%d\" }}'}"), 6, "%d is not supported"),
        (rule("gpu_a", "    annotations: {a: '{{ humanize }}'}"), 6, "humanize takes 1 argument here, not 0"),
        (rule("gpu_a", "    annotations: {a: '{{ $labels.__name__ }}'}"), 6, "name is not kept"),
        (
            rule("gpu_a", "    labels: {team: x}\n    annotations: {a: '{{ $labels.team }}'}"),
            7,
            "$labels.team is given by the rule itself",
        ),
        (rule("gpu_a", "  - alert: A\n    expr: gpu_b"), 6, "A is there already with the same labels, in line 4"),
        (
            "groups:\n- name: g\n  rules:\n"
            "  - {record: a, expr: c}\n  - {record: b, expr: a}\n  - {record: c, expr: b}",
            4,
            "series are recorded in a cycle: a from c from b from a",
        ),
        ("groups:\n- name: g\n  rules:\n  - record: a\n    expr: a + 1", 4, "cycle: a from a"),
        ("groups:\n- name: g\n  rules:\n" + "  - {record: a, expr: b}\n" * (RULES_MAX + 1), RULES_MAX + 4, "more than"),
        ("[" * 5000, None, "not"),
    ],
)
def test_a_mistake_is_refused_with_file_line_and_reason(text: str, line: int | None, reason: str) -> None:
    error = refused(text)
    assert error.file == "rules.yaml"
    assert reason in error.reason
    if line is not None:
        assert error.line == line
        assert str(error).startswith(f"rules.yaml:{line}: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=re.escape(f"{tmp_path / 'none.yaml'}: No such file")):
        load_rules([tmp_path / "none.yaml"])
    (tmp_path / "binary.yaml").write_bytes(b"groups: \xff")
    with pytest.raises(RuleError, match="not UTF-8 at byte 8"):
        load_rules([tmp_path / "binary.yaml"])
    (tmp_path / "large.yaml").write_bytes(b"#" * (5 << 20))
    with pytest.raises(RuleError, match="larger than 4 MiB"):
        load_rules([tmp_path / "large.yaml"])
    (tmp_path / "empty.yaml").write_bytes(b"")
    assert load_rules([tmp_path / "empty.yaml"]).groups == ()
