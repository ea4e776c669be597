"""From what GPUs say to what alerts do: silences, restarts, gaps in the feed, new rules, a disk that is full."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from telemetry.alerts.alert import State
from telemetry.alerts.database import HISTORY_EVENTS_MAX, AlertDatabase, Changes, DatabaseError, EventFilter
from telemetry.alerts.engine import Engine, Outcome
from telemetry.alerts.feed_rule import FEED_ALERT
from telemetry.alerts.matching import Comparison, Matcher, check_pattern, full_match
from telemetry.alerts.silences import SILENCES_MAX, Silence, SilenceEndedError, TooManySilencesError
from telemetry.alerts.state import Sample
from telemetry.runtime.status import NotFoundError, UnavailableError
from tests.unit.alerts_service.fakes import (
    MINUTE,
    SECOND,
    START,
    ScriptedRules,
    group,
    labels,
    rule,
    scripted,
    update,
)


class World:
    """An engine whose clock a test turns; it can die and come back."""

    def __init__(self, folder: Path, rules: ScriptedRules) -> None:
        self.path, self.rules = folder / "alerts.sqlite", rules
        self.now_us = START
        self.told: list[str] = []
        self.start()

    def start(self) -> None:
        self.database = AlertDatabase(self.path)
        self.engine = Engine(self.rules, self.database, self.now_us)

    def die(self) -> None:
        """Lose everything that is not on disk."""
        self.database.close()

    def tick(self, *heard: str, after_s: float = 1) -> Outcome:
        """Let time pass, in which these GPUs are heard of, and tick."""
        self.now_us += int(after_s * SECOND)
        updates = [(self.now_us - SECOND // 10, update(*heard))] if heard else []
        outcome = self.engine.tick(updates, self.now_us, {})
        self.told += [
            f"{event.alert.gpu or event.alert.name} {event.alert.state.value}{' silently' if event.silenced else ''}"
            for event in outcome.events
        ]
        return outcome

    def ticks(self, seconds: int, *heard: str) -> Outcome:
        for _ in range(seconds):
            outcome = self.tick(*heard)
        return outcome

    def states(self, outcome: Outcome) -> dict[str, str]:
        return {alert.gpu or alert.name: alert.state.value for alert in outcome.snapshot.alerts.values()}


Begin = Callable[[ScriptedRules], World]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    worlds: list[World] = []

    def start(rules: ScriptedRules) -> World:
        worlds.append(World(tmp_path, rules))
        return worlds[-1]

    yield start
    for world in worlds:
        world.database.close()


def silence(gpu: str, start_us: int, end_us: int, comparison: Comparison = Comparison.EQUAL) -> Silence:
    return Silence("", (Matcher("UUID", comparison, gpu),), start_us, end_us, "kim", "being repaired", 0)


def test_groups_are_evaluated_as_often_as_they_say_and_not_all_at_once(begin: Begin) -> None:
    groups = [group("fast", [rule("A")]), *(group(f"slow{n}", [rule(f"B{n}")], interval_s=5) for n in range(5))]
    world = begin(ScriptedRules(groups))
    world.ticks(20, "a")
    times = {each.name: [t for name, t in world.rules.evaluated if name == each.name] for each in groups}
    assert [b - a for a, b in zip(times["fast"], times["fast"][1:], strict=False)] == [SECOND] * 19
    for n in range(5):
        assert {b - a for a, b in zip(times[f"slow{n}"][1:], times[f"slow{n}"][2:], strict=False)} == {5 * SECOND}
    assert len({times[f"slow{n}"][1] for n in range(5)}) > 1


def test_alerts_fire_and_resolve_after_the_clock_was_set_back(begin: Begin) -> None:
    world = begin(scripted("Hot", "Many"))
    world.rules.true["Hot"] = {"a": 95.0}
    assert world.states(world.ticks(2, "a")) == {"a": "firing"}
    world.now_us -= 7200 * SECOND
    world.rules.samples["Many"] = [Sample({"alertname": "Many"}, 1.0)]
    world.ticks(15, "a")
    world.rules.true["Hot"] = {}
    assert world.states(world.ticks(2, "a")) == {"a": "resolved", "Many": "firing"}


def test_what_is_active_survives_a_death(begin: Begin) -> None:
    world = begin(scripted("Hot", for_s=3))
    world.rules.true["Hot"] = {"a": 95.0}
    world.ticks(5, "a")
    world.rules.true["Hot"] = {"a": 95.0, "b": 96.0}
    before = world.ticks(2, "a", "b")
    assert world.states(before) == {"a": "firing", "b": "pending"}
    world.die()
    world.start()
    after = world.tick("a", "b")
    assert world.states(after) == {"a": "firing", "b": "pending"}
    assert [event.alert.gpu for event in after.events] == []
    old, new = ({alert.gpu: alert for alert in each.snapshot.alerts.values()} for each in (before, after))
    assert (new["a"].fired_us, new["a"].announced) == (old["a"].fired_us, True)
    world.ticks(5, "a", "b")
    assert world.told == ["a firing", "b firing"]


def test_the_time_of_being_dead_does_not_count_for_an_alert_that_is_pending(begin: Begin) -> None:
    world = begin(scripted("Hot", for_s=60))
    world.rules.true["Hot"] = {"a": 95.0}
    world.ticks(45, "a")
    world.die()
    world.now_us += 10 * MINUTE
    world.start()
    world.ticks(10, "a")
    assert world.told == []
    world.ticks(30, "a")
    assert world.told == ["a firing"]


def test_after_a_death_no_alert_is_resolved_for_want_of_news_of_its_gpu(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    world.rules.true["Hot"] = {"a": 95.0, "b": 95.0}
    world.ticks(2, "a", "b")
    world.die()
    world.start()
    world.rules.true["Hot"] = {}  # the evaluator has forgotten everything
    assert world.states(world.ticks(10)) == {"a": "firing", "b": "firing"}  # nothing is heard at all
    assert world.states(world.ticks(100, "a")) == {"a": "resolved", "b": "firing"}
    assert world.states(world.ticks(250, "a"))["b"] == "resolved"  # so long that it must have been heard of


def test_after_a_death_an_alert_waits_until_its_rule_has_seen_as_much_as_it_looks_at(begin: Begin) -> None:
    world = begin(scripted("Xid", range_s=600))
    world.rules.true["Xid"] = {"a": 1.0}
    world.ticks(2, "a")
    world.die()
    world.start()
    world.rules.true["Xid"] = {}
    assert world.states(world.ticks(590, "a")) == {"a": "firing"}
    assert world.states(world.ticks(20, "a")) == {"a": "resolved"}


def test_after_a_death_what_is_lost_stays_lost_until_it_is_heard_of_however_long_ago_it_was(begin: Begin) -> None:
    world = begin(scripted("Lost", "HostLost", range_s=7200))
    world.rules.true["Lost"] = {"a": 1.0, "b": 1.0}
    world.rules.samples["HostLost"] = [
        Sample({"alertname": "HostLost", "Hostname": host}, 8.0) for host in ("node-1", "node-2")
    ]
    world.ticks(12, "a", "b")
    world.die()
    world.start()
    world.rules.true, world.rules.samples = {}, {}  # what the evaluator has never heard of cannot be lost
    outcome = world.ticks(700, "a")
    states = {alert.gpu or alert.host: alert.state.value for alert in outcome.snapshot.alerts.values()}
    assert states == {"a": "resolved", "b": "firing", "node-1": "resolved", "node-2": "firing"}


def test_a_gap_in_the_feed_resolves_nothing_and_raises_nothing(begin: Begin) -> None:
    world = begin(scripted("Hot", "Silent"))
    world.rules.true["Hot"] = {"a": 95.0}
    world.ticks(20, "a", "b")
    evaluated = len(world.rules.evaluated)
    world.ticks(16)  # so long it could still be chance
    world.rules.true = {"Silent": {"a": 70.0, "b": 70.0}}  # what the expressions would say by and by
    outcome = world.ticks(60)
    assert outcome.snapshot.feed_silent
    assert world.states(outcome) == {"a": "firing"}
    assert len(world.rules.evaluated) <= evaluated + 16
    world.rules.true = {"Silent": {"b": 85.0}}
    assert world.states(world.tick("a")) == {"a": "resolved"}  # heard of, and no longer hot
    world.ticks(85, "a")
    assert world.told == ["a firing", "a resolved"]
    world.ticks(10, "a")  # by now b is silent by itself
    assert world.told == ["a firing", "a resolved", "b firing"]


@pytest.mark.parametrize("interval_s", [30, 60])
def test_sources_read_all_at_once_are_no_silent_feed_in_between(begin: Begin, interval_s: int) -> None:
    world = begin(scripted("Lost"))
    for _ in range(5):
        world.tick("a", "b")
        world.ticks(interval_s - 1)
    for _ in range(3):  # b is lost; a speaks on, as seldom as before
        outcome = world.tick("a")
        assert not outcome.snapshot.feed_silent
        assert not world.ticks(interval_s - 1).snapshot.feed_silent
    world.rules.true = {"Lost": {"b": 90.0}}
    world.tick("a")
    assert world.told == ["b firing"]


@pytest.mark.parametrize("interval_s", [1, 10, 30, 60])
def test_when_all_sources_end_the_feed_is_silent_before_any_gpu_seems_lost(begin: Begin, interval_s: int) -> None:
    """The rule pack takes a GPU for lost after 90 s if others of its host speak: here those that spoke last."""
    world = begin(scripted("Lost"))
    for _ in range(600 // interval_s):
        for second in range(interval_s):
            # The GPUs of a host are read one after the other, within a third of the time.
            heard = [gpu for place, gpu in enumerate("abc") if second == place * interval_s // 9]
            outcome = world.tick(*heard)
    since_first_s = interval_s
    while not outcome.snapshot.feed_silent:
        outcome = world.tick()
        since_first_s += 1
    assert since_first_s < 90


def test_outages_do_not_become_what_is_usual(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    for _ in range(4):
        world.ticks(700, "a")
        world.ticks(300)
    world.ticks(30, "a")
    assert not world.ticks(14).snapshot.feed_silent
    assert world.ticks(3).snapshot.feed_silent


def test_alerts_about_many_gpus_wait_after_a_gap_until_the_gpus_had_time_to_speak(begin: Begin) -> None:
    world = begin(scripted("TooFew"))
    world.rules.samples["TooFew"] = [Sample({"alertname": "TooFew", "Hostname": "node-1"}, 3.0)]
    assert world.states(world.ticks(9, "a")) == {}
    assert world.states(world.ticks(3, "a")) == {"TooFew": "firing"}


def test_a_feed_that_says_nothing_is_an_alert_of_its_own(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    world.ticks(5, "a")
    world.ticks(119)
    assert world.told == []
    outcome = world.ticks(3)
    (alert,) = outcome.snapshot.alerts.values()
    assert (alert.name, alert.state) == (FEED_ALERT, State.FIRING)
    assert "No GPU" in alert.annotations["summary"]
    world.tick("a")
    assert world.told == [f"{FEED_ALERT} firing", f"{FEED_ALERT} resolved"]


def test_a_silence_keeps_back_what_fires_and_what_is_resolved_meanwhile(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    world.ticks(2, "a", "b")
    world.engine.create_silence(silence("a", world.now_us, world.now_us + MINUTE), world.now_us)
    world.rules.true["Hot"] = {"a": 95.0, "b": 95.0}
    outcome = world.tick("a", "b")
    assert sorted(world.told) == ["a firing silently", "b firing"]
    assert {alert.gpu: bool(alert.silenced_by) for alert in outcome.snapshot.alerts.values()} == {"a": True, "b": False}
    world.rules.true["Hot"] = {}
    world.tick("a", "b")
    assert sorted(world.told[2:]) == ["a resolved silently", "b resolved"]


def test_what_still_fires_when_its_silence_ends_is_told_then(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    world.ticks(2, "a")
    made = world.engine.create_silence(silence("a|b", START, START + MINUTE, Comparison.REGEX), world.now_us)
    world.rules.true["Hot"] = {"a": 95.0}
    world.tick("a")
    assert world.told == ["a firing silently"]
    world.engine.expire_silence(made.silence_id, world.now_us)
    outcome = world.tick("a")
    assert world.told == ["a firing silently", "a firing"]
    assert [alert.silenced_by for alert in outcome.changed] == [()]
    world.ticks(3, "a")
    assert len(world.told) == 2


def test_what_was_told_before_the_silence_is_taken_back_in_it(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    world.rules.true["Hot"] = {"a": 95.0}
    world.ticks(2, "a")
    world.engine.create_silence(silence("a", START, START + MINUTE), world.now_us)
    (changed,) = world.tick("a").changed
    assert len(changed.silenced_by) == 1
    world.rules.true["Hot"] = {}
    world.tick("a")
    assert world.told == ["a firing", "a resolved"]


def test_a_silence_begins_and_ends_by_itself_over_a_death_too(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    world.rules.true["Hot"] = {"a": 95.0}
    world.ticks(2, "a")
    world.engine.create_silence(silence("a", world.now_us + 5 * SECOND, world.now_us + 30 * SECOND), world.now_us)

    def silenced(outcome: Outcome) -> bool:
        return any(alert.silenced_by for alert in outcome.snapshot.alerts.values())

    assert not silenced(world.tick("a"))
    assert silenced(world.ticks(6, "a"))
    world.die()
    world.start()
    assert silenced(world.tick("a"))
    world.die()
    world.now_us += 40 * SECOND
    world.start()
    assert not silenced(world.tick("a"))
    assert world.told == ["a firing"]


def test_the_same_request_makes_one_silence(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    asked = replace(silence("a", START, START + MINUTE), request_id="r1")
    first = world.engine.create_silence(asked, START)
    assert world.engine.create_silence(asked, START) == first
    assert len(world.engine.all_silences()) == 1


def test_a_silence_ends_once_and_there_are_only_so_many(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    made = world.engine.create_silence(silence("a", START, START + MINUTE), START)
    world.engine.expire_silence(made.silence_id, START + 1)
    with pytest.raises(SilenceEndedError, match="has ended already"):
        world.engine.expire_silence(made.silence_id, START + 2)
    with pytest.raises(NotFoundError, match="no silence is called 'nope'"):
        world.engine.expire_silence("nope", START)
    one = silence("a", START, START + MINUTE)
    several = Changes(silences={str(n): replace(one, silence_id=str(n)) for n in range(SILENCES_MAX)})
    world.database.save(several, START)
    world.die()
    world.start()
    with pytest.raises(TooManySilencesError, match="1000 silences"):
        world.engine.create_silence(silence("a", START, START + MINUTE), START + 1)


def test_new_rules_keep_the_alerts_of_rules_that_stay_and_resolve_the_others(begin: Begin) -> None:
    world = begin(scripted("Hot", "Gone"))
    world.rules.true = {"Hot": {"a": 95.0}, "Gone": {"b": 1.0}}
    world.ticks(2, "a", "b")
    newer = scripted("Hot", "New")
    newer.true = {"Hot": {"a": 97.0}, "New": {"a": 1.0}}
    world.engine.load(newer, world.now_us)
    outcome = world.tick("a", "b")
    assert sorted(world.told) == ["a firing", "a firing", "b firing", "b resolved"]
    states = {alert.name: alert.state.value for alert in outcome.snapshot.alerts.values()}
    assert states == {"Hot": "firing", "Gone": "resolved", "New": "firing"}
    assert "Gone" not in {alert.name for alert in world.ticks(17 * 60, "a").snapshot.alerts.values()}


def test_rules_that_are_gone_after_a_death_leave_no_alert_behind(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    world.rules.true["Hot"] = {"a": 95.0}
    world.ticks(2, "a")
    world.die()
    world.rules = scripted("Other")
    world.start()
    world.tick("a")
    assert world.told == ["a firing", "a resolved"]


def test_a_rule_that_fails_leaves_its_alerts_as_they_are_and_says_why(begin: Begin) -> None:
    world = begin(scripted("Hot", "Fine"))
    world.rules.true["Hot"] = {"a": 95.0}
    world.ticks(2, "a")
    world.rules.errors["Hot"] = "two series have the same labels"
    world.rules.true = {"Fine": {"a": 1.0}}
    outcome = world.tick("a")
    assert {alert.name: alert.state.value for alert in outcome.snapshot.alerts.values()} == {
        "Hot": "firing",
        "Fine": "firing",
    }
    assert outcome.snapshot.health["gpus/Hot"].error == "two series have the same labels"


def test_changes_are_told_without_those_that_only_are_new_values(begin: Begin) -> None:
    world = begin(scripted("Hot", for_s=2))
    world.rules.true["Hot"] = {"a": 95.0}
    seen = []
    for place in range(6):
        world.rules.true["Hot"] = {"a": 95.0 + place} if place < 5 else {}
        seen.append([alert.state.value for alert in world.tick("a").changed])
    assert seen == [["pending"], [], ["firing"], [], [], ["resolved"]]
    world.rules.true["Hot"] = {"b": 95.0}
    world.tick("a", "b")
    world.rules.true["Hot"] = {}
    (gone,) = world.tick("a", "b").changed
    assert (gone.gpu, gone.state, gone.fired_us) == ("b", State.RESOLVED, None)


def test_the_history_is_kept_and_can_be_asked_for_by_alert_gpu_and_time(begin: Begin) -> None:
    world = begin(scripted("Hot", "Slow"))
    for place in range(4):
        world.rules.true = {"Hot": {"a": 95.0}, "Slow": {"b": float(place)}} if place % 2 == 0 else {}
        world.tick("a", "b")
    events = world.database.history(EventFilter(), 100)
    assert [event.number for event in events] == list(range(8, 0, -1))
    assert {event.alert.name for event in world.database.history(EventFilter(gpu="a"), 100)} == {"Hot"}
    assert len(world.database.history(EventFilter(alert="Slow"), 100)) == 4
    assert len(world.database.history(EventFilter(fingerprint=events[0].alert.fingerprint), 100)) == 4
    some = world.database.history(EventFilter(start_us=events[4].at_us, end_us=events[0].at_us), 100)
    assert {event.at_us for event in some} == {event.at_us for event in events[2:6]}
    assert [event.number for event in world.database.history(EventFilter(before=5), 2)] == [4, 3]


def test_the_history_has_a_bound(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    world.rules.true["Hot"] = {"a": 95.0}
    (event,) = world.tick("a").events
    old = [replace(event, number=number, at_us=START - 91 * 86_400 * SECOND) for number in range(2, 50)]
    world.database.save(Changes(events=[*old, replace(event, number=50)]), START)
    assert [each.number for each in world.database.history(EventFilter(), 1000)] == [50, 1]
    world.database.save(Changes(events=[replace(event, number=HISTORY_EVENTS_MAX + 20)]), START)
    assert [each.number for each in world.database.history(EventFilter(), 1000)] == [HISTORY_EVENTS_MAX + 20, 50]


def test_a_disk_that_cannot_be_written_holds_no_alert_up_and_gets_all_later(begin: Begin) -> None:
    world = begin(scripted("Hot"))
    world.ticks(1, "a")
    other = sqlite3.connect(world.path, isolation_level=None)
    world.database._writer.execute("PRAGMA busy_timeout = 1")
    other.execute("BEGIN IMMEDIATE")
    world.rules.true["Hot"] = {"a": 95.0}
    outcome = world.tick("a")
    assert world.told == ["a firing"]
    assert "cannot be written: database is locked" in outcome.snapshot.unsaved
    with pytest.raises(UnavailableError, match="the silence cannot be kept"):
        world.engine.create_silence(silence("a", START, START + MINUTE), world.now_us)
    world.rules.true["Hot"] = {}
    world.tick("a")
    other.execute("ROLLBACK")
    other.close()
    assert world.tick("a").snapshot.unsaved == ""
    assert [event.alert.state.value for event in world.database.history(EventFilter(), 10)] == ["resolved", "firing"]
    world.die()
    world.start()
    assert world.states(world.tick("a")) == {"a": "resolved"}


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alerts.sqlite"
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(DatabaseError, match=r"alerts\.sqlite has format 7; this version reads 1"):
        AlertDatabase(path)
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(DatabaseError, match="cannot be used for alerts"):
        AlertDatabase(path)


def test_matchers_mean_what_alertmanagers_mean() -> None:
    have = labels("Hot", "GPU-1") | {"pod": "train\n7"}
    for text, comparison, value, expected in [
        ("UUID", Comparison.EQUAL, "GPU-1", True),
        ("UUID", Comparison.NOT_EQUAL, "GPU-1", False),
        ("UUID", Comparison.REGEX, "GPU-.", True),
        ("UUID", Comparison.REGEX, "PU", False),
        ("UUID", Comparison.NOT_REGEX, "GPU", True),
        ("pod", Comparison.REGEX, "train.*", True),
        ("absent", Comparison.EQUAL, "", True),
        ("absent", Comparison.REGEX, ".+", False),
    ]:
        assert Matcher(text, comparison, value).matches(have) is expected, (text, comparison, value)


def test_no_regular_expression_takes_long_and_bad_ones_are_named() -> None:
    assert not full_match("(a*)*b", "a" * 1000)
    for pattern, reason in {
        "(": "missing \\)",
        "x)|(y": "unexpected \\)",
        "(?=a)": "invalid perl operator",
        r"(a)\1": "invalid escape sequence",
        "(a{1000}){1000}": "invalid repetition size",
        r"\pL{999}": "too large",
    }.items():
        with pytest.raises(ValueError, match=reason):
            check_pattern(pattern)
