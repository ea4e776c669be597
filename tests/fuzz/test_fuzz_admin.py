"""Requests of QueueAdminService with something wrong in them: the right status, the field by name, nothing changed."""

from __future__ import annotations

import re
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from telemetry.v1 import queue_admin_pb2 as admin
from telemetry.v1 import queue_pb2
from telemetry.v1.queue_pb2 import StartPosition
from tests.fuzz.examples import examples
from tests.fuzz.messages import messages
from tests.fuzz.target import METHODS, Target
from tests.integration.queue_server.wire_client import Client, ending, fields_of, read_delivery

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
UNARY: Final = [method for method in METHODS if not method.client_streaming]


@pytest.fixture
async def furnished(target: Target) -> Target:
    """A queue that holds a topic, a group that has acked some of it, and dead letters."""
    client = target.client
    limits = admin.TopicLimits(message_bytes=1 << 20)
    topic = admin.Topic(name="t", partitions=2, retention=admin.Retention(age=Duration(seconds=9999)), limits=limits)
    await client.admin.CreateTopic(admin.CreateTopicRequest(topic=topic))
    for partition in (0, 1):
        await client.publish("t", b"one", b"two", b"three", partition=partition, producer_id="p")
    call = await client.subscribe("t", group="g")
    for _ in range(2):
        delivery = await read_delivery(call)
        run = queue_pb2.MessageRange(first=0, count=1)
        await client.settle(delivery.delivery_id, outcome=queue_pb2.ACK_OUTCOME_TERMINATE, range=run)
    call.cancel()
    await target.check_nothing_is_open()
    return target


async def picture(client: Client) -> list[object]:
    """All that a request could have changed."""
    topics = (await client.admin.ListTopics(admin.ListTopicsRequest(page_size=1000))).topics
    groups = (await client.admin.ListGroups(admin.ListGroupsRequest(page_size=1000))).groups
    stats = (await client.admin.GetStats(admin.GetStatsRequest())).stats
    return [
        list(topics),
        [group for group in groups if group.name != "witnesses"],
        [(each.topic, list(each.partitions)) for each in stats.topics if each.topic != "witness"],
        [(each.group, each.ready, each.unacked, each.dead_lettered) for each in stats.groups],
    ]


async def refusal(client: Client, method: str, request: Message) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """How a call ends, having checked that if it was refused it has changed nothing."""
    before = await picture(client)
    code, status = await ending(getattr(client.admin, method)(request))
    if code is not grpc.StatusCode.OK:
        assert await picture(client) == before
    return code, status


EARLIEST = StartPosition(earliest=True)
NEGATIVE, LONG = Duration(seconds=-1), Duration(seconds=12 * 3600 + 1)
CROOKED = Duration(seconds=5, nanos=-1)
BAD_POSITIONS: Final[list[tuple[str, StartPosition]]] = [
    ("position.earliest", StartPosition(earliest=False)),
    ("position.latest", StartPosition(latest=False)),
    ("position.time", StartPosition(time=Timestamp(nanos=-1))),
    ("position.time", StartPosition(time=Timestamp(nanos=1_000_000_000))),
    ("position.time", StartPosition(time=Timestamp(seconds=1 << 40))),
]
Case = tuple[str, Message, grpc.StatusCode, str]


def bad_topics(name: str) -> list[tuple[str, admin.Topic]]:
    retention, limits = admin.Retention, admin.TopicLimits
    return [
        ("topic.name", admin.Topic()),
        ("topic.name", admin.Topic(name=".")),
        ("topic.name", admin.Topic(name="a..b")),
        ("topic.name", admin.Topic(name="t*")),
        ("topic.name", admin.Topic(name="t\n")),
        ("topic.name", admin.Topic(name="x" * 201)),
        ("topic.retention.age", admin.Topic(name=name, retention=retention(age=Duration()))),
        ("topic.retention.age", admin.Topic(name=name, retention=retention(age=NEGATIVE))),
        ("topic.retention.age", admin.Topic(name=name, retention=retention(age=CROOKED))),
        ("topic.retention.age", admin.Topic(name=name, retention=retention(age=Duration(seconds=1 << 40)))),
        ("topic.limits.message_bytes", admin.Topic(name=name, limits=limits(message_bytes=(8 << 20) + 1))),
        ("topic.limits.message_bytes", admin.Topic(name=name, limits=limits(message_bytes=(1 << 64) - 1))),
        ("topic.limits.batch_bytes", admin.Topic(name=name, limits=limits(batch_bytes=(8 << 20) + 1))),
        ("topic.limits.batch_messages", admin.Topic(name=name, limits=limits(batch_messages=65_537))),
        ("topic.storage", admin.Topic(name=name, storage=3)),  # type: ignore[arg-type]  # of the future
        ("topic.storage", admin.Topic(name=name, storage=-1)),  # type: ignore[arg-type]
    ]


