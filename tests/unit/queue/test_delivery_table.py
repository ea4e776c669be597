"""The table of a delivery's life: every state against every event."""

from __future__ import annotations

import itertools

import pytest

from telemetry.queue.core.batches import Entry
from telemetry.queue.core.cursor import Cursor
from telemetry.queue.core.delivery import SETTLED, TABLE, Event, Piece, State
from telemetry.queue.core.effects import Effects
from telemetry.queue.core.groups import GroupState
from telemetry.queue.core.leases import Leases
from telemetry.queue.core.timers import Timers
from telemetry.queue.core.topics import TopicState
from telemetry.queue.core.types import GroupSettings, TopicConfig


def piece_in(state: State) -> Piece:
    group = GroupState("g", GroupSettings(("t",)), Leases("n"), Timers(), Effects())
    partition = TopicState(1, TopicConfig("t"), 0).partitions[0]
    piece = Piece(Cursor(group, partition, 0), Entry(0, 4, 10, 0, 0), ((0, 4),))
    piece.state = state
    return piece


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_an_event_moves_as_the_table_says_and_an_illegal_one_changes_nothing(state: State, event: Event) -> None:
    piece = piece_in(state)
    before = {name: getattr(piece, name) for name in Piece.__slots__}
    legal = piece.apply(event)
    assert legal is (event in TABLE[state])
    assert piece.state is (TABLE[state][event] if legal else state)
    del before["state"]
    assert {name: getattr(piece, name) for name in before} == before


def test_every_state_can_be_reached_and_every_settled_one_is_final() -> None:
    reached, fresh = set[State](), {State.READY}
    while fresh:
        reached |= fresh
        fresh = {after for state in fresh for after in TABLE[state].values()} - reached
    assert reached == set(State)
    assert {State.ACKED, State.BURIED, State.DROPPED} == SETTLED


def test_whatever_is_not_settled_can_be_dropped() -> None:
    assert all(TABLE[state][Event.DROP] is State.DROPPED for state in set(State) - SETTLED)


def test_a_piece_splits_into_parts_of_the_same_fate() -> None:
    piece = piece_in(State.LEASED)
    piece.attempts, piece.reason = 3, "why"
    part = piece.split(1, 3)
    assert part is not None
    assert (part.runs, part.count, part.state, part.attempts, part.reason) == (((1, 3),), 2, State.LEASED, 3, "why")
    assert (piece.runs, piece.count, piece.due()) == (((0, 1), (3, 4)), 2, ((0, 1), (3, 1)))
    assert piece.split(1, 3) is None
    assert piece.split(0, 4) is piece
