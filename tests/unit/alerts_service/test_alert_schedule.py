"""When rules are evaluated: at even times, and soon after the feed brings something."""

from __future__ import annotations

import itertools

from telemetry.alerts.schedule import Schedule
from tests.unit.alerts_service.fakes import SECOND, START


def run(schedule: Schedule, ticks: int, arrival_us: int) -> list[tuple[int, int]]:
    """Tick in time while the feed brings something once a second, at ``arrival_us`` after the full one.

    Returns the time of each tick, and how long after the feed it came.
    """
    seen = []
    for _ in range(ticks):
        now_us = schedule.next_us
        arrived_us = (now_us - arrival_us) // SECOND * SECOND + arrival_us
        seen.append((schedule.tick(now_us, arrived_us), now_us - arrived_us))
    return seen


def test_evaluations_are_one_second_apart_and_settle_just_after_the_feed() -> None:
    for arrival_us in range(0, SECOND, 50_000):
        seen = run(Schedule(START), 60, arrival_us)
        gaps = [after - before for (before, _), (after, _) in itertools.pairwise(seen)]
        assert sum(gap != SECOND for gap in gaps) <= 1
        assert min(gaps) > 0
        assert all(late_us < 500_000 for _, late_us in seen[15:])


def test_a_late_evaluation_is_for_the_time_that_it_was_due_at() -> None:
    schedule = Schedule(START)
    assert schedule.tick(START, None) == START
    assert schedule.tick(START + SECOND + 300_000, None) == START + SECOND
    assert schedule.next_us == START + 2 * SECOND


def test_evaluations_that_were_missed_are_counted_and_not_made_up_for() -> None:
    schedule = Schedule(START)
    schedule.tick(START, None)
    assert schedule.tick(START + 5 * SECOND + 1, None) == START + 5 * SECOND
    assert (schedule.missed, schedule.next_us) == (4, START + 6 * SECOND)


def test_a_clock_that_is_set_does_not_stop_it() -> None:
    for moved_us in (3600 * SECOND, -3600 * SECOND):
        schedule = Schedule(START)
        schedule.tick(START, None)
        assert schedule.tick(START + moved_us, None) == START + moved_us
        assert schedule.next_us == START + moved_us + SECOND


def test_a_group_takes_its_turn_once_in_its_interval_even_if_ticks_are_missed() -> None:
    schedule = Schedule(START)
    turns = []
    for second in (0, 1, 2, 3, 9, 10, 11, 12, 13, 14):
        schedule.tick(START + second * SECOND, None)
        turns.append(schedule.turn(5 * SECOND, 3))
    assert [b - a for a, b in itertools.pairwise(turns)] == [1, 0, 0, 1, 0, 1, 0, 0, 0]


def test_a_runner_waits_at_most_one_second_after_the_clock_went_back() -> None:
    schedule = Schedule(START)
    schedule.tick(START, None)
    assert schedule.wait_us(START - 3600 * SECOND) == SECOND
    assert schedule.wait_us(START + SECOND - 5) == 5
    assert schedule.wait_us(START + 9 * SECOND) == 0