def cases() -> list[Case]:
    """Every field of every request, wrong in every way that it can be."""
    found: list[Case] = []
    for field, topic in bad_topics("t"):
        found.append(("UpdateTopic", admin.UpdateTopicRequest(topic=topic), INVALID, field))
    for field, topic in bad_topics("new"):
        found.append(("CreateTopic", admin.CreateTopicRequest(topic=topic), INVALID, field))
    found += [
        ("CreateTopic", admin.CreateTopicRequest(), INVALID, "topic.name"),
        (
            "CreateTopic",
            admin.CreateTopicRequest(topic=admin.Topic(name="n", partitions=1025)),
            INVALID,
            "topic.partitions",
        ),
        (
            "CreateTopic",
            admin.CreateTopicRequest(topic=admin.Topic(name="t")),
            grpc.StatusCode.ALREADY_EXISTS,
            "topic.name",
        ),
        (
            "UpdateTopic",
            admin.UpdateTopicRequest(topic=admin.Topic(name="t", partitions=3)),
            PRECONDITION,
            "topic.partitions",
        ),
        (
            "UpdateTopic",
            admin.UpdateTopicRequest(topic=admin.Topic(name="t", storage=admin.TOPIC_STORAGE_MEMORY)),
            PRECONDITION,
            "topic.storage",
        ),
        ("UpdateTopic", admin.UpdateTopicRequest(topic=admin.Topic(name="none")), MISSING, "topic"),
        ("ListTopics", admin.ListTopicsRequest(page_size=-1), INVALID, "page_size"),
        ("ListTopics", admin.ListTopicsRequest(page_token="made up"), INVALID, "page_token"),
        ("ListGroups", admin.ListGroupsRequest(page_size=-(1 << 31)), INVALID, "page_size"),
        ("ListGroups", admin.ListGroupsRequest(page_token="YWZ0ZXI="), INVALID, "page_token"),
        ("ListGroups", admin.ListGroupsRequest(topic="t*"), INVALID, "topic"),
        ("DescribeProducer", admin.DescribeProducerRequest(topic="t"), INVALID, "producer_id"),
        ("DescribeProducer", admin.DescribeProducerRequest(topic="t", producer_id="ü" * 65), INVALID, "producer_id"),
        ("DescribeProducer", admin.DescribeProducerRequest(topic="none", producer_id="p"), MISSING, "topic"),
        ("SeekGroup", admin.SeekGroupRequest(group="g"), INVALID, "position"),
        ("SeekGroup", admin.SeekGroupRequest(group="g", partition=0, position=EARLIEST), INVALID, "topic"),
        ("SeekGroup", admin.SeekGroupRequest(group="g", topic="T", position=EARLIEST), INVALID, "topic"),
        ("SeekGroup", admin.SeekGroupRequest(group="g", topic="none", position=EARLIEST), MISSING, "topic"),
        ("SeekGroup", admin.SeekGroupRequest(group="g", topic="witness", position=EARLIEST), MISSING, "topic"),
        (
            "SeekGroup",
            admin.SeekGroupRequest(group="g", topic="t", partition=2, position=EARLIEST),
            MISSING,
            "partition",
        ),
        ("SeekGroup", admin.SeekGroupRequest(group="none", position=EARLIEST), MISSING, "group"),
        ("SeekGroup", admin.SeekGroupRequest(group="witnesses", position=EARLIEST), PRECONDITION, "group"),
        ("DeleteGroup", admin.DeleteGroupRequest(group="witnesses"), PRECONDITION, "group"),
        ("PurgeTopic", admin.PurgeTopicRequest(topic="t", partition=2), MISSING, "partition"),
        (
            "PurgeTopic",
            admin.PurgeTopicRequest(topic="t", partition=(1 << 32) - 1, before_offset=1),
            MISSING,
            "partition",
        ),
        ("Browse", admin.BrowseRequest(topic="t", partition=2), MISSING, "partition"),
        ("WatchStats", admin.WatchStatsRequest(interval=NEGATIVE), INVALID, "interval"),
        ("WatchStats", admin.WatchStatsRequest(interval=LONG), INVALID, "interval"),
        ("WatchStats", admin.WatchStatsRequest(interval=CROOKED), INVALID, "interval"),
    ]
    for field, position in BAD_POSITIONS:
        found.append(("SeekGroup", admin.SeekGroupRequest(group="g", position=position), INVALID, field))
        found.append(("Browse", admin.BrowseRequest(topic="t", position=position), INVALID, field))
    for group in ("", "no spaces", "g" * 129, "ü"):
        found.append(("GetGroup", admin.GetGroupRequest(group=group), INVALID, "group"))
        found.append(("DeleteGroup", admin.DeleteGroupRequest(group=group, force=True), INVALID, "group"))
        found.append(("SeekGroup", admin.SeekGroupRequest(group=group, position=EARLIEST), INVALID, "group"))
    for name in ("GetGroup", "DeleteGroup"):
        found.append((name, getattr(admin, f"{name}Request")(group="none"), MISSING, "group"))
    for name in ("GetTopic", "DeleteTopic", "PurgeTopic", "Browse", "ReplayDeadLetters", "DiscardDeadLetters"):
        make = getattr(admin, f"{name}Request")
        found += [(name, make(topic=topic), INVALID, "topic") for topic in ("", "T", "t*", "t ", "x" * 201)]
        found.append((name, make(topic="none"), MISSING, "topic"))
    for name in ("ReplayDeadLetters", "DiscardDeadLetters"):
        make = getattr(admin, f"{name}Request")
        found += [
            (name, make(topic="t.dead-letter", offsets=[0]), INVALID, "partition"),
            (name, make(topic="t.dead-letter", partition=7), MISSING, "partition"),
            (name, make(topic="t.dead-letter", partition=0, offsets=[0, 1 << 63]), INVALID, "offsets"),
        ]
    found.append(("ReplayDeadLetters", admin.ReplayDeadLettersRequest(topic="t"), PRECONDITION, "topic"))
    return found


