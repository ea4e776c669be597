"""The small parts of the core, each on its own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.queue.core import batches
from telemetry.queue.core.assignment import assign
from telemetry.queue.core.batches import BatchIndex, Block, Entry
from telemetry.queue.core.errors import InvalidArgumentError, PreconditionError
from telemetry.queue.core.names import (
    check_patterns,
    check_topic_name,
    dead_letter_topic_of,
    matches,
    partition_of_key,
)
from telemetry.queue.core.producers import BATCHES_REMEMBERED, SILENCE_US_MAX, Duplicate, Producers
from telemetry.queue.core.rates import Meter
from telemetry.queue.core.runs import RunSet, count, head, intersect, subtract

RUNS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda run: (run[0], run[0] + run[1])), max_size=12
)


def offsets(runs: object) -> set[int]:
    return {offset for first, end in runs for offset in range(first, end)}  # type: ignore[attr-defined]


@settings(deadline=None)
@given(RUNS, st.integers(0, 60), st.integers(0, 60))
def test_a_run_set_is_the_set_of_its_offsets(runs: list[tuple[int, int]], low: int, high: int) -> None:
    runs_set, expected = RunSet(runs), offsets(runs)
    assert offsets(runs_set) == expected
    assert list(runs_set) == sorted(runs_set)
    assert all(a[1] < b[0] for a, b in zip(list(runs_set), list(runs_set)[1:], strict=False))
    assert offsets(runs_set.missing(low, high)) == set(range(low, high)) - expected
    assert runs_set.count_from(low) == len([offset for offset in expected if offset >= low])
    end = low
    while end in expected:
        end += 1
    assert runs_set.end_of_run_at(low) == end
    runs_set.discard_below(low)
    assert offsets(runs_set) == {offset for offset in expected if offset >= low}


@settings(deadline=None)
@given(RUNS, st.integers(0, 60), st.integers(0, 60))
def test_runs_are_cut_as_sets_are(runs: list[tuple[int, int]], low: int, high: int) -> None:
    clean = tuple(RunSet(runs))
    assert offsets(intersect(clean, low, high)) == offsets(clean) & set(range(low, high))
    assert offsets(subtract(clean, low, max(low, high))) == offsets(clean) - set(range(low, high))
    assert offsets(head(clean, low)) == set(sorted(offsets(clean))[:low])
    assert count(clean) == len(offsets(clean))


def test_an_index_finds_batches_by_offset_and_time_after_many_were_dropped() -> None:
    index = BatchIndex()
    entries = [Entry(number * 10, 5, 100, number * 1000, number) for number in range(5000)]
    for entry in entries:
        index.append(entry)
    assert sum(len(block) for block in index.drop_through(30_000)) == 3000
    assert index.first() == entries[3000]
    assert index.find(30_004) == entries[3000]
    assert index.find(30_005) == entries[3001]  # between two batches: the next
    assert index.find(49_995) is None
    assert index.find_time(3_000_001) == entries[3001]
    assert index.find_time(4_999_001) is None
    index.drop(30_010)
    assert index.find(30_010) == entries[3002]
    index.drop_last()
    assert index.last() == entries[4998]
    assert len(index) == 1998
    assert len(list(index)) == 1998


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["append"] * 6 + ["extend", "drop_through", "drop", "drop_last"]), st.integers(0, 1 << 34)
        ),
        max_size=80,
    )
)
def test_an_index_is_a_sorted_list_of_batches(steps: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "BLOCK_BATCHES", 4)
        patch.setattr(batches, "SMALL_BLOCK_BATCHES", 2)
        index, expected, offset, time_us = BatchIndex(), list[Entry](), 0, 0

        def another(size: int) -> Entry:
            nonlocal offset, time_us
            time_us += size % 3 * (size >> 20)
            entry = Entry(offset + size % 2, 1 + size % 300, size, time_us, offset * 7)
            offset = entry.end_offset
            return entry

        for action, number in steps:
            match action:
                case "append":
                    expected.append(another(number))
                    index.append(expected[-1])
                case "extend":
                    more = [another(number // (at + 1)) for at in range(number % 6)]
                    index.extend(Block.of(more).packed())
                    expected += more
                case "drop_through":
                    until = number % (offset + 1)
                    dropped = [entry for block in index.drop_through(until) for entry in block]
                    assert dropped == [entry for entry in expected if entry.end_offset <= until]
                    expected = [entry for entry in expected if entry.end_offset > until]
                case "drop" if expected:
                    index.drop(expected.pop(number % len(expected)).base_offset)
                case "drop_last" if expected:
                    expected.pop()
                    index.drop_last()
            assert list(index) == expected
            assert len(index) == len(expected)
            assert (index.first(), index.last()) == ((expected[0], expected[-1]) if expected else (None, None))
            wanted = number % (offset + 2)
            assert index.find(wanted) == next((entry for entry in expected if entry.end_offset > wanted), None)
            at_us = number % (time_us + 2)
            assert index.find_time(at_us) == next((entry for entry in expected if entry.time_us >= at_us), None)


def test_a_packed_block_says_the_same_in_less_room() -> None:
    entries = [Entry(n * 500, 500, 150_000 + n % 999, 1 << 50 | n * 1000, 1 << 45 | n * 160_000) for n in range(400)]
    entries += [Entry(300_000, 1, 10, 1 << 61, 1 << 46)]
    block = Block.of(entries)
    packed = block.packed()
    assert list(packed) == list(block) == entries
    assert packed.size == block.size == sum(entry.size for entry in entries)
    assert list(packed.holes()) == [(200_000, 300_000)]
    assert not packed.is_dense
    assert packed.cut(0, 400).is_dense
    assert packed.at_position(entries[7].position) == 7
    assert sum(column.itemsize for column in packed.cut(0, 400).packed().columns) == 4 + 1 + 2 + 4 + 4


def test_a_partition_remembers_a_producers_last_batches_and_no_more() -> None:
    producers = Producers()
    for number in range(BATCHES_REMEMBERED + 1):
        producers.store("p", 1, number * 2, 2, number * 10, 0)
    assert producers.check("p", 1, 0, 2) == Duplicate(None)
    assert producers.check("p", 1, 2, 2) == Duplicate(10)
    assert producers.check("p", 1, BATCHES_REMEMBERED * 2 + 1, 1) == Duplicate(BATCHES_REMEMBERED * 10 + 1)


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a", "a", True),
        ("a", "a.b", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("*.b", "a.b", True),
        (">", "a.b.c", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*.>", "a.b", False),
        ("a.*.>", "a.b.c", True),
        (">", "a.dead-letter", False),
        ("a.*", "a.dead-letter", False),
        ("*.dead-letter", "a.dead-letter", True),
        ("a.dead-letter", "a.dead-letter", True),
    ],
)
def test_patterns_match_topics(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "A", "a b", "a/b", "ä", "a" * 201, "*", "a\n"])
def test_a_bad_topic_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        check_topic_name(name, "topic")


@pytest.mark.parametrize("pattern", ["", "a.>.b", "a>", "**", "a.*b", ">.a"])
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgumentError):
        check_patterns((pattern,))


def test_keys_are_placed_by_the_crc_that_is_written_down() -> None:
    assert partition_of_key("123456789", 1 << 32) == 0xCBF43926


def test_a_long_topic_has_a_dead_letter_topic_too() -> None:
    for name in ("t", "a" * 200, "a" * 187 + ".b"):
        check_topic_name(dead_letter_topic_of(name), "topic")


def test_partitions_are_shared_evenly_and_move_as_little_as_possible() -> None:
    partitions = list(range(8))
    alone = assign(partitions, ["a"], {})
    assert set(alone.values()) == {"a"}
    two = assign(partitions, ["a", "b"], alone)
    assert sorted(two.values()) == ["a"] * 4 + ["b"] * 4
    three = assign(partitions, ["a", "b", "c"], two)
    assert sum(two[p] != three[p] for p in partitions) == 2
    back = assign(partitions, ["a", "c"], three)
    assert all(back[p] == three[p] for p in partitions if three[p] != "b")
    assert assign(partitions, [], back) == {}


@settings(deadline=None)
@given(
    st.integers(0, 20), st.lists(st.integers(0, 9), unique=True), st.dictionaries(st.integers(0, 25), st.integers(0, 9))
)
def test_every_partition_has_one_owner_and_nobody_two_more_than_another(
    partitions: int, members: list[int], owners: dict[int, int]
) -> None:
    assigned = assign(range(partitions), members, owners)
    assert set(assigned) == (set(range(partitions)) if members else set())
    sizes = [list(assigned.values()).count(member) for member in members]
    assert not members or max(sizes) - min(sizes) <= 1


def test_a_producer_may_not_send_half_a_batch_again() -> None:
    producers = Producers()
    producers.store("p", 1, 0, 10, 100, 0)
    assert producers.check("p", 1, 3, 4) == Duplicate(103)
    with pytest.raises(PreconditionError):
        producers.check("p", 1, 5, 10)


def test_a_withdrawn_batch_may_be_sent_again() -> None:
    producers = Producers()
    first = producers.store("p", 1, 0, 10, 100, 0)
    second = producers.store("p", 2, 50, 10, 110, 0)
    producers.withdraw("p", second)
    assert producers.check("p", 1, 10, 5) is None
    producers.withdraw("p", first)
    assert producers.get("p") is None


def test_a_silent_producer_is_forgotten() -> None:
    producers = Producers()
    producers.store("old", 1, 0, 1, 0, 0)
    producers.store("new", 1, 0, 1, 0, SILENCE_US_MAX)
    producers.forget_silent(SILENCE_US_MAX + 1)
    assert [producer_id for producer_id, _ in producers] == ["new"]


def test_a_rate_covers_the_last_ten_seconds() -> None:
    meter = Meter()
    for second in range(100, 120):
        meter.add(5, second + 0.5)
    assert (meter.rate(119.9), meter.total) == (5.0, 100)
    assert meter.rate(124.0) == 2.5
    assert meter.rate(1000.0) == 0.0
