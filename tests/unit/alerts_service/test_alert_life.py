"""What becomes of an alert when its rule is evaluated: Prometheus' own life, and what is held after a gap."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.alerts.alert import Alert, State, fingerprint
from telemetry.alerts.state import TABLE, AlertingRule, Evaluation, Held, advance
from tests.unit.alerts_service.fakes import MINUTE, SECOND, START, rule, sample

HOT = "GpuHot"


class Life:
    """One rule evaluated once a second."""

    def __init__(self, of: AlertingRule) -> None:
        self.rule = of
        self.alerts: dict[str, Alert] = {}
        self.now_us = START
        self.told: list[str] = []

    def evaluate(self, *gpus: str, held: Held | None = None, after_s: float = 1) -> Mapping[str, str]:
        """Evaluate with the rule true for these GPUs; the states by GPU."""
        samples = [sample(HOT, gpu) for gpu in gpus]
        self.alerts, events = advance(self.rule, self.alerts, samples, self.now_us, held or Held())
        self.told += [f"{event.alert.gpu} {event.alert.state.value}" for event in events]
        self.now_us += int(after_s * SECOND)
        return {alert.gpu: alert.state.value for alert in self.alerts.values()}

    def alert(self, gpu: str) -> Alert:
        return next(alert for alert in self.alerts.values() if alert.gpu == gpu)


def test_a_rule_without_for_fires_at_once() -> None:
    life = Life(rule(HOT))
    assert life.evaluate("a") == {"a": "firing"}
    assert life.told == ["a firing"]
    assert life.alert("a").fired_us == life.alert("a").active_us == START


def test_for_counts_from_the_first_evaluation_at_which_it_was_true() -> None:
    life = Life(rule(HOT, for_s=3))
    assert [life.evaluate("a")["a"] for _ in range(5)] == ["pending", "pending", "pending", "firing", "firing"]
    assert life.told == ["a firing"]
    alert = life.alert("a")
    assert alert.fired_us is not None
    assert (alert.active_us, alert.fired_us - alert.active_us) == (START, 3 * SECOND)


def test_one_evaluation_that_is_not_true_begins_for_anew() -> None:
    life = Life(rule(HOT, for_s=2))
    life.evaluate("a")
    life.evaluate("a")
    assert life.evaluate() == {}
    assert [life.evaluate("a")["a"] for _ in range(3)] == ["pending", "pending", "firing"]


def test_an_alert_that_fired_is_resolved_and_kept_for_a_quarter_of_an_hour() -> None:
    life = Life(rule(HOT))
    life.evaluate("a")
    assert life.evaluate(after_s=15 * 60) == {"a": "resolved"}
    resolved = life.alert("a")
    assert resolved.resolved_us == START + SECOND
    assert life.evaluate() == {"a": "resolved"}
    assert life.evaluate() == {}
    assert life.told == ["a firing", "a resolved"]


def test_one_that_was_pending_is_gone_without_a_word() -> None:
    life = Life(rule(HOT, for_s=60))
    life.evaluate("a")
    assert life.evaluate() == {}
    assert life.told == []


def test_a_resolved_alert_that_is_true_again_is_a_new_one() -> None:
    life = Life(rule(HOT, for_s=1))
    life.evaluate("a")
    life.evaluate("a")
    life.evaluate()
    again_us = life.now_us
    assert life.evaluate("a") == {"a": "pending"}
    assert life.alert("a").active_us == again_us
    assert life.alert("a").fired_us is None
    assert life.evaluate("a") == {"a": "firing"}
    assert life.told == ["a firing", "a resolved", "a firing"]


def test_keep_firing_for_bridges_a_pause_and_begins_anew_after_each() -> None:
    life = Life(rule(HOT, keep_s=3))
    life.evaluate("a")
    assert [life.evaluate() for _ in range(3)] == [{"a": "firing"}] * 3
    assert life.evaluate("a") == {"a": "firing"}
    assert [life.evaluate() for _ in range(4)] == [{"a": "firing"}] * 3 + [{"a": "resolved"}]
    assert life.told == ["a firing", "a resolved"]


def test_keep_firing_for_keeps_nothing_that_only_was_pending() -> None:
    life = Life(rule(HOT, for_s=5, keep_s=60))
    life.evaluate("a")
    assert life.evaluate() == {}


def test_each_combination_of_labels_lives_by_itself() -> None:
    life = Life(rule(HOT, for_s=1))
    life.evaluate("a")
    life.evaluate("a", "b")
    assert life.evaluate("b") == {"a": "resolved", "b": "firing"}


def test_value_is_that_of_the_newest_evaluation_and_texts_follow_within_five_seconds() -> None:
    life = Life(rule(HOT))
    for place in range(7):
        samples = [sample(HOT, "a", 90.0 + place)]
        life.alerts, _ = advance(life.rule, life.alerts, samples, START + place * SECOND)
        if place == 4:
            assert life.alert("a").annotations == {"summary": "it is 90"}
    assert life.alert("a").value == 96.0
    assert life.alert("a").annotations == {"summary": "it is 95"}


def test_a_fingerprint_is_the_same_in_every_process_and_differs_with_rule_and_labels() -> None:
    assert fingerprint("r", {"a": "1", "b": "2"}) == fingerprint("r", {"b": "2", "a": "1"}) == "77e6199fdf6573c6"
    others = {fingerprint("r2", {"a": "1", "b": "2"}), fingerprint("r", {"a": "1"}), fingerprint("r", {"a": "1b2"})}
    assert len(others) == 3


class Unknown(Held):
    """Nobody can say anything."""

    def activation(self, labels: Mapping[str, str]) -> bool:
        return True

    def resolution(self, labels: Mapping[str, str]) -> bool:
        return True


def test_what_cannot_be_known_changes_nothing() -> None:
    life = Life(rule(HOT, for_s=2))
    life.evaluate("pending")
    assert life.evaluate("pending", "new", held=Unknown()) == {"pending": "pending"}
    assert life.evaluate("new", held=Unknown()) == {"pending": "pending"}
    assert life.evaluate("pending") == {"pending": "firing"}
    assert life.evaluate(held=Unknown()) == {"pending": "firing"}
    assert life.evaluate() == {"pending": "resolved"}


@pytest.mark.parametrize("was", [None, *State])
def test_every_event_that_can_meet_an_alert_has_its_place_in_the_table(was: State | None) -> None:
    impossible = {
        None: {Evaluation.FALSE, Evaluation.FALSE_KEPT, Evaluation.FORGOTTEN},
        State.PENDING: {Evaluation.FALSE_KEPT, Evaluation.FORGOTTEN},
        State.FIRING: {Evaluation.FORGOTTEN},
        State.RESOLVED: {Evaluation.FALSE_KEPT},
    }
    assert set(TABLE[was]) == set(Evaluation) - impossible[was]


@given(
    steps=st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.integers(1, 400)), max_size=40),
    for_s=st.integers(0, 300),
    keep_s=st.integers(0, 300),
)
def test_whatever_happens_an_alert_is_announced_and_taken_back_in_turn(
    steps: list[tuple[set[str], int]], for_s: int, keep_s: int
) -> None:
    life = Life(rule(HOT, for_s=for_s, keep_s=keep_s))
    for true, after_s in steps:
        life.evaluate(*sorted(true), after_s=after_s)
        for alert in life.alerts.values():
            assert (alert.fired_us is None) == (alert.state is State.PENDING)
            assert (alert.resolved_us is None) == (alert.state is not State.RESOLVED)
            assert alert.resolved_us is None or life.now_us - alert.resolved_us <= 16 * MINUTE + 400 * SECOND
    for gpu in "abc":
        told = [line.split()[1] for line in life.told if line.split()[0] == gpu]
        assert told == (["firing", "resolved"] * len(told))[: len(told)]
