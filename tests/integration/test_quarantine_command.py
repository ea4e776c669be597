"""What could not be stored is listed, shown, and stored after all once its cause is mended."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from telemetry.cli.main import telemetry
from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, encode_arrow, frame_of
from telemetry.model import Record
from telemetry.queue.client import OutgoingMessage, Publisher, QueueFullError
from telemetry.storage.quarantined import Retries
from telemetry.storage.store import Batch
from telemetry.storage.tiered import TieredStore
from telemetry.streamer.sources import cells
from telemetry.streamer.stream import Streamer, StreamSettings
from telemetry.topics import DATA_TOPIC
from tests.integration.pipelines import Pipeline, lines, pipeline

START = datetime(2026, 1, 1, tzinfo=UTC)

FILE = """timestamp,gpu_id,temperature,power_draw
2026-01-01T00:00:00Z,a,40,100
2026-01-01T00:00:01Z,a,forty,101
not-a-time,b,50,200
2026-01-01T00:00:02Z,,60,300
"""


async def stream(address: str, path: Path) -> None:
    await Streamer(StreamSettings([path], address)).run(asyncio.Event())


async def listed(there: Pipeline, folder: Path, *flags: str) -> list[dict[str, Any]]:
    answer = await there.cli("quarantine", "list", "--data-dir", str(folder), "--json", *flags)
    entries: list[dict[str, Any]] = json.loads(answer.stdout)["entries"]
    return entries


async def shown_entries(there: Pipeline, folder: Path, identity: str) -> dict[str, Any]:
    answer = await there.cli("quarantine", "show", identity, "--data-dir", str(folder), "--json")
    shown: dict[str, Any] = json.loads(answer.stdout)
    return shown


async def retried(there: Pipeline, folder: Path, *flags: str, code: int = 0) -> dict[str, Any]:
    answer = await there.cli("quarantine", "retry", "--data-dir", str(folder), "--json", *flags, code=code)
    outcome: dict[str, Any] = json.loads(answer.stdout)
    return outcome


async def test_rows_of_a_file_are_listed_shown_and_read_again(tmp_path: Path) -> None:
    path, data = tmp_path / "gpus.csv", tmp_path / "data"
    path.write_text(FILE)
    async with pipeline(data) as there:
        await stream(there.queue, path)
        await there.stored()
        entries = await listed(there, data)
        assert [(entry["source"], entry["line"], entry["field"]) for entry in entries] == [
            ("gpus.csv", 5, "gpu_id"),
            ("gpus.csv", 4, "timestamp"),
            ("gpus.csv", 3, "temperature"),
        ]
        assert [entry["line"] for entry in await listed(there, data, "--reason", "which gpu")] == [5]
        assert await listed(there, data, "--source", "other.csv") == []
        assert len(await listed(there, data, "--since=-15m", "--limit", "2")) == 2
        table = lines(await there.cli("quarantine", "--data-dir", str(data)))
        assert table[0].split() == ["ID", "PUBLISHED", "FROM", "RETRIED", "REASON"]
        assert "gpus.csv:4" in table[2]
        shown = (await there.cli("quarantine", "show", entries[1]["id"], "--data-dir", str(data))).stdout
        assert "timestamp,gpu_id,temperature,power_draw" in shown
        assert "not-a-time,b,50,200" in shown

        # Nothing is mended: nothing is published, and all is said again.
        outcome = await retried(there, data, "--all", code=1)
        assert (outcome["retried"], outcome["wrong"]) == (0, 3)
        assert {trouble["from"] for trouble in outcome["troubles"]} == {"gpus.csv:3", "gpus.csv:4", "gpus.csv:5"}


async def test_a_row_that_can_be_read_by_now_is_stored_and_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = tmp_path / "gpus.csv", tmp_path / "data"
    path.write_text(FILE)
    async with pipeline(data) as there:
        await stream(there.queue, path)
        await there.stored()
        identity = (await listed(there, data, "--reason", "forty"))[0]["id"]
        numbers = cells.numbers
        with monkeypatch.context() as patch:
            patch.setattr(
                cells,
                "numbers",
                lambda texts, *rest: numbers(texts.str.replace("forty", "44"), *rest),
            )
            outcome = await retried(there, data, identity)
            assert (outcome["retried"], outcome["retried_earlier"], outcome["wrong"]) == (1, 0, 0)
            again = await retried(there, data, identity)
            assert (again["retried"], again["retried_earlier"]) == (0, 1)
        await there.stored()
        stored = [json.loads(line) for line in lines(await there.cli("query", "records", "--gpu", "a", "--json"))]
        assert [record["metrics"] for record in stored] == [
            {"temperature": 44.0, "power_draw": 101.0},
            {"temperature": 40.0, "power_draw": 100.0},
        ]
        assert (await listed(there, data, "--reason", "forty"))[0]["retried"]["to"].startswith("telemetry/")


async def test_a_message_goes_back_where_it_came_from_as_it_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    frame = frame_of([Record(START, gpu, {"x": 1.0}) for gpu in ("one", "two")])
    message = OutgoingMessage(encode_arrow(frame), {CONTENT_TYPE: ARROW_CONTENT_TYPE, "source": "f.csv:2-3"})
    strange = OutgoingMessage(b"\xff\0", {CONTENT_TYPE: "text/strange", "site": "west"}, "a key")
    async with pipeline(data, gpus_max=1) as there, Publisher(there.queue) as publisher:
        await publisher.ensure_topic(DATA_TOPIC, partitions=8)
        await publisher.publish_batch(DATA_TOPIC, [message, strange], partition=5)
        await there.stored()
        too_many, unknown = sorted(await listed(there, data), key=lambda entry: entry["offset"])
        assert (too_many["source"], too_many["partition"], too_many["offset"]) == ("f.csv:2-3", 5, 0)
        assert "--max-gpus" in too_many["reason"]

    # Started again, the collector may keep more.
    async with pipeline(data) as there:
        (shown,) = (await shown_entries(there, data, too_many["id"]))["entries"]
        assert [record["gpu"] for record in shown["data"]] == ["two"]
        outcome = await retried(there, data, too_many["id"])
        assert outcome["retried"] == 1
        await there.stored()
        gpus = json.loads((await there.cli("query", "gpus", "--json")).stdout)
        assert sorted(gpu["gpu"] for gpu in gpus["gpus"]) == ["one", "two"]

        # Retried too early, the other one comes back as a new entry that says where it was first.
        assert (await retried(there, data, "--all"))["retried"] == 1
        await there.stored()
        entries = await listed(there, data, "--reason", "content type")
        assert [bool(entry["retried"]) for entry in entries] == [False, True]
        assert entries[1]["id"] == unknown["id"]
        (again,) = (await shown_entries(there, data, entries[0]["id"]))["entries"]
        assert again["attributes"] == {"site": "west", "quarantine-retried-from": "telemetry/5@1"}
        assert (again["ordering_key"], base64.b64decode(again["data_base64"])) == ("a key", strange.data)


async def test_entries_are_found_in_files_that_were_closed_while_more_come(tmp_path: Path) -> None:
    data = tmp_path / "data"

    def commit(store: TieredStore, number: int) -> None:
        line = {"reason": f"reason {number}", "source": "f", "line": number, "raw": "x", "published": START.isoformat()}
        store.commit(Batch(quarantine=[json.dumps(line).encode()]))

    def listed_lines(*flags: str) -> list[int]:
        answer = CliRunner().invoke(telemetry, ["quarantine", "list", "--data-dir", str(data), "--json", *flags])
        assert answer.exit_code == 0, answer.output
        return [entry["line"] for entry in json.loads(answer.stdout)["entries"]]

    store = TieredStore(data, quarantine_bytes=16 << 10)
    for number in range(50):
        commit(store, number)
    assert len(list(data.glob("quarantine.*.jsonl"))) >= 3
    assert listed_lines() == list(range(49, -1, -1))
    assert listed_lines("--limit", "3") == [49, 48, 47]
    assert listed_lines("--reason", "REASON 7") == [7]
    for number in range(50, 400):
        commit(store, number)
    left = listed_lines("--limit", "1000")
    assert left == list(range(399, 399 - len(left), -1))
    assert len(left) > 100
    assert listed_lines("--since", "2026-01-01T00:00:01Z") == []
    assert len(listed_lines("--since", "2026-01-01T00:00:00Z")) == 100
    store.close()


async def test_one_entry_that_was_edited_by_hand_keeps_no_other_from_being_retried(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with pipeline(data, gpus_max=1) as there:
        await there.publish(*(frame_of([Record(START, gpu, {"x": 1.0})]) for gpu in ("one", "two", "three")))
        await there.stored()
    path = data / "quarantine.jsonl"
    first, second = path.read_text().splitlines()
    # As long as it was, so that the checkpoint still fits.
    edited = second.replace('"topic":"telemetry"', '"topic":"TELEMETRY"')
    path.write_text(f"{first}\n{edited}\n")
    async with pipeline(data) as there:
        outcome = await retried(there, data, "--all", code=1)
        assert (outcome["retried"], outcome["wrong"]) == (1, 1)
        assert "TELEMETRY" in outcome["troubles"][0]["reason"]
        path.write_text(f"{first}\n{'?' * len(second)}\n")
        outcome = await retried(there, data, "--all", code=1)
        assert (outcome["retried"], outcome["retried_earlier"], outcome["wrong"]) == (0, 1, 1)
        assert "does not say where it came from" in outcome["troubles"][0]["reason"]


async def test_what_was_published_before_the_queue_refused_is_not_published_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    async with pipeline(data, gpus_max=0) as there:
        await there.publish(*(frame_of([Record(START, gpu, {"x": 1.0})]) for gpu in "abcd"))
        await there.stored()
    publish_batch, calls = Publisher.publish_batch, 0

    async def full_at_the_third(self: Publisher, *arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise QueueFullError("the topic is full")
        return await publish_batch(self, *arguments, **more)

    async with pipeline(data) as there:
        with monkeypatch.context() as patch:
            patch.setattr(Publisher, "publish_batch", full_at_the_third)
            answer = await there.cli("quarantine", "retry", "--all", "--data-dir", str(data), code=1)
        assert "the topic is full" in answer.stderr
        outcome = await retried(there, data, "--all")
        assert (outcome["retried"], outcome["retried_earlier"]) == (1, 3)
        await there.stored()
        gpus = json.loads((await there.cli("query", "gpus", "--json")).stdout)
        assert [gpu["gpu"] for gpu in gpus["gpus"]] == list("abcd")


async def test_a_wrong_request_is_refused_with_a_sentence(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with pipeline(data) as there:
        answer = await there.cli("quarantine", "show", "0:0", "--data-dir", str(data), code=1)
        assert "there is no entry 0:0" in answer.stderr
        answer = await there.cli("quarantine", "list", "--data-dir", str(tmp_path / "other"), code=1)
        assert "no data directory of a collector" in answer.stderr
        await there.cli("quarantine", "retry", "--data-dir", str(data), code=2)
        await there.cli("quarantine", "list", "--since", "7", "--data-dir", str(data), code=2)
        with Retries(data).alone():
            answer = await there.cli("quarantine", "retry", "--all", "--data-dir", str(data), code=1)
        assert "another retry is at work" in answer.stderr
