"""Expressions, alerts and their texts against a real Prometheus over the same samples."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from telemetry.alerts.alert import ALERT_NAME, Alert, State, fingerprint
from telemetry.alerts.evaluate import Evaluator
from telemetry.alerts.process import PACK
from telemetry.alerts.promql import ExpressionError, compile_expression
from telemetry.alerts.replay import replay_steps, wanted_metrics
from telemetry.alerts.rule_files import parse_rules
from telemetry.alerts.rules import RuleSet
from telemetry.alerts.state import Sample, advance
from telemetry.alerts.templates import Template
from telemetry.alerts.vectors import EvaluationError, Vector
from telemetry.exposition import series_divisor, series_labels, series_name
from telemetry.live import LiveColumn, LiveUpdate
from telemetry.model import GPU, TIMESTAMP
from telemetry.simulator.fleet import Fleet
from telemetry.simulator.incidents import Incident, Kind
from tests.integration.reference import Prometheus, find_program, judge_rules, prometheus_over

ROUNDS: Final = int(os.environ.get("TELEMETRY_TEST_ROUNDS", "1"))
BASE_S: Final = 1_750_000_000
STEP_S: Final = 10.007
"""No sample lies at the very edge of a range, where Prometheus 3, which we follow, and the one tested with differ."""
TIMES_S: Final = (47, 306, 620, 1000, 1395, 1800)

Values = dict[frozenset[tuple[str, str]], float]

needs_prometheus = pytest.mark.skipif(
    find_program("prometheus") is None or find_program("promtool") is None,
    reason="prometheus and promtool are not there (scripts/servers.sh gets them): nothing is compared with them",
)
pytestmark = needs_prometheus

EXPRESSIONS: Final = """
gpu_a{Hostname=~"h[01]",modelName!="M1"}
gpu_a{pod!~"x.*",nope=""}
gpu_a > bool 60
60 < gpu_a
gpu_a % 7
gpu_b ^ 2 atan2 gpu_a
gpu_a > bool gpu_b
gpu_a or gpu_b
gpu_a > 60 or gpu_b > 40
gpu_a > 50 unless on(Hostname) gpu_b > 10
gpu_a and on(Hostname) gpu_b == 2
gpu_a or on(Hostname) gpu_b
gpu_a * on(UUID) gpu_b
gpu_a * ignoring(modelName) gpu_b
gpu_a * on(Hostname) gpu_b
sum by (Hostname) (gpu_a) * on(Hostname) gpu_b
gpu_a / on(Hostname) group_left sum by (Hostname) (gpu_a)
sum by (Hostname) (gpu_a) / on(Hostname) group_right gpu_b
gpu_a - on(Hostname) group_left(x) label_replace(avg by (Hostname) (gpu_a), "x", "y$1", "Hostname", "h(.*)")
gpu_a offset 6m + on() group_left gpu_a
gpu_a * on(nope) group_left sum by (nope) (gpu_b)
gpu_a unless on() vector(1)
sum without (gpu, UUID, device) (gpu_a)
count by (Hostname) (gpu_a > 50) / count by (Hostname) (gpu_a)
count(gpu_a > 1000) or vector(0)
stdvar(gpu_a) + stddev by (Hostname) (gpu_b)
quantile by (Hostname) (0.3, gpu_a)
quantile(2, gpu_b)
topk(2, gpu_a)
bottomk by (Hostname) (1, gpu_a)
group by (modelName) (gpu_a)
predict_linear(gpu_t[5m] offset 1m, 600)
absent(gpu_a{gpu="9"})
absent(nothing{x="y",z=~"q"})
absent_over_time(gpu_a{UUID="GPU-5"}[2m])
gpu_a offset 6m unless gpu_a
time() - timestamp(gpu_a) > 60
timestamp(gpu_a offset 2m)
scalar(sum(gpu_a)) + 1
gpu_a > scalar(avg(gpu_a))
scalar(gpu_a)
clamp(gpu_a, 40, 50) - clamp_min(gpu_a, 45) + clamp_max(gpu_a, 55)
round(gpu_a, 0.5) + round(gpu_b / 8)
floor(gpu_a / 8) % 2
hour() * 100 + minute() + day_of_week()
label_replace(gpu_a, "node", "$1-x", "Hostname", "h(.+)")
label_replace(gpu_a, "UUID", "", "UUID", ".*")
label_replace(gpu_a, "Hostname", "same", "Hostname", ".*")
label_join(gpu_a, "both", "/", "Hostname", "gpu")
gpu_b / 0
0 / 0 * gpu_b
quantile_over_time(scalar(vector(0.3)), gpu_a[5m])
1 + 2 * 3
""".strip().splitlines()


@dataclass(frozen=True)
class World:
    """Samples of a small fleet: gaps, GPUs that come, go and come back, counters that begin again, metrics left out."""

    updates: Sequence[LiveUpdate]
    samples: Sequence[tuple[str, Mapping[str, str], float, float]]


def make_world() -> World:
    rng = random.Random(7)
    labels = {
        f"GPU-{i}": {"uuid": f"GPU-{i}", "host": f"h{i // 3}", "index": str(i % 3), "model": f"M{i % 2}"}
        for i in range(9)
    }
    # Counters that begin high: how far a rate is extrapolated to zero is where versions of Prometheus differ.
    counters = dict.fromkeys(labels, 1000.0)
    updates, samples = [], []
    for k in range(1, 185):
        speaking = [
            gpu
            for gpu in labels
            if not (gpu == "GPU-4" and 50 < k < 90)
            and not (gpu == "GPU-5" and k > 60)
            and not (gpu == "GPU-6" and k < 40)
        ]
        times_us = [round((BASE_S + k * STEP_S + int(gpu[-1]) * 0.1) * 1e6) for gpu in speaking]
        columns: dict[str, list[float | None]] = {name: [] for name in "abct"}
        for gpu in speaking:
            counters[gpu] = 1000.0 if rng.random() < 0.02 else counters[gpu] + rng.choice([0, 0, 1, 5])
            columns["a"].append(round(rng.gauss(50, 20), 2))
            columns["b"].append(None if gpu == "GPU-7" and k % 3 else rng.choice([0.0, 1.0, 2.0, 40.0, 50.0, 60.0]))
            columns["c"].append(counters[gpu])
            columns["t"].append(60 + 10 * math.sin(k / 20 + int(gpu[-1])))
        live = {name: LiveColumn(values, values, values) for name, values in columns.items()}
        updates.append(LiveUpdate(speaking, times_us, live, labels if k == 1 else {}))
        for name, values in columns.items():
            for gpu, time_us, value in zip(speaking, times_us, values, strict=True):
                if value is not None:
                    samples.append((series_name(name), series_labels(gpu, labels[gpu]), time_us / 1e6, value))
    return World(updates, samples)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


@pytest.fixture(scope="module")
def prometheus(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus_over(world.samples, tmp_path_factory.mktemp("prometheus")) as running:
        yield running


@pytest.fixture(scope="module")
def evaluators(world: World) -> Mapping[int, Evaluator]:
    """By time, what knows all samples until then, and as many of the past as any expression here asks for."""
    asked = {f"gpu_{name}": f"sum_over_time(gpu_{name}[20m] offset 10m)" for name in "abct"}
    rules = rules_of({**asked, "nothing": "sum_over_time(nothing[20m])"})
    found = {}
    for at_s in TIMES_S:
        evaluator = found[at_s] = Evaluator(rules)
        for update in world.updates:
            last_us = max(update.timestamps_us)
            if last_us <= (BASE_S + at_s) * 1_000_000:
                evaluator.ingest(update, last_us)
    return found


def rules_of(expressions: Mapping[str, str]) -> RuleSet:
    rules = [{"alert": name, "expr": text} for name, text in expressions.items()]
    return parse_rules([("test.yaml", json.dumps({"groups": [{"name": "g", "rules": rules}]}))])


def ours(evaluator: Evaluator, text: str, at_s: int) -> Values | str:
    try:
        value = evaluator.value(compile_expression(text), (BASE_S + at_s) * 1_000_000)
    except (EvaluationError, ExpressionError) as error:
        return str(error)
    if not isinstance(value, Vector):
        return {frozenset(): value}
    rows = np.flatnonzero(value.present).tolist()
    found = {frozenset(value.sets.row(row).items()): float(value.values[row]) for row in rows}
    return found if len(found) == len(rows) else "two series with the same labels"


def alike(mine: Values | str, reference: Values | str) -> bool:
    if isinstance(mine, str) or isinstance(reference, str):
        return isinstance(mine, str) and isinstance(reference, str)
    return mine.keys() == reference.keys() and all(
        math.isclose(mine[key], value, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(mine[key]) and math.isnan(value))
        for key, value in reference.items()
    )


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_gives_what_prometheus_gives(
    text: str, evaluators: Mapping[int, Evaluator], prometheus: Prometheus
) -> None:
    for at_s, evaluator in evaluators.items():
        reference = prometheus.query(text, BASE_S + at_s)
        assert alike(mine := ours(evaluator, text, at_s), reference), (at_s, mine, reference)


RANGES: Final = st.sampled_from(["65s", "2m", "5m", "10m"])
OFFSETS: Final = st.sampled_from(["", "", "", " offset 1m", " offset 6m"])
NAMES: Final = st.sampled_from(["gpu_a", "gpu_b", "gpu_c", "gpu_t"])
RAW: Final = st.builds(
    lambda name, matchers, offset: f"{name}{matchers}{offset}",
    NAMES,
    st.sampled_from(["", "", '{modelName="M1"}', '{Hostname!~"h2|x"}', '{gpu=~"[12]",nope=""}']),
    OFFSETS,
)
OF_COUNTERS: Final = ("rate(X)", "increase(X)", "irate(X)", "resets(X)")
OF_RANGES: Final = (
    "delta(X)", "idelta(X)", "deriv(X)", "predict_linear(X, 300)", "changes(X)", "avg_over_time(X)", "min_over_time(X)",
    "max_over_time(X)", "sum_over_time(X)", "count_over_time(X)", "last_over_time(X)", "present_over_time(X)",
    "stddev_over_time(X)", "stdvar_over_time(X)", "quantile_over_time(0.7, X)",
)  # fmt: skip
OVER_TIME: Final = st.builds(
    lambda call, length, offset: call.replace("]", f"{length}]{offset}"),
    st.one_of(
        st.sampled_from(OF_COUNTERS).map(lambda function: function.replace("X", "gpu_c[]")),
        st.builds(lambda function, name: function.replace("X", f"{name}[]"), st.sampled_from(OF_RANGES), NAMES),
    ),
    RANGES,
    OFFSETS,
)
LABELS: Final = st.sampled_from(["", "Hostname", "modelName", "Hostname, modelName", "UUID", "UUID, Hostname, nope"])
THRESHOLD: Final = st.sampled_from(["0.137", "1.37", "37.3", "51.3", "1013.7"])
"""Nothing that a value comes so near to that rounding decides."""


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(lambda a, o, b: f"({a} {o} {b})", inner, st.sampled_from(["+", "-", "*", "/"]), inner),
        st.builds(
            lambda a, o, labels, b: f"({a} {o} on({labels}) group_left {b})",
            inner, st.sampled_from(["+", "-", "*", "/"]), LABELS, inner,
        ),
        st.builds(lambda a, o, c: f"({a} {o} {c})", inner, st.sampled_from([">", "<", "<= bool", "!="]), THRESHOLD),
        st.builds(lambda a, o, b: f"({a} {o} {b})", inner, st.sampled_from(["and", "or", "unless"]), inner),
        st.builds(
            lambda a, o, how, labels, b: f"({a} {o} {how}({labels}) {b})",
            inner, st.sampled_from(["and", "or", "unless"]), st.sampled_from(["on", "ignoring"]), LABELS, inner,
        ),
        st.builds(
            lambda o, how, labels, a: f"{o} {how} ({labels}) ({a})",
            st.sampled_from(["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]),
            st.sampled_from(["by", "without"]), LABELS, inner,
        ),
        st.builds(lambda q, labels, a: f"quantile by ({labels}) ({q}, {a})", st.floats(0, 1), LABELS, inner),
        st.builds(lambda f, a: f"{f}({a})", st.sampled_from(["abs", "floor", "sgn", "ceil", "-"]), inner),
    )  # fmt: skip


@settings(max_examples=200 * ROUNDS, deadline=None, derandomize=ROUNDS == 1, suppress_health_check=list(HealthCheck))
@given(st.recursive(st.one_of(RAW, OVER_TIME), _larger, max_leaves=5), st.sampled_from(TIMES_S))
def test_whatever_expression_gives_what_prometheus_gives(
    evaluators: Mapping[int, Evaluator], prometheus: Prometheus, text: str, at_s: int
) -> None:
    # The deviation of one infinite value is no number in Prometheus 3, and was 0 before.
    assume(not ("std" in text and "/" in text))
    reference = prometheus.query(text, BASE_S + at_s)
    assert alike(mine := ours(evaluators[at_s], text, at_s), reference), (text, mine, reference)


EVERY: Final = 15
"""Seconds between evaluations: promtool has one interval for all groups."""
START: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""promtool begins there."""


