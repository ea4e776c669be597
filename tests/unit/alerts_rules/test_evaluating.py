"""What becomes of live updates under rules: names and units, ages, labels that change, records, limits."""

from __future__ import annotations

import math

import pytest
from prometheus_client import REGISTRY

from telemetry.alerts.evaluate import Evaluator, Limits
from telemetry.live import LiveColumn, LiveUpdate
from tests.unit.alerts_rules.feeding import NOW, SECOND, error, evaluator_of, results, rules_of, update


def counted(name: str) -> float:
    """What the process would say in its `/metrics`."""
    return REGISTRY.get_sample_value(name) or 0.0


def test_rules_see_metrics_under_the_names_and_in_the_units_of_dcgm_exporter() -> None:
    evaluator = evaluator_of("DCGM_FI_PROF_SM_ACTIVE", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "gpu_my_metric")
    evaluator.ingest(update({"g": 55.0}, metric="sm_active"), NOW)
    evaluator.ingest(update({"g": 1.5}, metric="energy"), NOW)
    evaluator.ingest(update({"g": 7.0}, metric="my.metric"), NOW)
    assert results(evaluator) == [{"g": 0.55}, {"g": 1500.0}, {"g": 7.0}]


def test_a_sample_counts_for_five_minutes() -> None:
    evaluator = evaluator_of("gpu_a")
    evaluator.ingest(update({"g": 1.0}), NOW)
    assert results(evaluator, NOW + 300 * SECOND - 1000) == [{"g": 1.0}]
    assert results(evaluator, NOW + 300 * SECOND) == [{}]


def test_a_metric_that_a_record_lacks_keeps_its_value() -> None:
    evaluator = evaluator_of("gpu_a", "count_over_time(gpu_a[1m])")
    evaluator.ingest(update({"g": 1.0, "h": 2.0}), NOW)
    evaluator.ingest(update({"g": None, "h": 3.0}, NOW + SECOND), NOW + SECOND)
    assert results(evaluator, NOW + SECOND) == [{"g": 1.0, "h": 3.0}, {"g": 1.0, "h": 2.0}]


def test_an_older_record_changes_nothing() -> None:
    evaluator = evaluator_of("gpu_a", "count_over_time(gpu_a[1m])")
    evaluator.ingest(update({"g": 2.0}), NOW)
    evaluator.ingest(update({"g": 1.0}, NOW - SECOND), NOW)
    evaluator.ingest(update({"g": 1.0}, NOW), NOW)
    assert results(evaluator) == [{"g": 2.0}, {"g": 1.0}]


def test_records_of_a_clock_that_is_ahead_count_as_of_when_they_came() -> None:
    evaluator = evaluator_of("time() - timestamp(gpu_a)")
    evaluator.ingest(update({"g": 1.0}, NOW + 3600 * SECOND), NOW)
    assert results(evaluator, NOW + 10 * SECOND) == [{"g": 10.0}]


def test_a_gpu_waits_until_its_labels_are_known() -> None:
    evaluator = evaluator_of("gpu_a")
    assert evaluator.ingest(update({"g": 1.0}, labels={}), NOW) == []
    assert results(evaluator) == [{}]
    assert evaluator.ingest(update({}, labels={"g": {"host": "h"}}), NOW) == []
    assert evaluator.ingest(update({"g": 1.0, "x": 1.0}, labels={}), NOW) == ["g"]
    assert results(evaluator) == [{"g": 1.0}]


