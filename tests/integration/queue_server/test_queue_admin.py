"""QueueAdminService over a real port: topics, groups, looking without consuming, statistics."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as ProtoMessage

from telemetry import __version__
from telemetry.v1 import queue_admin_pb2 as admin
from telemetry.v1 import queue_pb2
from telemetry.v1.queue_pb2 import StartPosition
from tests.integration.queue_server.wire_client import Client, ending, fields_of, read_delivery


async def refusal(client: Client, method: str, request: ProtoMessage) -> tuple[grpc.StatusCode, list[str]]:
    """How a call was refused: the status, and the fields it names."""
    code, status = await ending(getattr(client.admin, method)(request))
    return code, fields_of(status)


async def create(client: Client, name: str, **fields: Any) -> admin.Topic:
    request = admin.CreateTopicRequest(topic=admin.Topic(name=name, **fields))
    return (await client.admin.CreateTopic(request)).topic


# Topics


async def test_a_topic_is_made_with_its_defaults_filled_in(client: Client) -> None:
    made = await create(client, "a.b", partitions=3)
    assert (made.partitions, made.storage) == (3, admin.TOPIC_STORAGE_MEMORY)
    assert made.limits.message_bytes == made.limits.batch_bytes == 8 << 20
    assert made.limits.batch_messages == 65_536
    assert made.create_time.seconds > 1_700_000_000
    assert not made.retention.HasField("age")
    assert (await client.admin.GetTopic(admin.GetTopicRequest(topic="a.b"))).topic == made


async def test_retention_and_limits_can_be_changed_and_the_rest_stays(client: Client) -> None:
    await create(client, "t", partitions=3)
    wanted = admin.Topic(
        name="t",
        retention=admin.Retention(age=Duration(seconds=90), bytes=1000, drop_unacked=True, drop_acked=True),
        limits=admin.TopicLimits(message_bytes=10, batch_bytes=20, batch_messages=30, partition_bytes=40),
    )
    changed = (await client.admin.UpdateTopic(admin.UpdateTopicRequest(topic=wanted))).topic
    assert (changed.retention, changed.limits) == (wanted.retention, wanted.limits)
    assert changed.partitions == 3
    fixed = admin.UpdateTopicRequest(topic=admin.Topic(name="t", partitions=4))
    assert await refusal(client, "UpdateTopic", fixed) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        ["topic.partitions"],
    )


async def test_a_topic_that_exists_or_does_not_is_said_so(client: Client) -> None:
    await create(client, "t")
    again = admin.CreateTopicRequest(topic=admin.Topic(name="t"))
    assert (await refusal(client, "CreateTopic", again))[0] is grpc.StatusCode.ALREADY_EXISTS
    await client.admin.DeleteTopic(admin.DeleteTopicRequest(topic="t"))
    for method, request in (
        ("GetTopic", admin.GetTopicRequest(topic="t")),
        ("UpdateTopic", admin.UpdateTopicRequest(topic=admin.Topic(name="t"))),
        ("DeleteTopic", admin.DeleteTopicRequest(topic="t")),
        ("PurgeTopic", admin.PurgeTopicRequest(topic="t")),
        ("Browse", admin.BrowseRequest(topic="t")),
        ("DescribeProducer", admin.DescribeProducerRequest(topic="t", producer_id="p")),
        ("ReplayDeadLetters", admin.ReplayDeadLettersRequest(topic="t")),
        ("DiscardDeadLetters", admin.DiscardDeadLettersRequest(topic="t")),
        ("GetGroup", admin.GetGroupRequest(group="g")),
        ("DeleteGroup", admin.DeleteGroupRequest(group="g")),
        ("SeekGroup", admin.SeekGroupRequest(group="g", position=StartPosition(latest=True))),
    ):
        assert (await refusal(client, method, request))[0] is grpc.StatusCode.NOT_FOUND, method


async def test_lists_come_in_pages_that_neither_skip_nor_repeat(client: Client) -> None:
    for name in ("a", "b", "c", "d", "e"):
        await create(client, name)
    names, token, pages = [], "", 0
    while True:
        page = await client.admin.ListTopics(admin.ListTopicsRequest(page_size=2, page_token=token))
        names += [topic.name for topic in page.topics]
        token, pages = page.next_page_token, pages + 1
        if pages == 1:
            await client.admin.DeleteTopic(admin.DeleteTopicRequest(topic="b"))
            await create(client, "ba")
        if not token:
            break
    assert names == ["a", "b", "ba", "c", "d", "e"]
    assert pages == 3
    everything = await client.admin.ListTopics(admin.ListTopicsRequest(page_size=1_000_000))
    assert len(everything.topics) == 5
    assert everything.next_page_token == ""


# Groups


async def test_a_group_shows_its_settings_and_where_it_stands(client: Client) -> None:
    await client.publish("t", b"one", b"two")
    call = await client.subscribe("t", group="g", mode=queue_pb2.SUBSCRIPTION_MODE_SHARED, messages=1)
    await client.settle((await read_delivery(call)).delivery_id)
    group = (await client.admin.GetGroup(admin.GetGroupRequest(group="g"))).group
    assert (group.name, list(group.topics), group.max_deliver) == ("g", ["t"], 10)
    assert list(group.positions) == [admin.GroupPosition(topic="t", partition=0, acked_through=1, end_offset=2)]
    call.cancel()


async def test_groups_are_listed_by_the_topic_they_subscribe_to(client: Client) -> None:
    calls = [
        await client.subscribe("a.x", group="exact"),
        await client.subscribe("a.*", group="wild"),
        await client.subscribe("b", group="other"),
    ]
    everything = await client.admin.ListGroups(admin.ListGroupsRequest())
    assert [group.name for group in everything.groups] == ["exact", "other", "wild"]
    some = await client.admin.ListGroups(admin.ListGroupsRequest(topic="a.x"))
    assert [group.name for group in some.groups] == ["exact", "wild"]
    for call in calls:
        call.cancel()


async def test_moving_and_deleting_a_group_needs_its_members_gone_or_force(client: Client) -> None:
    await client.publish("t", b"one", b"two", b"three")
    call = await client.subscribe("t", group="g")
    to = StartPosition(offset=2)
    seek = admin.SeekGroupRequest(group="g", position=to)
    assert (await refusal(client, "SeekGroup", seek))[0] is grpc.StatusCode.FAILED_PRECONDITION
    deletion = admin.DeleteGroupRequest(group="g")
    assert (await refusal(client, "DeleteGroup", deletion))[0] is grpc.StatusCode.FAILED_PRECONDITION
    trial = await client.admin.SeekGroup(admin.SeekGroupRequest(group="g", position=to, dry_run=True))
    assert [each.acked_through for each in trial.positions] == [2]
    moved = await client.admin.SeekGroup(
        admin.SeekGroupRequest(group="g", topic="t", partition=0, position=to, force=True)
    )
    assert [each.acked_through for each in moved.positions] == [2]
    assert (await ending(call))[0] is grpc.StatusCode.ABORTED
    again = await client.subscribe("t", group="g")
    assert [(run.first, run.count) for run in (await read_delivery(again)).due] == [(2, 1)]
    await client.admin.DeleteGroup(admin.DeleteGroupRequest(group="g", force=True))
    assert (await ending(again))[0] is grpc.StatusCode.ABORTED
    assert (await refusal(client, "GetGroup", admin.GetGroupRequest(group="g")))[0] is grpc.StatusCode.NOT_FOUND


# Looking


async def test_browsing_consumes_nothing(client: Client) -> None:
    await create(client, "t", partitions=2)
    await client.publish("t", b"one", b"two", partition=0)
    await client.publish("t", b"three", partition=1)
    for _ in range(2):
        seen = [each async for each in client.admin.Browse(admin.BrowseRequest(topic="t"))]
        assert [(each.partition, each.base_offset, len(each.batch.messages)) for each in seen] == [(0, 0, 2), (1, 0, 1)]
        assert seen[0].batch.messages[1].data == b"two"
        assert seen[0].publish_time.seconds > 1_700_000_000
    one = [each async for each in client.admin.Browse(admin.BrowseRequest(topic="t", max_messages=1))]
    assert [each.partition for each in one] == [0]
    last = admin.BrowseRequest(topic="t", partition=0, position=StartPosition(offset=1))
    assert [each.base_offset async for each in client.admin.Browse(last)] == [1]


async def test_purging_drops_what_it_is_told(client: Client) -> None:
    await create(client, "t", partitions=2)
    await client.publish("t", b"1", b"2", b"3", partition=0)
    await client.publish("t", b"4", partition=1)
    some = await client.admin.PurgeTopic(admin.PurgeTopicRequest(topic="t", partition=0, before_offset=2))
    assert some.messages == 2
    rest = await client.admin.PurgeTopic(admin.PurgeTopicRequest(topic="t"))
    assert rest.messages == 2
    assert [each async for each in client.admin.Browse(admin.BrowseRequest(topic="t"))] == []


async def test_a_producer_can_ask_how_far_it_has_come(client: Client) -> None:
    await client.publish("t", b"1", b"2", producer_id="p", producer_epoch=4, first_sequence=10, partition=0)
    known = await client.admin.DescribeProducer(admin.DescribeProducerRequest(topic="t", producer_id="p"))
    assert list(known.positions) == [admin.ProducerPosition(partition=0, producer_epoch=4, last_sequence=11)]
    unknown = await client.admin.DescribeProducer(admin.DescribeProducerRequest(topic="t", producer_id="q"))
    assert not unknown.positions


async def test_statistics_count_what_happened(client: Client) -> None:
    await client.publish("t", b"one", b"two")
    call = await client.subscribe("t", group="g", member="m")
    delivery = await read_delivery(call)
    stats = (await client.admin.GetStats(admin.GetStatsRequest())).stats
    assert (stats.version, stats.engine, stats.connections) == (__version__, "memory", 1)
    assert stats.start_time.seconds > 1_700_000_000
    assert not stats.HasField("log")
    (topic,) = [each for each in stats.topics if each.topic == "t"]
    assert (topic.messages, topic.published) == (2, 2)
    assert [(each.start_offset, each.end_offset) for each in topic.partitions] == [(0, 2)]
    (group,) = stats.groups
    assert (group.group, group.unacked, group.delivered, group.lag_messages) == ("g", 2, 2, 2)
    assert group.HasField("oldest_unacked_age")
    (member,) = group.members
    assert (member.member, member.unacked, member.permits_messages) == ("m", 2, 998)
    assert member.peer.startswith("ipv4:127.0.0.1:")
    await client.settle(delivery.delivery_id)
    (group,) = (await client.admin.GetStats(admin.GetStatsRequest())).stats.groups
    assert (group.unacked, group.acked, group.lag_messages) == (0, 2, 0)
    assert not group.HasField("lag_age")
    call.cancel()


async def test_statistics_can_be_watched_until_the_server_goes(client: Client, server: Any) -> None:
    call = client.admin.WatchStats(admin.WatchStatsRequest(interval=Duration(nanos=1)))
    for _ in range(3):
        response = await call.read()
        assert isinstance(response, admin.WatchStatsResponse)
        assert response.stats.engine == "memory"
    await server.drain(within_s=0)
    assert (await ending(call))[0] is grpc.StatusCode.UNAVAILABLE


# What is refused

Topic, Retention, TopicLimits = admin.Topic, admin.Retention, admin.TopicLimits
WRONG_TOPIC: list[tuple[str, admin.Topic]] = [
    ("topic.name", Topic()),
    ("topic.name", Topic(name="No")),
    ("topic.name", Topic(name="n" * 201)),
    ("topic.partitions", Topic(name="t", partitions=1025)),
    ("topic.storage", Topic(name="t", storage=17)),  # type: ignore[arg-type]  # an enum value of the future
    ("topic.storage", Topic(name="t", storage=admin.TOPIC_STORAGE_DISK)),
    ("topic.retention.age", Topic(name="t", retention=Retention(age=Duration()))),
    ("topic.retention.age", Topic(name="t", retention=Retention(age=Duration(seconds=-5)))),
    ("topic.limits.message_bytes", Topic(name="t", limits=TopicLimits(message_bytes=(8 << 20) + 1))),
    ("topic.limits.batch_bytes", Topic(name="t", limits=TopicLimits(batch_bytes=(8 << 20) + 1))),
    ("topic.limits.batch_messages", Topic(name="t", limits=TopicLimits(batch_messages=65_537))),
]
HERE = StartPosition(earliest=True)
WRONG: list[tuple[str, str, ProtoMessage]] = [
    *[(field, "CreateTopic", admin.CreateTopicRequest(topic=topic)) for field, topic in WRONG_TOPIC],
    ("topic.name", "UpdateTopic", admin.UpdateTopicRequest()),
    ("topic", "GetTopic", admin.GetTopicRequest()),
    ("topic", "DeleteTopic", admin.DeleteTopicRequest(topic="No")),
    ("page_size", "ListTopics", admin.ListTopicsRequest(page_size=-1)),
    ("page_token", "ListTopics", admin.ListTopicsRequest(page_token="made up")),
    ("page_token", "ListTopics", admin.ListTopicsRequest(page_token="bWFkZSB1cA==")),
    ("topic", "ListGroups", admin.ListGroupsRequest(topic="No")),
    ("page_size", "ListGroups", admin.ListGroupsRequest(page_size=-1)),
    ("page_token", "ListGroups", admin.ListGroupsRequest(page_token="ü")),
    ("group", "GetGroup", admin.GetGroupRequest()),
    ("group", "DeleteGroup", admin.DeleteGroupRequest(group="no spaces")),
    ("group", "SeekGroup", admin.SeekGroupRequest(position=HERE)),
    ("topic", "SeekGroup", admin.SeekGroupRequest(group="g", partition=0, position=HERE)),
    ("topic", "SeekGroup", admin.SeekGroupRequest(group="g", topic="No", position=HERE)),
    ("position", "SeekGroup", admin.SeekGroupRequest(group="g")),
    ("position.latest", "SeekGroup", admin.SeekGroupRequest(group="g", position=StartPosition(latest=False))),
    ("topic", "PurgeTopic", admin.PurgeTopicRequest()),
    ("topic", "Browse", admin.BrowseRequest()),
    ("position.earliest", "Browse", admin.BrowseRequest(topic="t", position=StartPosition(earliest=False))),
    ("topic", "DescribeProducer", admin.DescribeProducerRequest(producer_id="p")),
    ("producer_id", "DescribeProducer", admin.DescribeProducerRequest(topic="t")),
    ("producer_id", "DescribeProducer", admin.DescribeProducerRequest(topic="t", producer_id="p" * 129)),
    ("topic", "ReplayDeadLetters", admin.ReplayDeadLettersRequest()),
    ("partition", "ReplayDeadLetters", admin.ReplayDeadLettersRequest(topic="t", offsets=[1])),
    ("topic", "DiscardDeadLetters", admin.DiscardDeadLettersRequest(topic="No")),
    ("partition", "DiscardDeadLetters", admin.DiscardDeadLettersRequest(topic="t", offsets=[1])),
    ("interval", "WatchStats", admin.WatchStatsRequest(interval=Duration(seconds=-1))),
]


async def test_every_wrong_field_is_named(client: Client) -> None:
    for field, method, request in WRONG:
        assert await refusal(client, method, request) == (grpc.StatusCode.INVALID_ARGUMENT, [field]), method


async def test_a_partition_that_is_not_there_is_named(client: Client) -> None:
    await create(client, "t")
    for method, request in (
        ("PurgeTopic", admin.PurgeTopicRequest(topic="t", partition=7)),
        ("Browse", admin.BrowseRequest(topic="t", partition=7)),
        ("ReplayDeadLetters", admin.ReplayDeadLettersRequest(topic="t", partition=7)),
        ("DiscardDeadLetters", admin.DiscardDeadLettersRequest(topic="t", partition=7)),
    ):
        code, fields = await refusal(client, method, request)
        assert code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
        assert fields == ["partition"]