def incident_of(place: str, kind: Kind, begin_min: float, end_min: float, **detail: int) -> Incident:
    return Incident(place, kind, START + timedelta(minutes=begin_min), START + timedelta(minutes=end_min), detail)


INCIDENTS: Final = (
    incident_of("node-001/1", Kind.XID, 20, 35, xid=79),
    incident_of("node-002/2", Kind.LOST, 22, 45),
    incident_of("node-003/3", Kind.HEAT, 30, 55),
    incident_of("node-004/0", Kind.STRAGGLER, 30, 60),
    incident_of("node-005/1", Kind.MEMORY_FULL, 30, 55),
    incident_of("node-006/2", Kind.THROTTLE, 30, 45),
    incident_of("node-001/3", Kind.ECC, 50, 65),
    incident_of("node-002/0", Kind.IDLE, 50, 95),
    incident_of("node-006/1", Kind.ROW_REMAP, 75, 90),
)


def recorded_fleet() -> pl.DataFrame:
    fleet = Fleet(
        24,
        gpus_per_host=4,
        duration=timedelta(minutes=100),
        interval=timedelta(seconds=STEP_S),
        start=START,
        seed=5,
        incidents=INCIDENTS,
    )
    # The very first instant lies at the edge of ranges.
    return pl.concat(fleet.frames()).filter(pl.col(TIMESTAMP) > START)