@pytest.mark.parametrize(
    "wrong",
    [
        LiveUpdate(["g"], [NOW], {"a": LiveColumn(["x"], [], [])}, {}),  # type: ignore[list-item]
        LiveUpdate(["g"], [NOW], {"a": LiveColumn([[1.0]], [], [])}, {}),  # type: ignore[list-item]
        LiveUpdate(["g"], [NOW], {"a": LiveColumn([1.0, 2.0], [], [])}, {}),
        LiveUpdate(["g"], ["now"], {}, {}),  # type: ignore[list-item]
        LiveUpdate(["g"], [1.5], {}, {}),  # type: ignore[list-item]
        LiveUpdate(["g"], [1 << 70], {}, {}),
        LiveUpdate(["g", "g"], [NOW, NOW], {}, {}),
        LiveUpdate([7], [NOW], {}, {}),  # type: ignore[list-item]
        LiveUpdate(["g"], [NOW], {}, {"g": "h"}),  # type: ignore[dict-item]
        LiveUpdate(["g"], [NOW], {}, {"g": {"host": 7}}),  # type: ignore[dict-item]
    ],
)
def test_an_update_that_cannot_be_is_left_out_and_counted(wrong: LiveUpdate) -> None:
    evaluator = evaluator_of("gpu_a")
    evaluator.ingest(update({"g": 1.0}), NOW)
    before = counted("telemetry_alerts_updates_left_out_total")
    assert evaluator.ingest(wrong, NOW) == []
    assert counted("telemetry_alerts_updates_left_out_total") == before + 1
    assert results(evaluator) == [{"g": 1.0}]


def test_other_labels_begin_another_series_and_end_the_one_before() -> None:
    evaluator = evaluator_of("gpu_a", "sum_over_time(gpu_a[1m])", "count by (pod) (gpu_a)")
    for second, pod in enumerate(("p", "p", "q", "q", "p")):
        now_us = NOW + second * SECOND
        evaluator.ingest(update({"g": 1.0}, now_us, labels={"g": {"host": "h", "pod": pod}}), now_us)
        (group,) = evaluator.groups
        now, _, pods = evaluator.evaluate(group, now_us)
        assert [sample.labels["pod"] for sample in now.samples] == [pod]
        assert [dict(sample.labels) for sample in pods.samples] == [{"pod": pod, "alertname": "A2"}]
    sums = {
        sample.labels["pod"]: sample.value for sample in list(evaluator.evaluate(group, NOW + 4 * SECOND))[1].samples
    }
    assert sums == {"p": 3.0, "q": 2.0}


def test_what_is_recorded_is_there_for_the_rules_after_it_and_ends_with_its_result() -> None:
    evaluator = Evaluator(
        rules_of(
            {"alert": "Before", "expr": "hot"},
            {"record": "hot", "expr": "gpu_a > 80", "labels": {"team": "x"}},
            {"alert": "After", "expr": "hot"},
            {"alert": "Labelled", "expr": "hot{team='x'}"},
            {"alert": "Past", "expr": "count_over_time(hot[1m])"},
        )
    )
    evaluator.ingest(update({"g": 90.0, "h": 10.0}), NOW)
    assert results(evaluator) == [{}, {}, {"g": 90.0}, {"g": 90.0}, {"g": 1.0}]
    evaluator.ingest(update({"g": 10.0, "h": 99.0}, NOW + SECOND), NOW + SECOND)
    later = results(evaluator, NOW + SECOND)
    assert later == [{"g": 90.0}, {}, {"h": 99.0}, {"h": 99.0}, {"g": 1.0, "h": 1.0}]


def test_a_range_does_not_include_its_beginning() -> None:
    evaluator = evaluator_of("count_over_time(gpu_a[10s])", "last_over_time(gpu_a[10s])")
    for second in range(11):
        evaluator.ingest(update({"g": 1.0}, NOW + second * SECOND), NOW + second * SECOND)
    assert results(evaluator, NOW + 10 * SECOND) == [{"g": 10.0}, {"g": 1.0}]
    assert results(evaluator, NOW + 20 * SECOND) == [{}, {}]


