"""Series, rows and rings against lists: GPUs come and go and change their labels, rows are tidied, columns move."""

from __future__ import annotations

import os
from collections import defaultdict
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.alerts.expressions import LOOKBACK_US
from tests.unit.alerts_rules.feeding import NOW, SECOND, evaluator_of, update

ROUNDS = int(os.environ.get("TELEMETRY_TEST_ROUNDS", "1"))
RANGE_US = 600 * SECOND

Series = tuple[str, str]

STEP = st.tuples(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9), max_size=8),
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["", "p", "q"]), max_size=3),
    st.sampled_from([1, 1, 1, 10, 10, 60, 200, 301, 1000]),
)


@settings(max_examples=120 * ROUNDS, deadline=None, derandomize=ROUNDS == 1)
@given(st.lists(STEP, min_size=1, max_size=40))
def test_whatever_comes_rules_see_what_lists_of_samples_hold(
    steps: list[tuple[dict[str, int], dict[str, str], int]],
) -> None:
    evaluator = evaluator_of(
        "gpu_a", "sum_over_time(gpu_a[10m])", "sum_over_time(gpu_a[2m] offset 1m)", "gpu_a offset 2m"
    )
    samples: dict[Series, list[tuple[int, float]]] = defaultdict(list)
    ended: set[Series] = set()
    pods: dict[str, str] = {}
    now_us = NOW
    with patch("telemetry.alerts.series._TIDY_ROWS", 0):
        for values, relabelled, seconds in steps:
            now_us += seconds * SECOND
            # Everyone's labels are said each time, as collectors do each minute.
            before = pods.copy()
            pods |= dict.fromkeys(values.keys() - pods.keys(), "") | relabelled
            ended |= {(gpu, pod) for gpu, pod in before.items() if pods[gpu] != pod}
            said = {gpu: {"host": "h"} | ({"pod": pod} if pod else {}) for gpu, pod in pods.items()}
            numbers: dict[str, float | None] = {gpu: float(value) for gpu, value in values.items()}
            assert evaluator.ingest(update(numbers, now_us, labels=said), now_us) == list(values)
            for gpu, value in values.items():
                samples[gpu, pods[gpu]].append((now_us, float(value)))
                ended.discard((gpu, pods[gpu]))
            (group,) = evaluator.groups
            seen = [
                {(sample.labels["UUID"], sample.labels.get("pod", "")): sample.value for sample in result.samples}
                for result in evaluator.evaluate(group, now_us)
            ]
            assert seen[0] == {
                key: mine[-1][1]
                for key, mine in samples.items()
                if mine[-1][0] > now_us - LOOKBACK_US and key not in ended
            }
            assert seen[1] == _sums(samples, now_us - RANGE_US, now_us)
            assert seen[2] == _sums(samples, now_us - 180 * SECOND, now_us - 60 * SECOND)
            assert seen[3] == _last(samples, now_us - 120 * SECOND)


def _sums(samples: dict[Series, list[tuple[int, float]]], after_us: int, until_us: int) -> dict[Series, float]:
    inside = {
        key: [value for time_us, value in mine if after_us < time_us <= until_us] for key, mine in samples.items()
    }
    return {key: sum(values) for key, values in inside.items() if values}


def _last(samples: dict[Series, list[tuple[int, float]]], at_us: int) -> dict[Series, float]:
    inside = {
        key: [value for time_us, value in mine if at_us - LOOKBACK_US < time_us <= at_us]
        for key, mine in samples.items()
    }
    return {key: values[-1] for key, values in inside.items() if values}
