"""Metrics in rows behave as the mappings that they stand for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from telemetry.storage.values import Latest, Ranges

NAMES = st.sampled_from("abcdef")
VALUES = st.floats(-1e300, 1e300)
SAMPLES = st.dictionaries(NAMES, st.tuples(st.integers(0, 3), VALUES))
TRIPLES = st.dictionaries(NAMES, st.tuples(VALUES, VALUES, VALUES).map(lambda three: (three[0], *sorted(three[1:]))))


@given(st.lists(SAMPLES))
def test_the_newest_sample_counts_and_of_one_instant_the_later(
    batches: list[dict[str, tuple[int, float]]],
) -> None:
    latest, expected = Latest(), dict[str, tuple[int, float]]()
    for batch in batches:
        for name, sample in batch.items():
            if name not in expected or sample[0] >= expected[name][0]:
                expected[name] = sample
        places = {name: place for place, name in enumerate(batch)}
        instants = np.array([instant for instant, _ in batch.values()], np.int64)
        latest = latest.with_newer(places, instants, np.array([value for _, value in batch.values()], np.float64))
        assert latest == expected == latest.as_dict()


@given(st.lists(TRIPLES, min_size=1))
def test_ranges_of_several_commits_are_one_range(commits: list[dict[str, tuple[float, float, float]]]) -> None:
    ranges, expected = Ranges.of(commits[0]), dict(commits[0])
    for commit in commits[1:]:
        for name, (last, low, high) in commit.items():
            _, lowest, highest = expected.get(name, (last, low, high))
            expected[name] = (last, min(low, lowest), max(high, highest))
        ranges = ranges.then(Ranges.of(commit))
    assert ranges == expected
