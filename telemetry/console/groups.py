"""Groups as tables and as JSON: where they stand, who is in them, and what a seek moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from telemetry.console.tables import instant, number, properties, rate, seconds, section, size, table
from telemetry.queue import shapes
from telemetry.queue.shapes import Json
from telemetry.v1 import queue_admin_pb2


def groups_json(groups: Sequence[queue_admin_pb2.Group], stats: queue_admin_pb2.QueueStats) -> Json:
    """All groups, each as :func:`group_json`."""
    return {"groups": [group_json(group, stats) for group in groups]}


def group_json(group: queue_admin_pb2.Group, stats: queue_admin_pb2.QueueStats) -> Json:
    """One group as the REST API has it, with its ``stats``."""
    counted = _counted(group.name, stats)
    return shapes.group(group) | {"stats": None if counted is None else shapes.group_stats(counted)}


def groups_table(groups: Sequence[queue_admin_pb2.Group], stats: queue_admin_pb2.QueueStats) -> Iterator[str]:
    """A line a group."""
    if not groups:
        yield "there are no groups"
        return
    rows = []
    for group in groups:
        counted = _counted(group.name, stats) or queue_admin_pb2.GroupStats()
        rows.append(
            (
                group.name,
                shapes.group(group)["mode"],
                ",".join(group.topics),
                number(len(counted.members)),
                number(counted.lag_messages),
                seconds(shapes.seconds(counted, "lag_age")),
                number(counted.unacked),
                number(counted.dead_lettered),
                rate(counted.ack_rate),
            )
        )
    columns = ("GROUP", "MODE", "TOPICS", ">MEMBERS", ">LAG", ">LAG AGE", ">UNACKED", ">DEAD", ">ACKED/S")
    yield from table(columns, rows)


def group_lines(group: queue_admin_pb2.Group, stats: queue_admin_pb2.QueueStats) -> Iterator[str]:
    """A group's settings and counters, its positions and its members."""
    counted = _counted(group.name, stats) or queue_admin_pb2.GroupStats()
    settings = shapes.group(group)
    blocked = ", delivery waits for acks" if counted.blocked_on_max_unacked else ""
    yield from properties(
        (
            ("group", group.name),
            ("topics", ", ".join(group.topics)),
            ("mode", settings["mode"]),
            ("ack wait", seconds(settings["ack_wait_s"])),
            ("attempts", f"{number(group.max_deliver)} at most"),
            ("backoff", ", ".join(seconds(delay) for delay in settings["backoff_s"]) or "none"),
            ("dead letters", group.dead_letter_topic or "each topic's name with .dead-letter"),
            ("unacked", f"{number(counted.unacked)} of at most {number(group.max_unacked)}{blocked}"),
            ("oldest unacked", seconds(shapes.seconds(counted, "oldest_unacked_age"))),
            ("lag", f"{number(counted.lag_messages)} messages, {seconds(shapes.seconds(counted, 'lag_age'))}"),
            ("ready", number(counted.ready)),
            ("delivered", f"{number(counted.delivered)}, {rate(counted.deliver_rate)} a second"),
            ("acked", f"{number(counted.acked)}, {rate(counted.ack_rate)} a second"),
            ("redelivered", number(counted.redelivered)),
            ("dead", number(counted.dead_lettered)),
        )
    )
    if group.positions:
        yield from section("Positions", _positions(group.positions))
    if counted.members:
        yield from section("Members", _members(counted.members))


def seek_json(
    group: str,
    before: Sequence[queue_admin_pb2.GroupPosition],
    after: Sequence[queue_admin_pb2.GroupPosition],
    *,
    dry_run: bool,
) -> Json:
    """What a seek moves: positions as the REST API has them, and where each was before."""
    was = _by_place(before)
    return {
        "group": group,
        "dry_run": dry_run,
        "positions": [
            shapes.group_position(each) | {"acked_through_before": was.get((each.topic, each.partition))}
            for each in after
        ],
    }


def seek_lines(
    before: Sequence[queue_admin_pb2.GroupPosition], after: Sequence[queue_admin_pb2.GroupPosition], *, dry_run: bool
) -> Iterator[str]:
    """What a seek moves, for people."""
    if not after:
        yield "the group stands in no partition yet; nothing to move"
        return
    was = _by_place(before)
    rows = []
    for each in after:
        old = was.get((each.topic, each.partition))
        moved = 0 if old is None else each.acked_through - old
        effect = "-" if not moved else f"{number(moved)} skipped" if moved > 0 else f"{number(-moved)} again"
        lag = number(each.end_offset - each.acked_through)
        rows.append(
            (each.topic, str(each.partition), "-" if old is None else str(old), str(each.acked_through), lag, effect)
        )
    yield from table(("TOPIC", ">PARTITION", ">FROM", ">TO", ">LAG", "MESSAGES"), rows)
    if dry_run:
        yield "nothing was moved: this was a dry run"


def _positions(positions: Sequence[queue_admin_pb2.GroupPosition]) -> Iterator[str]:
    rows = [
        (
            each.topic,
            str(each.partition),
            str(each.acked_through),
            str(each.end_offset),
            number(each.end_offset - each.acked_through),
        )
        for each in positions
    ]
    return table(("TOPIC", ">PARTITION", ">ACKED THROUGH", ">NEXT OFFSET", ">LAG"), rows)


def _members(members: Sequence[queue_admin_pb2.MemberStats]) -> Iterator[str]:
    rows = []
    for each in members:
        owned: dict[str, list[str]] = {}
        for at in each.partitions:
            owned.setdefault(at.topic, []).append(str(at.partition))
        rows.append(
            (
                each.member,
                each.peer,
                number(each.unacked),
                f"{number(each.permits_messages)} / {size(each.permits_bytes) if each.permits_bytes else '-'}",
                " ".join(f"{topic}/{','.join(numbers)}" for topic, numbers in owned.items()) or "-",
                instant(shapes.instant(each, "join_time")),
            )
        )
    return table(("MEMBER", "PEER", ">UNACKED", ">PERMITS", "PARTITIONS", "JOINED"), rows)


def _counted(name: str, stats: queue_admin_pb2.QueueStats) -> queue_admin_pb2.GroupStats | None:
    return next((each for each in stats.groups if each.group == name), None)


def _by_place(positions: Sequence[queue_admin_pb2.GroupPosition]) -> dict[tuple[str, int], int]:
    return {(each.topic, each.partition): each.acked_through for each in positions}
