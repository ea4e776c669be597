"""Lines come out of chunks whole, requests stay small, and outcomes keep the order of their messages."""

from __future__ import annotations

import pytest

from telemetry.console.lines import LineSplitter, LineTooLongError
from telemetry.console.publishing import BATCH_BYTES, BATCH_MESSAGES, InOrder, Outcome, batches
from telemetry.queue.client import DeliveryTimeoutError, InvalidRequestError, OutgoingMessage, Receipt
from telemetry.queue.core.types import MESSAGE_BYTES_MAX


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_do_not_depend_on_how_they_arrive(size: int) -> None:
    text = b"one\ntwo\r\n\nthree\r\nlast"
    splitter = LineSplitter()
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    assert [line for chunk in (*chunks, b"") for line in splitter.split(chunk)] == [
        b"one",
        b"two",
        b"",
        b"three",
        b"last",
    ]


def test_a_line_end_at_the_end_makes_no_empty_message() -> None:
    splitter = LineSplitter()
    assert splitter.split(b"one\n") + splitter.split(b"") == [b"one"]


def test_a_line_larger_than_a_message_is_named() -> None:
    splitter = LineSplitter()
    splitter.split(b"one\n" + b"x" * MESSAGE_BYTES_MAX)
    with pytest.raises(LineTooLongError, match="line 2 is longer than a message may be"):
        splitter.split(b"x")


def test_requests_are_bounded_in_messages_and_bytes() -> None:
    small = [OutgoingMessage(b"x") for _ in range(2 * BATCH_MESSAGES + 1)]
    assert [len(each) for each in batches(small)] == [BATCH_MESSAGES, BATCH_MESSAGES, 1]
    large = OutgoingMessage(b"x" * BATCH_BYTES)
    assert [len(each) for each in batches([large, large, *small[:2], large])] == [1, 1, 2, 1]
    assert list(batches([])) == []


def test_outcomes_are_told_in_the_order_of_their_messages() -> None:
    told: list[tuple[int, Outcome]] = []
    order = InOrder(lambda index, outcome: told.append((index, outcome)))
    first, second, third = order.begin(), order.begin(), order.begin()
    third(Receipt(0, 3))
    refused = InvalidRequestError("no")
    first(refused)
    assert told == [(0, refused)]
    second(Receipt(0, 2))
    assert told[1:] == [(1, Receipt(0, 2)), (2, Receipt(0, 3))]
    assert order.trouble is None


def test_only_an_error_that_is_not_about_one_message_is_trouble() -> None:
    order = InOrder(lambda index, outcome: None)
    gone = DeliveryTimeoutError("gone")
    order.begin()(gone)
    assert order.trouble is gone
