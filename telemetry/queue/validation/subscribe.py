"""From a SubscribeStart and a SubscribeFlow to options and permits."""

from __future__ import annotations

from typing import Final

from telemetry.queue.core.names import check_group_name, check_patterns, check_topic_name
from telemetry.queue.core.settings import BACKOFF_STEPS_MAX, DELIVER_MAX
from telemetry.queue.core.types import Mode, SubscribeOptions
from telemetry.queue.validation.fields import (
    NAME_BYTES_MAX,
    at_most,
    duration_s,
    invalid,
    position,
    text,
)
from telemetry.v1 import queue_pb2

ACK_WAIT_S_MIN: Final = 1.0
"""Shortest ack wait that a group may ask for."""
PERMITS_MESSAGES_MAX: Final = 1_000_000
"""Most messages that one `flow` may add."""

_MODES: Final = {
    queue_pb2.SUBSCRIPTION_MODE_UNSPECIFIED: None,
    queue_pb2.SUBSCRIPTION_MODE_SHARED: Mode.SHARED,
    queue_pb2.SUBSCRIPTION_MODE_ORDERED: Mode.ORDERED,
}


def subscribe_options(start: queue_pb2.SubscribeStart, peer: str) -> SubscribeOptions:
    """Check every field of a `start`; its `flow` is for :func:`permits`.

    Raises:
        InvalidArgumentError: if a field is wrong.
    """
    check_patterns(tuple(start.topics))
    if start.group:
        check_group_name(start.group)
    if start.mode not in _MODES:
        invalid("mode", f"is {start.mode}, which is no SubscriptionMode")
    if len(start.backoff) > BACKOFF_STEPS_MAX:
        invalid("backoff", f"has {len(start.backoff)} entries; at most {BACKOFF_STEPS_MAX} are allowed")
    ack_wait_s = duration_s(start.ack_wait, "ack_wait", least_s=ACK_WAIT_S_MIN) if start.HasField("ack_wait") else None
    backoff_s = tuple(duration_s(delay, f"backoff[{index}]") for index, delay in enumerate(start.backoff))
    if start.dead_letter_topic:
        check_topic_name(start.dead_letter_topic, "dead_letter_topic")
    return SubscribeOptions(
        topics=tuple(start.topics),
        group=start.group,
        member=text(start.member, "member", NAME_BYTES_MAX),
        peer=peer,
        position=position(start.position, "position"),
        mode=_MODES[start.mode],
        ack_wait_s=ack_wait_s,
        max_deliver=at_most(start.max_deliver, "max_deliver", DELIVER_MAX) or None,
        backoff_s=backoff_s or None,
        dead_letter_topic=start.dead_letter_topic or None,
        max_unacked=start.max_unacked or None,
    )


def permits(flow: queue_pb2.SubscribeFlow) -> tuple[int, int]:
    """The messages and bytes that a flow adds.

    Raises:
        InvalidArgumentError: if it adds too many at once.
    """
    return at_most(flow.messages, "messages", PERMITS_MESSAGES_MAX), flow.bytes
