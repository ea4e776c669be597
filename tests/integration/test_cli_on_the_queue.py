"""The operator's commands against real queues, in memory and on disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from telemetry.cli.main import telemetry
from telemetry.queue.client import OutgoingMessage, Publisher, QueueAdmin, ReceivedDelivery, Subscriber
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer

Cli = Callable[..., Awaitable[Result]]


@pytest.fixture(params=["memory", "disk"])
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A queue on a free port."""
    engine = MemoryEngine() if request.param == "memory" else DiskEngine(tmp_path / "queue")
    async with QueueServer(engine, grpc_port=0, http_port=0) as server:
        yield f"127.0.0.1:{server.grpc_port}"


@pytest.fixture
def cli(address: str) -> Cli:
    """Runs a command as a user would, while the queue goes on in this event loop."""

    async def run(*arguments: str, stdin: str = "", code: int = 0) -> Result:
        runner = CliRunner(env={"TELEMETRY_QUEUE_ADDRESS": address})
        result = await asyncio.to_thread(runner.invoke, telemetry, arguments, input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


def document(result: Result) -> Any:
    return json.loads(result.stdout)


def documents(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


async def receive(address: str, topic: str, group: str, count: int, *, bury: bool = False) -> None:
    """Have a group ack `count` messages, or give them up."""
    async with Subscriber(address, [topic], group) as subscriber:
        async for event in subscriber:
            if isinstance(event, ReceivedDelivery):
                await (event.terminate("no good") if bury else event.ack())
                count -= len(event.messages)
                if count <= 0:
                    return


async def test_a_topic_is_made_shown_changed_and_deleted(cli: Cli) -> None:
    made = document(
        await cli("topics", "create", "t.a", "--partitions", "3", "--storage", "memory", "--retention-age", "1h30m",
                  "--retention-bytes", "64MiB", "--drop-acked", "--max-message-bytes", "1k", "--json")
    )  # fmt: skip
    assert (made["name"], made["partitions"], made["storage"]) == ("t.a", 3, "memory")
    assert made["retention"] == {"age_s": 5400.0, "bytes": 64 << 20, "drop_unacked": False, "drop_acked": True}
    assert made["limits"]["message_bytes"] == 1024

    changed = document(await cli("topics", "update", "t.a", "--retention-age", "none", "--drop-unacked", "--json"))
    assert changed["retention"] == {"age_s": None, "bytes": 64 << 20, "drop_unacked": True, "drop_acked": True}
    assert changed["limits"] == made["limits"]

    listed = document(await cli("topics", "--json"))["topics"]
    assert [topic["name"] for topic in listed] == ["t.a"]
    assert listed[0]["stats"]["messages"] == 0
    assert "64.0 MiB a partition, until acked, unacked go too" in (await cli("topics")).stdout

    assert document(await cli("topics", "delete", "t.a", "--yes", "--json")) == {"topic": "t.a", "deleted": True}
    assert (await cli("topics", "list")).stdout == "there are no topics\n"


async def test_what_the_queue_refuses_is_one_sentence_and_exit_code_1(cli: Cli) -> None:
    await cli("topics", "create", "t")
    for arguments, said in (
        (("topics", "create", "t"), "telemetry topics create: topic t exists"),
        (("topics", "show", "none"), "telemetry topics show: there is no topic none"),
        (("tail", "none"), "telemetry tail: there is no topic none"),
        (("browse", "t", "--partition", "7"), "telemetry browse: topic t has partitions 0 to 0, not 7"),
        (("groups", "show", "none"), "telemetry groups show: there is no group none"),
        (("seek", "none", "--to", "earliest"), "telemetry seek: there is no group none"),
        (("dead-letters", "list", "t"), "t has no dead letters: there is no topic t.dead-letter"),
        (("dead-letters", "discard", "t", "--yes"), "t has no dead letters: there is no topic t.dead-letter"),
    ):
        result = await cli(*arguments, code=1)
        assert result.stderr.rstrip().endswith(said)
        assert result.stderr.count("\n") == 1


async def test_nothing_is_destroyed_without_a_yes(cli: Cli) -> None:
    await cli("publish", "t", "one", "two")
    for arguments in (("topics", "delete", "t"), ("topics", "purge", "t")):
        for answer in ("n\n", ""):
            asked = await cli(*arguments, stdin=answer, code=1)
            assert "with 2 messages?" in asked.stderr or "Drop 2 messages of topic t" in asked.stderr
    assert (await cli("browse", "t", "--raw")).stdout == "one\ntwo\n"
    await cli("topics", "delete", "t", stdin="y\n")
    assert "there are no topics" in (await cli("topics")).stdout


async def test_published_arguments_say_where_they_are_stored(cli: Cli) -> None:
    first = await cli("publish", "t", "one", "två", "--key", "k", "--attribute", "a=b", "--attribute", "c=d=e")
    assert first.stdout == "t/0@0\nt/0@1\n"
    assert "there is no topic t yet" in first.stderr
    assert documents(await cli("publish", "t", "three", "--json")) == [
        {"topic": "t", "partition": 0, "offset": 2, "duplicate": False}
    ]
    found = documents(await cli("browse", "t", "--json"))
    assert [each["data"] for each in found] == ["one", "två", "three"]
    assert (found[1]["ordering_key"], found[1]["attributes"]) == ("k", {"a": "b", "c": "d=e"})
    assert found[1]["publish_time"].endswith("Z")


async def test_lines_of_standard_input_go_where_they_are_sent(cli: Cli) -> None:
    await cli("topics", "create", "t", "--partitions", "3")
    lines = "".join(f"{number}\n" for number in range(1200))
    result = await cli("publish", "t", "--partition", "2", stdin=lines)
    assert result.stdout.splitlines() == [f"t/2@{number}" for number in range(1200)]
    assert result.stderr == "1,200 messages published to t\n"
    assert (await cli("browse", "t", "--raw", "--limit", "5000")).stdout == lines


async def test_a_file_is_one_message(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(b"\x00\xffline\nline\n")
    await cli("publish", "t", "--file", str(file))
    result = await cli("browse", "t", "--raw")
    assert result.stdout_bytes == file.read_bytes() + b"\n"
    assert documents(await cli("browse", "t", "--json"))[0]["data_base64"] == "AP9saW5lCmxpbmUK"


async def test_a_message_that_is_refused_stops_no_other(cli: Cli) -> None:
    await cli("topics", "create", "t", "--max-message-bytes", "10")
    for options in ((), ("--key", "k")):
        result = await cli("publish", "t", "x" * 11, *options, code=1)
        assert "message 1: topic t takes messages of at most 10 bytes, not 11" in result.stderr
        assert "telemetry publish: 0 messages published to t, 1 refused" in result.stderr
    refused = await cli("publish", "t", "--partition", "5", "--json", "one", code=1)
    assert documents(refused)[0]["code"] == "INVALID_ARGUMENT"


async def test_browsing_takes_what_it_is_asked_for_and_consumes_nothing(cli: Cli, address: str) -> None:
    async with Publisher(address) as publisher:
        await publisher.ensure_topic("t", partitions=2)
        for partition in (0, 1):
            for batch in range(3):
                messages = [OutgoingMessage(f"{partition}.{batch}.{number}".encode()) for number in range(4)]
                await publisher.publish_batch("t", messages, partition=partition)
    every = (await cli("browse", "t", "--raw")).stdout.split()
    assert len(every) == 24
    assert (await cli("browse", "t", "--raw", "--limit", "14")).stdout.split() == every[:14]
    assert (await cli("browse", "t", "--raw", "--partition", "1")).stdout.split() == every[12:]
    assert (await cli("browse", "t", "--raw", "--from", "6", "--limit", "7")).stdout.split() == every[6:12] + every[
        18:19
    ]
    assert (await cli("browse", "t", "--raw", "--from", "-1h")).stdout.split() == every
    empty = await cli("browse", "t", "--from", "latest")
    assert (empty.stdout, empty.stderr) == ("", "there are no messages there\n")
    async with QueueAdmin(address) as admin:
        assert await admin.groups() == []


async def test_purging_drops_what_is_named(cli: Cli) -> None:
    await cli("topics", "create", "t", "--partitions", "2")
    await cli("publish", "t", "a", "b", "c", "--partition", "0")
    await cli("publish", "t", "d", "--partition", "1")
    purged = await cli("topics", "purge", "t", "--partition", "0", "--before-offset", "2", "--yes", "--json")
    assert document(purged) == {"topic": "t", "messages": 2}
    assert (await cli("browse", "t", "--raw")).stdout.split() == ["c", "d"]
    assert (await cli("topics", "purge", "t", "--yes")).stdout == "2 messages of topic t dropped\n"


async def test_a_group_is_listed_shown_moved_and_deleted(cli: Cli, address: str) -> None:
    await cli("publish", "t", "one", "two", "three")
    await receive(address, "t", "g", 3)
    assert (await cli("groups")).stdout.splitlines()[1].split()[:5] == ["g", "shared", "t", "0", "0"]
    shown = document(await cli("groups", "show", "g", "--json"))
    assert shown["positions"] == [{"topic": "t", "partition": 0, "acked_through": 3, "end_offset": 3}]
    assert (shown["mode"], shown["stats"]["lag_messages"], shown["stats"]["members"]) == ("shared", 0, [])
    assert document(await cli("groups", "list", "--topic", "other", "--json")) == {"groups": []}

    dry = await cli("seek", "g", "--to", "1", "--topic", "t", "--partition", "0", "--dry-run")
    assert "2 again" in dry.stdout
    assert "nothing was moved" in dry.stdout
    moved = document(await cli("seek", "g", "--to", "-1h", "--json"))
    assert moved == {
        "group": "g",
        "dry_run": False,
        "positions": [{"topic": "t", "partition": 0, "acked_through": 0, "end_offset": 3, "acked_through_before": 3}],
    }
    assert "3 skipped" in (await cli("seek", "g", "--to", "latest")).stdout
    assert (await cli("groups", "delete", "g", "--yes")).stdout == "group g was deleted\n"
    assert (await cli("groups")).stdout == "there are no groups\n"


async def test_members_keep_a_group_where_it_is_unless_forced(cli: Cli, address: str) -> None:
    await cli("publish", "t", "one")
    async with Subscriber(address, ["t"], "g", member="m", mode="ordered") as subscriber:
        await subscriber.wait_started()
        for arguments in (("seek", "g", "--to", "earliest"), ("groups", "delete", "g", "--yes")):
            assert "--force disconnects them" in (await cli(*arguments, code=1)).stderr
        assert "t/0" in (await cli("groups", "show", "g")).stdout
        assert "t" in (await cli("seek", "g", "--to", "earliest", "--force")).stdout


async def test_dead_letters_are_listed_replayed_and_discarded(cli: Cli, address: str) -> None:
    assert (await cli("dead-letters")).stdout == "there are no dead letters\n"
    await cli("publish", "t", "one", "two", "three", "four")
    await receive(address, "t", "g", 4, bury=True)
    assert document(await cli("dead-letters", "--json"))["topics"][0]["stats"]["messages"] == 4
    rows = (await cli("dead-letters", "list", "t")).stdout.splitlines()
    assert rows[1].split()[:5] == ["0", "0", "t/0@0", "g", "1"]
    assert rows[1].endswith("no good  one")

    replayed = await cli("dead-letters", "replay", "t.dead-letter", "--offsets", "0-1", "--rate", "1000")
    assert replayed.stdout == "2 of 2 dead letters replayed\n"
    assert (await cli("browse", "t", "--raw", "--from", "4")).stdout.split() == ["one", "two"]
    left = document(await cli("dead-letters", "list", "t", "--json"))["messages"]
    assert sorted(letter["data"] for letter in left) == ["four", "three"]
    assert left[0]["attributes"]["dead-letter-reason"] == "no good"

    assert "Discard 2 dead letters" in (await cli("dead-letters", "discard", "t", code=1)).stderr
    progress = documents(await cli("dead-letters", "discard", "t", "--yes", "--json"))
    assert (progress[0], progress[-1]) == ({"done": 0, "total": 2}, {"done": 2, "total": 2})
    assert (await cli("dead-letters", "list", "t")).stdout == "there are no dead letters\n"


async def test_offsets_of_several_partitions_need_to_say_which(cli: Cli) -> None:
    await cli("topics", "create", "t.dead-letter", "--partitions", "2")
    result = await cli("dead-letters", "replay", "t.dead-letter", "--offsets", "1", code=2)
    assert "--offsets needs --partition" in result.stderr.replace("\n", " ")


async def test_a_listing_is_complete_however_long(cli: Cli, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetry.queue.clients.admin.PAGE_SIZE", 2)
    monkeypatch.setattr("telemetry.queue.clients.admin.BROWSE_MESSAGES_MAX", 2)
    async with QueueAdmin(address) as admin:
        names = [f"t{number}" for number in range(5)]
        async with Publisher(address) as publisher:
            for name in names:
                await publisher.ensure_topic(name)
        assert [topic.name for topic in await admin.topics()] == names
    await cli("publish", "t0", *"abcde")
    assert (await cli("browse", "t0", "--raw")).stdout.split() == list("abcde")
