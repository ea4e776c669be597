"""The checker finds each breach in a history made by hand, and nothing in what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.crash.checker import Breach, DeadLetter, GroupRules, History, Life, Outage, check
from tests.crash.ledger import (
    ACK,
    NACK,
    OK,
    STALE,
    TERMINATE,
    Assigned,
    Confirmed,
    Delivered,
    Event,
    LedgerWriter,
    Refused,
    Revoked,
    Sent,
    Settled,
    Settling,
    read_ledger,
)

FOREVER = float("inf")


@dataclass
class Play:
    """A history under construction: three messages in one partition, sent and confirmed, and a group that has them."""

    ordered: bool = False
    published: list[Event] = field(
        default_factory=lambda: [
            Sent(1.0, "p", 0, 0, ("a", "b", "c")),
            Confirmed(1.1, 0, 0, ("a", "b", "c"), duplicate=False),
        ]
    )
    stored: list[tuple[int, str]] = field(default_factory=lambda: [(0, "a"), (1, "b"), (2, "c")])
    lives: list[Life] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)

    def member(self, *events: Event, ended: float = FOREVER) -> Play:
        """A life of a member of the group."""
        self.lives.append(Life(f"m.{len(self.lives)}", ended, events))
        return self

    def breaches(self) -> set[Breach]:
        """What the checker says."""
        if not self.lives:
            self.member(*handled(2.0, 1, 0, "a", "b", "c"))
        return {
            violation.breach
            for violation in check(
                History(
                    topic="work",
                    publishers=[Life("p.0", FOREVER, self.published)],
                    members={"g": self.lives},
                    groups={"g": GroupRules(self.ordered, max_deliver=3)},
                    outages=self.outages,
                    stored={0: self.stored},
                    dead_letters=self.dead_letters,
                )
            )
        }


def delivered(at: float, number: int, first: int, *ids: str, attempt: int = 1) -> Delivered:
    return Delivered(at, number, 0, tuple(range(first, first + len(ids))), ids, attempt)


def handled(at: float, number: int, first: int, *ids: str, outcome: str = ACK, status: str = OK) -> Sequence[Event]:
    """A delivery and what became of it."""
    return (
        delivered(at, number, first, *ids),
        Settling(at + 0.01, number, outcome),
        Settled(at + 0.02, number, status),
    )


def letter(name: str, offset: int, **changes: str) -> DeadLetter:
    attributes: Mapping[str, str] = {
        "dead-letter-topic-origin": "work",
        "dead-letter-partition": "0",
        "dead-letter-offset": str(offset),
        "dead-letter-group": "g",
        "dead-letter-attempts": "3",
        "dead-letter-reason": "poison",
    }
    return DeadLetter(name, {**attributes, **{f"dead-letter-{key}": value for key, value in changes.items()}})


# The log


def test_a_run_without_incidents_has_no_breach() -> None:
    assert Play().breaches() == set()


def test_a_confirmed_message_that_is_not_stored_is_lost() -> None:
    play = Play(stored=[(0, "a"), (1, "b")])
    play.member(*handled(2.0, 1, 0, "a", "b"))
    assert play.breaches() == {Breach.LOST}


def test_an_unconfirmed_message_may_be_stored_or_not() -> None:
    play = Play()
    play.published.append(Sent(3.0, "p", 0, 3, ("d",)))
    assert play.breaches() == set()
    play.stored.append((3, "d"))
    play.member(*handled(4.0, 1, 3, "d"))
    assert play.breaches() == set()


def test_a_message_elsewhere_than_its_receipt_says_is_misplaced() -> None:
    play = Play()
    play.published[1:] = [
        Confirmed(1.1, 0, 0, ("a",), duplicate=False),
        Confirmed(1.1, 0, 2, ("b",), duplicate=False),
        Confirmed(1.1, 0, 2, ("c",), duplicate=False),
    ]
    assert play.breaches() == {Breach.MISPLACED}


def test_a_resend_must_be_given_the_offset_of_the_first_time() -> None:
    play = Play()
    play.published += [Sent(3.0, "p", 0, 0, ("a",)), Confirmed(3.1, 0, 0, ("a",), duplicate=True)]
    assert play.breaches() == set()
    play.published.append(Confirmed(3.2, 0, None, ("b",), duplicate=True))
    assert play.breaches() == set(), "the queue may have forgotten where it is"
    play.published.append(Confirmed(3.3, 0, 1, ("a",), duplicate=True))
    assert play.breaches() == {Breach.MISPLACED}


def test_a_message_that_nobody_sent_is_invented() -> None:
    play = Play()
    play.stored.append((3, "x"))
    play.member(*handled(2.0, 1, 0, "a", "b", "c", "x"))
    assert play.breaches() == {Breach.INVENTED}


def test_a_message_in_another_partition_than_it_was_sent_to_is_invented() -> None:
    play = Play()
    play.published.append(Sent(3.0, "p", 1, 0, ("d",)))
    play.stored.append((3, "d"))
    play.member(*handled(2.0, 1, 0, "a", "b", "c", "d"))
    assert play.breaches() == {Breach.INVENTED}


def test_a_message_delivered_beyond_the_end_is_invented() -> None:
    play = Play().member(*handled(2.0, 1, 0, "a", "b", "c", "d"))
    assert play.breaches() == {Breach.INVENTED}


def test_a_message_must_not_be_stored_twice() -> None:
    play = Play()
    play.stored.append((3, "b"))
    play.member(*handled(2.0, 1, 0, "a", "b", "c", "b"))
    assert play.breaches() == {Breach.STORED_TWICE}


def test_offsets_are_dense() -> None:
    play = Play()
    play.published[1] = Confirmed(1.1, 0, 0, ("a", "b"), duplicate=False)
    play.stored[2] = (3, "c")
    play.member(*handled(2.0, 1, 0, "a", "b"), *handled(2.1, 2, 3, "c"))
    assert Breach.HOLE in play.breaches()


def test_a_publishers_messages_are_stored_in_its_order() -> None:
    play = Play(stored=[(0, "b"), (1, "a"), (2, "c")])
    play.published.pop()
    play.member(*handled(2.0, 1, 0, "b", "a", "c"))
    assert play.breaches() == {Breach.MISORDERED_LOG}
    play.published[0] = Sent(1.0, "p", 0, 0, ("a",))
    play.published += [Sent(1.0, "another", 0, 0, ("b",)), Sent(1.0, "p", 0, 1, ("c",))]
    assert play.breaches() == set(), "two publishers have no order between them"


def test_a_refusal_is_a_breach() -> None:
    play = Play()
    play.published.append(Refused(3.0, "left a gap"))
    assert play.breaches() == {Breach.REFUSED}


# A group


def test_a_message_that_never_arrives_is_skipped() -> None:
    assert Play().member(*handled(2.0, 1, 0, "a", "b")).breaches() == {Breach.SKIPPED}


def test_a_message_that_was_delivered_and_not_acked_is_skipped() -> None:
    play = Play().member(*handled(2.0, 1, 0, "a", "b"), delivered(2.0, 2, 2, "c"), ended=3.0)
    assert play.breaches() == {Breach.SKIPPED}


def test_an_ack_without_an_answer_may_have_counted() -> None:
    play = Play().member(*handled(2.0, 1, 0, "a", "b"), delivered(2.0, 2, 2, "c"), Settling(2.1, 2, ACK), ended=3.0)
    assert play.breaches() == set()


def test_an_ack_that_was_stale_did_not_count_unless_the_queue_was_away() -> None:
    play = Play().member(*handled(2.0, 1, 0, "a", "b", "c", status=STALE))
    assert play.breaches() == {Breach.SKIPPED}
    play.outages.append(Outage(2.015, 3.0))
    assert play.breaches() == set()


def test_another_payload_than_is_stored_is_altered() -> None:
    play = Play().member(*handled(2.0, 1, 0, "a", "damaged: b'x'", "c"))
    assert play.breaches() == {Breach.ALTERED}


def test_what_was_acked_does_not_come_again() -> None:
    play = Play(outages=[Outage(4.0, 5.0)]).member(*handled(2.0, 1, 0, "a", "b", "c"))
    play.member(*handled(6.0, 1, 1, "b"))
    assert play.breaches() == {Breach.REPEATED}


def test_what_was_acked_does_not_come_again_even_to_one_who_dies_of_it() -> None:
    play = Play(outages=[Outage(4.0, 5.0)]).member(*handled(2.0, 1, 0, "a", "b", "c"))
    play.member(delivered(6.0, 1, 1, "b"), ended=6.1)
    assert play.breaches() == {Breach.REPEATED}


def test_a_delivery_may_lie_in_a_socket_while_the_message_is_acked_elsewhere() -> None:
    play = Play(ordered=True)
    play.member(Assigned(1.5, (0,)), Revoked(1.9, (0,)), delivered(2.1, 1, 0, "a", "b", "c"), ended=3.0)
    play.member(Assigned(1.9, (0,)), *handled(2.0, 1, 0, "a", "b", "c"))
    assert Breach.REPEATED not in play.breaches()


def test_a_message_goes_to_one_member_at_a_time() -> None:
    play = Play().member(delivered(2.0, 1, 0, "a"), Settling(4.0, 1, ACK), Settled(4.1, 1, STALE))
    play.member(*handled(3.5, 1, 0, "a", "b", "c"))
    assert play.breaches() == {Breach.DUPLICATED}


def test_a_message_comes_again_when_its_member_or_the_queue_dies_or_it_is_nacked() -> None:
    first = delivered(2.0, 1, 0, "a")
    again = handled(5.0, 1, 0, "a", "b", "c")
    assert Play().member(first, ended=4.0).member(*again).breaches() == set()
    assert Play(outages=[Outage(4.0, 4.5)]).member(first).member(*again).breaches() == set()
    assert Play().member(first, Settling(2.1, 1, NACK), Settled(2.2, 1, OK)).member(*again).breaches() == set()
    assert Play().member(first).member(*again).breaches() == {Breach.DUPLICATED}


def test_an_ordered_partition_may_move_and_begins_where_nothing_was_acked() -> None:
    play = Play(ordered=True)
    play.member(Assigned(1.5, (0,)), *handled(2.0, 1, 0, "a"), delivered(2.1, 2, 1, "b"), Revoked(2.2, (0,)))
    play.member(Assigned(2.2, (0,)), *handled(2.3, 1, 1, "b"), *handled(2.4, 2, 2, "c"))
    assert play.breaches() == set()


def test_an_ordered_partition_is_not_delivered_again_to_its_owner_without_a_reason() -> None:
    play = Play(ordered=True)
    play.member(Assigned(1.5, (0,)), delivered(2.0, 1, 0, "a", "b", "c"), *handled(6.0, 2, 0, "a", "b", "c"))
    assert play.breaches() == {Breach.DUPLICATED, Breach.REORDERED}


def test_an_ordered_group_does_not_see_a_message_before_the_one_before_it() -> None:
    play = Play(ordered=True)
    play.member(Assigned(1.5, (0,)), *handled(2.0, 1, 0, "a"), *handled(2.1, 2, 2, "c"), *handled(2.2, 3, 1, "b"))
    assert play.breaches() == {Breach.REORDERED}


def test_an_ordered_partition_does_not_begin_behind_what_is_unsettled() -> None:
    play = Play(ordered=True)
    play.member(Assigned(1.5, (0,)), delivered(2.0, 1, 0, "a"), ended=3.0)
    play.member(Assigned(3.1, (0,)), *handled(3.2, 1, 1, "b", "c"))
    play.member(Assigned(4.1, (0,)), *handled(4.2, 1, 0, "a"))
    assert play.breaches() == {Breach.REORDERED}


def test_the_order_within_a_shared_group_is_free() -> None:
    play = Play().member(*handled(2.0, 1, 2, "c"), *handled(2.1, 2, 0, "a"), *handled(2.2, 3, 1, "b"))
    assert play.breaches() == set()


# Dead letters


def given_up() -> Play:
    """The second message was nacked as often as it may be."""
    nacked = [event for attempt in (2, 3, 4) for event in handled(attempt * 1.0, attempt, 1, "b", outcome=NACK)]
    return Play().member(*handled(2.0, 1, 0, "a"), *nacked, *handled(5.0, 5, 2, "c"))


def test_what_was_given_up_is_in_the_dead_letter_topic_at_least_once() -> None:
    play = given_up()
    assert play.breaches() == {Breach.DEAD_LETTER_LOST}
    play.dead_letters = [letter("b", 1)]
    assert play.breaches() == set()
    play.dead_letters *= 2
    assert play.breaches() == set()


def test_what_was_terminated_is_in_the_dead_letter_topic_and_does_not_come_again() -> None:
    play = Play().member(
        *handled(2.0, 1, 0, "a"), *handled(2.1, 2, 1, "b", outcome=TERMINATE), *handled(2.2, 3, 2, "c")
    )
    assert play.breaches() == {Breach.DEAD_LETTER_LOST}
    play.dead_letters = [letter("b", 1, attempts="1")]
    assert play.breaches() == set()
    play.outages = [Outage(3.0, 4.0)]
    play.member(delivered(5.0, 1, 1, "b"), ended=6.0)
    assert play.breaches() == {Breach.REPEATED}


def test_a_dead_letter_says_the_truth_about_itself() -> None:
    for wrong in (
        letter("c", 1),
        letter("b", 1, **{"topic-origin": "other"}),
        letter("b", 1, attempts="2"),
        letter("b", 1, reason=""),
    ):
        play = given_up()
        play.dead_letters = [wrong]
        assert play.breaches() == {Breach.DEAD_LETTER_WRONG}


def test_what_was_acked_is_not_buried() -> None:
    play = given_up()
    play.dead_letters = [letter("b", 1), letter("a", 0)]
    assert play.breaches() == {Breach.DEAD_LETTER_WRONG}


def test_a_dead_letter_of_what_was_never_delivered_is_wrong() -> None:
    play = given_up()
    play.lives[0] = replace(play.lives[0], events=play.lives[0].events[3:])
    play.dead_letters = [letter("b", 1), letter("a", 0)]
    assert play.breaches() == {Breach.DEAD_LETTER_WRONG}


# The ledger


def test_a_ledger_holds_what_was_written_except_for_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    events: list[Event] = [
        Sent(1.0, "p", 0, 0, ("a", "b")),
        Confirmed(1.1, 0, None, ("a", "b"), duplicate=True),
        Refused(1.2, "why"),
        *handled(2.0, 1, 0, "a"),
        Assigned(2.5, (0, 1)),
        Revoked(2.6, ()),
    ]
    ledger = LedgerWriter(path)
    for event in events:
        ledger.write(event)
    with path.open("ab") as file:
        file.write(b'["Sent",3.0,"p",')
    assert list(read_ledger(path)) == events
