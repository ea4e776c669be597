"""A group's settings: made of the first member's wishes, and held against those of later ones."""

from __future__ import annotations

from typing import Final

from telemetry.queue.core.errors import InvalidArgumentError, PreconditionError
from telemetry.queue.core.names import check_topic_name
from telemetry.queue.core.types import DURATION_S_MAX, GroupSettings, SubscribeOptions

DELIVER_MAX: Final = 1000
"""Most delivery attempts that a group may ask for."""
BACKOFF_STEPS_MAX: Final = 20
"""Most delays that a group's backoff may have."""
UNACKED_MAX: Final = (1 << 32) - 1
"""Most unsettled messages that a group may ask for."""


def settings_of(options: SubscribeOptions) -> GroupSettings:
    """The settings of a new group.

    Raises:
        InvalidArgumentError: naming the field that is out of bounds.
    """
    default = GroupSettings(options.topics)
    settings = GroupSettings(
        topics=options.topics,
        mode=options.mode or default.mode,
        ack_wait_s=default.ack_wait_s if options.ack_wait_s is None else options.ack_wait_s,
        max_deliver=options.max_deliver or default.max_deliver,
        backoff_s=options.backoff_s or (),
        dead_letter_topic=options.dead_letter_topic or "",
        max_unacked=options.max_unacked or default.max_unacked,
    )
    if not 0 < settings.ack_wait_s <= DURATION_S_MAX:
        raise InvalidArgumentError(
            f"ack_wait must be positive and at most 12 h, not {settings.ack_wait_s:g} s", field="ack_wait"
        )
    if not 1 <= settings.max_deliver <= DELIVER_MAX:
        raise InvalidArgumentError(
            f"max_deliver must be 1 to {DELIVER_MAX}, not {settings.max_deliver}", field="max_deliver"
        )
    if len(settings.backoff_s) > BACKOFF_STEPS_MAX or not all(0 <= s <= DURATION_S_MAX for s in settings.backoff_s):
        raise InvalidArgumentError(
            f"backoff must have at most {BACKOFF_STEPS_MAX} delays, each of at most 12 h", field="backoff"
        )
    if settings.dead_letter_topic:
        check_topic_name(settings.dead_letter_topic, "dead_letter_topic")
        if settings.dead_letter_topic in settings.topics:
            raise InvalidArgumentError("a group cannot read its own dead letters", field="dead_letter_topic")
    if not 1 <= settings.max_unacked <= UNACKED_MAX:
        raise InvalidArgumentError(f"max_unacked must be at least 1, not {settings.max_unacked}", field="max_unacked")
    return settings


def check_wishes(name: str, settings: GroupSettings, options: SubscribeOptions) -> None:
    """Raise `PreconditionError` for the first wish that the group's settings do not fulfil."""
    if set(options.topics) != set(settings.topics):
        raise PreconditionError(
            f"group {name} subscribes to {', '.join(settings.topics)}, not to {', '.join(options.topics)}",
            field="topics",
        )
    wishes = (
        ("mode", options.mode, settings.mode),
        ("ack_wait", options.ack_wait_s, settings.ack_wait_s),
        ("max_deliver", options.max_deliver or None, settings.max_deliver),
        ("backoff", options.backoff_s or None, settings.backoff_s),
        ("dead_letter_topic", options.dead_letter_topic or None, settings.dead_letter_topic),
        ("max_unacked", options.max_unacked or None, settings.max_unacked),
    )
    for field, wish, fixed in wishes:
        if wish is not None and wish != fixed:
            raise PreconditionError(
                f"group {name} exists with {field} {_show(fixed)}, not {_show(wish)}; leave it unset to join as it is",
                field=field,
            )


def _show(value: object) -> str:
    return str(getattr(value, "value", value)) or "unset"