def series_of(frame: pl.DataFrame, metrics: Sequence[str]) -> list[dict[str, str]]:
    """promtool's notation: a value an interval, ``_`` for none, ``stale`` where a series with these labels ends."""
    labels = [name for name, kind in frame.schema.items() if kind == pl.String and name != GPU]
    step_us = round(STEP_S * 1e6)
    instants = frame.select(pl.col(TIMESTAMP).dt.timestamp("us") // step_us).to_series()
    last = int(instants.max())  # type: ignore[arg-type]
    found = []
    current = frame.group_by(GPU).agg(pl.struct(labels).sort_by(TIMESTAMP).last().struct.json_encode().alias("newest"))
    newest = dict(current.iter_rows())
    for key, mine in frame.with_columns(instants.alias("$at")).group_by(GPU, *labels, maintain_order=True):
        gpu = str(key[0])
        texts = {name: str(text) for name, text in zip(labels, key[1:], strict=True) if text is not None}
        ended = newest[gpu] != mine.select(pl.struct(labels).struct.json_encode()).item(-1, 0)
        inside = ",".join(f"{name}={json.dumps(text)}" for name, text in series_labels(gpu, texts).items())
        at = mine["$at"].to_list()
        for metric in metrics:
            values = dict(zip(at, (mine[metric] / series_divisor(metric)).to_list(), strict=True))
            cells = [repr(values[i]) if i in values else "_" for i in range(last + 1)]
            if ended and at[-1] < last:
                cells[at[-1] + 1] = "stale"
            found.append({"series": f"{series_name(metric)}{{{inside}}}", "values": " ".join(cells)})
    return found


def test_the_rule_pack_fires_the_same_alerts_at_the_same_evaluations_as_prometheus(tmp_path: Path) -> None:
    content = yaml.safe_load(PACK.read_text())
    for group in content["groups"]:
        group["interval"] = f"{EVERY}s"
    (tmp_path / "rules.yaml").write_text(json.dumps(content))
    rules = parse_rules([("rules.yaml", json.dumps(content))])
    frame = recorded_fleet()
    evaluator = Evaluator(rules)
    alerts: dict[str, dict[str, Alert]] = {}
    expected: list[dict[str, Any]] = []
    fired: set[str] = set()
    values: dict[str, float] = {}
    for now_us in replay_steps(evaluator, frame, EVERY * 1_000_000):
        for group in evaluator.groups:
            for result in evaluator.evaluate(group, now_us):
                rule = result.rule
                assert not result.error
                if not rule.alert:
                    continue
                # Texts are those of the newest value; one that only fires on keeps what it had.
                values |= {fingerprint(rule.rule_id, each.labels): each.value for each in result.samples}
                mine, _ = advance(rule, alerts.get(rule.rule_id, {}), result.samples, now_us)
                alerts[rule.rule_id] = mine
                firing = [alert for alert in mine.values() if alert.state is State.FIRING]
                fired |= {alert.name for alert in firing}
                expected.append(
                    {
                        "eval_time": f"{now_us // 1_000_000}s",
                        "alertname": rule.alert,
                        "exp_alerts": [
                            {
                                "exp_labels": {k: v for k, v in alert.labels.items() if k != ALERT_NAME},
                                "exp_annotations": rule.annotate(alert.labels, values[alert.fingerprint]),
                            }
                            for alert in firing
                        ],
                    }
                )
    assert fired == {rule.alert for rule in rules if rule.alert} - {"GpuXidWarning", "GpuHostSilent"}
    test = {
        "rule_files": [str(tmp_path / "rules.yaml")],
        "evaluation_interval": f"{EVERY}s",
        "tests": [
            {
                "interval": f"{round(STEP_S * 1000)}ms",
                "input_series": series_of(frame, wanted_metrics(rules, list(frame.columns))),
                "alert_rule_test": expected,
            }
        ],
    }
    passed, said = judge_rules(test, tmp_path)
    assert passed, said[:3000]
    # The judge does judge: with one alert fewer it does not pass.
    next(entry for entry in expected if entry["exp_alerts"])["exp_alerts"].pop()
    assert not judge_rules(test, tmp_path)[0]


TEMPLATES: Final = (
    "{{ $value }}", "{{ .Value }}", "{{ $value | humanize }}", "{{ humanize1024 $value }}",
    "{{ $value | humanizeDuration }}", "{{ $value | humanizePercentage }}", '{{ $value | printf "%.1f" }}',
    '{{ printf "%.0f of %%" $value }}',
    '{{ printf "%08.3f" $value }}', '{{ printf "%.3e" $value }}', '{{ printf "%.3g" $value }}',
    '{{ printf "%v" $value }}',
    "{{ $labels.Hostname }} {{- $labels.none -}} x", "{{ .Labels.Hostname | toUpper }}", "{{ title `two words` }}",
    '{{ $labels.Hostname | printf "<%s>" }}', "{{ toLower \"A\\\"B\\n\" }}",
)  # fmt: skip
NUMBERS: Final = (
    0.0, 1.0, -1.0, 0.1, 1 / 3, 79.0, 1234.5678, 99999.0, 1e6, 123456789.0, 1e15, 123456789012345680.0, 9e18,
    0.001, 0.00012345, 0.00001, -2.5e-7, 59.9, 60.0, 3661.0, 90061.0, 1023.0, 1024.0, 3e9, 0.98765, -12345.678,
)  # fmt: skip


def test_templates_say_what_prometheus_makes_of_them(tmp_path: Path) -> None:
    annotations = {f"t{number}": text for number, text in enumerate(TEMPLATES)}
    rules = {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "m", "annotations": annotations}]}]}
    (tmp_path / "rules.yaml").write_text(json.dumps(rules))
    tests = []
    for value in NUMBERS:
        labels = {"Hostname": "node-é 1"}
        filled = {name: Template.parse(text).fill(labels, value) for name, text in annotations.items()}
        alert = {"exp_labels": labels, "exp_annotations": filled}
        tests.append(
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"m{{Hostname={json.dumps(labels['Hostname'])}}}", "values": f"{value:.400g}"}
                ],
                "alert_rule_test": [{"eval_time": "0m", "alertname": "A", "exp_alerts": [alert]}],
            }
        )
    passed, said = judge_rules(
        {"rule_files": [str(tmp_path / "rules.yaml")], "evaluation_interval": "1m", "tests": tests}, tmp_path
    )
    assert passed, said[:3000]