def test_a_counter_is_not_extrapolated_below_zero() -> None:
    evaluator = evaluator_of("increase(gpu_a[1m])", "increase(gpu_b[1m])")
    for at in (20, 30, 40, 50, 60):
        evaluator.ingest(update({"g": at - 19.0}, NOW + at * SECOND), NOW + 60 * SECOND)
        evaluator.ingest(update({"g": at + 1e6}, NOW + at * SECOND, metric="b"), NOW + 60 * SECOND)
    # Both grew by 40 in 40 s. The beginning of the range is two steps away, so half a step is added, 5 s, unless the
    # counter would have been zero after 1 s already.
    first, second = results(evaluator, NOW + 60 * SECOND)
    assert (first["g"], second["g"]) == pytest.approx((41.0, 45.0))


def test_a_series_is_taken_to_go_on_to_the_edge_of_the_range_if_that_is_about_a_step_away() -> None:
    evaluator = evaluator_of("delta(gpu_a[1m])")
    for at in (0, 10, 20, 30, 40):
        evaluator.ingest(update({"g": float(at)}, NOW + at * SECOND), NOW + at * SECOND)
    # 40 in 40 s; 9 s at the beginning are less than a step, and 11 s at the end are too much, so half a step counts.
    (found,) = results(evaluator, NOW + 51 * SECOND)
    assert found["g"] == pytest.approx(40 + 9 + 5)


def test_labels_that_a_rule_gives_may_not_make_two_alerts_one() -> None:
    evaluator = Evaluator(rules_of({"alert": "A", "expr": "gpu_a", "labels": {"UUID": "x", "Hostname": "y"}}))
    evaluator.ingest(update({"g": 1.0, "h": 2.0}), NOW)
    assert "rules.yaml:1: A: the rule's labels make two alerts the same" in error(evaluator)


def test_series_that_find_two_partners_are_an_error_that_names_them() -> None:
    evaluator = evaluator_of("gpu_a * on () gpu_a")
    evaluator.ingest(update({"g": 1.0, "h": 2.0}), NOW)
    assert "found duplicate series for the match group on the right hand-side: {" in error(evaluator)


def test_a_rule_may_not_give_more_series_than_the_limit() -> None:
    evaluator = evaluator_of("gpu_a", limits=Limits(series_max=2))
    evaluator.ingest(update({"g": 1.0, "h": 2.0}), NOW)
    assert results(evaluator) == [{"g": 1.0, "h": 2.0}]
    evaluator.ingest(update({"i": 1.0}), NOW)
    assert error(evaluator) == "rules.yaml:1: A0: the expression gives 3 series; at most 2 are allowed"


def test_a_fleet_larger_than_the_limit_is_cut_and_counted() -> None:
    evaluator = evaluator_of("gpu_a", limits=Limits(gpus_max=2))
    before = counted("telemetry_alerts_gpu_updates_refused_total")
    assert evaluator.ingest(update({"g": 1.0, "h": 2.0, "i": 3.0}), NOW) == ["g", "h"]
    assert counted("telemetry_alerts_gpu_updates_refused_total") == before + 1


def test_a_history_that_takes_too_much_memory_is_an_error_of_the_rules_that_need_it() -> None:
    evaluator = evaluator_of("gpu_a", "sum_over_time(gpu_a[10m])", limits=Limits(history_bytes_max=2000))
    for second in range(300):
        evaluator.ingest(update({"g": 1.0}, NOW + second * SECOND), NOW + second * SECOND)
    assert "A1: gpu_a: the samples that rules look back on would take more than" in error(evaluator, NOW + 300 * SECOND)
    (group,) = evaluator.groups
    assert [len(each.samples) for each in evaluator.evaluate(group, NOW + 300 * SECOND)] == [1, 0]


def test_what_is_no_number_is_a_value_like_any_other() -> None:
    evaluator = evaluator_of("0 / gpu_a", "0 / gpu_a > 0", "0 / gpu_a != 0")
    evaluator.ingest(update({"g": 0.0}), NOW)
    nan, greater, other = results(evaluator)
    assert math.isnan(nan["g"])
    assert greater == {}
    assert math.isnan(other["g"])