async def test_every_field_wrong_in_turn_is_refused_by_name_and_changes_nothing(furnished: Target) -> None:
    wrong = []
    for method, request, code, field in cases():
        refused, status = await refusal(furnished.client, method, request)
        if (refused, fields_of(status)) != (code, [field]) or not status.message:
            wrong.append((method, field, code, refused, fields_of(status), status.message, request))
    assert not wrong, "\n".join(map(str, wrong))


def test_no_field_of_a_request_is_left_out() -> None:
    named = {(method, field.split(".")[0]) for method, _, _, field in cases()}
    cannot_be_wrong = {
        *(("PurgeTopic", "before_offset"), ("Browse", "max_messages"), ("ReplayDeadLetters", "messages_per_second")),
        *(("SeekGroup", "dry_run"), ("SeekGroup", "force"), ("DeleteGroup", "force")),
    }
    fields = {(method.name, field.name) for method in UNARY for field in method.input_type.fields}
    assert fields - named == cannot_be_wrong


def has_path(descriptor: Descriptor, path: str) -> bool:
    """Whether a path such as ``topic.limits.batch_bytes`` leads somewhere in a type."""
    for name in re.sub(r"\[.*?\]", "", path).split("."):
        if descriptor is None or name not in descriptor.fields_by_name:
            return False
        descriptor = descriptor.fields_by_name[name].message_type  # type: ignore[assignment]  # None at the end
    return True


@examples(80)
@given(data=st.data())
async def test_whatever_is_refused_changes_nothing_and_names_a_field(furnished: Target, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from([method for method in UNARY if method.name != "WatchStats"]))
    request: Any = data.draw(messages(method.input_type))
    if isinstance(request, admin.ReplayDeadLettersRequest):
        request.messages_per_second = 1_000_000
    if getattr(request, "group", "") != "witnesses" and getattr(request, "topic", "") != "witness":
        code, status = await refusal(furnished.client, method.name, request)
        if code is not grpc.StatusCode.OK:
            (field,) = fields_of(status)
            assert has_path(method.input_type, field), field
    await furnished.check()