def test_labels_from_templates_are_those_of_prometheus(tmp_path: Path) -> None:
    text = json.dumps(
        {
            "groups": [
                {
                    "name": "g",
                    "rules": [
                        {
                            "alert": "A",
                            "expr": "gpu_a > 1",
                            "labels": {"gpu": "{{ $labels.Hostname }}-{{ $value }}", "UUID": "", "team": "x"},
                        }
                    ],
                }
            ]
        }
    )
    (tmp_path / "rules.yaml").write_text(text)
    evaluator = Evaluator(parse_rules([("rules.yaml", text)]))
    column = LiveColumn([7.5], [7.5], [7.5])
    labels = {"host": "h1", "index": "3", "model": "M"}
    evaluator.ingest(LiveUpdate(["h1/3"], [0], {"a": column}, {"h1/3": labels}), 0)
    (result,) = evaluator.evaluate(evaluator.groups[0], 0)
    (sample,) = result.samples
    assert isinstance(sample, Sample)
    inside = ",".join(f"{name}={json.dumps(text)}" for name, text in series_labels("h1/3", labels).items())
    expected = {name: text for name, text in sample.labels.items() if name != ALERT_NAME}
    assert expected["gpu"] == "h1-7.5"
    test = {
        "rule_files": [str(tmp_path / "rules.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": f"gpu_a{{{inside}}}", "values": "7.5"}],
                "alert_rule_test": [{"eval_time": "0m", "alertname": "A", "exp_alerts": [{"exp_labels": expected}]}],
            }
        ],
    }
    passed, said = judge_rules(test, tmp_path)
    assert passed, said
