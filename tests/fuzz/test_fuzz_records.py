"""Anything may lie in the log's files: it is never taken for what it is not, and the queue always starts."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from telemetry.queue.core.types import Place, PublishBatch
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.engines.files import SYSTEM_FILES
from telemetry.queue.engines.quarantine import Quarantine
from telemetry.queue.engines.records import (
    HEADER_BYTES,
    MAGIC,
    Header,
    batch_is_intact,
    decode_header,
    encode,
    record_length,
)
from telemetry.queue.engines.recovery import Found, read_segment
from telemetry.queue.engines.segments import segment_header, segment_path
from telemetry.runtime.errors import DataDirectoryError
from telemetry.v1 import queue_pb2
from tests.fuzz.examples import examples
from tests.fuzz.messages import damaged

U64, U32 = st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1)


class Record(NamedTuple):
    """A record, and what was put in it."""

    raw: bytes
    batch: bytes
    fields: dict[str, int | str]


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Records with any values in their fields."""
    batch = draw(st.binary(max_size=200))
    fields: dict[str, int | str] = {
        "topic_id": draw(U64),
        "partition": draw(U32),
        "base_offset": draw(U64),
        "messages": draw(U32),
        "time_us": draw(U64),
        "durable": draw(U64),
        "producer_id": draw(st.text(max_size=32)),
        "producer_epoch": draw(U64),
        "first_sequence": draw(U64),
    }
    return Record(b"".join(encode(batch, **fields)), batch, fields)  # type: ignore[arg-type]  # of each its own type


def raw(record: Record) -> bytes:
    return record.raw


@examples(100)
@given(record=records(), more=st.binary(max_size=300))
def test_a_record_is_read_as_it_was_written(record: Record, more: bytes) -> None:
    header = decode_header(record.raw + more)
    assert header is not None
    assert {name: getattr(header, name) for name in record.fields} == record.fields
    batch = record.raw[header.batch_start : header.batch_start + header.batch_bytes]
    assert batch == record.batch
    assert batch_is_intact(header, batch)
    assert header.length == len(record.raw) == record_length(len(batch), header.producer_bytes)


@examples(300)
@given(
    data=st.binary(max_size=300) | st.binary(max_size=200).map(lambda rest: MAGIC + rest) | damaged(records().map(raw))
)
def test_whatever_is_read_has_its_checksums(data: bytes) -> None:
    header = decode_header(data)
    if header is not None:
        check_sums(header, data)


def check_sums(header: Header, data: bytes) -> None:
    """What was read must be what the checksums in the bytes say."""
    end = HEADER_BYTES + header.producer_bytes
    assert data[:4] == MAGIC
    assert int.from_bytes(data[4:8], "little") == google_crc32c.value(data[8:end])
    batch = data[end : end + header.batch_bytes]
    assert batch_is_intact(header, batch) == (
        len(batch) == header.batch_bytes and google_crc32c.value(batch) == int.from_bytes(data[8:12], "little")
    )


@examples(200)
@given(record=records(), data=st.data(), bits=st.integers(1, 255))
def test_a_byte_changed_anywhere_is_seen(record: Record, data: st.DataObject, bits: int) -> None:
    holds = HEADER_BYTES + len(str(record.fields["producer_id"]).encode()) + len(record.batch)
    at = data.draw(st.integers(0, holds - 1))  # behind that is padding
    changed = bytearray(record.raw)
    changed[at] ^= bits
    header = decode_header(bytes(changed))
    if header is not None:
        assert not batch_is_intact(header, bytes(changed[header.batch_start : header.batch_start + header.batch_bytes]))


@examples(100)
@given(
    record=records(),
    batch_bytes=st.sampled_from([1 << 31, (1 << 32) - 1, 1 << 20]),
    producer_bytes=st.sampled_from([129, 4096, (1 << 16) - 1]),
)
def test_absurd_lengths_are_not_believed(record: Record, batch_bytes: int, producer_bytes: int, tmp_path: Path) -> None:
    # Checksums that are right prove nothing of a length: what is said to be there must be there.
    changed = bytearray(record.raw)
    changed[12:16] = batch_bytes.to_bytes(4, "little")
    changed[72:74] = min(producer_bytes, len(changed)).to_bytes(2, "little")
    body = bytes(changed[8 : HEADER_BYTES + min(producer_bytes, len(changed))])
    changed[4:8] = google_crc32c.value(body).to_bytes(4, "little")
    found = recovered(tmp_path, segment_header(0) + bytes(changed))
    assert not any(one.intact for one in found)


def recovered(place: Path, segment: bytes) -> list[Found]:
    """What is found in a segment of these bytes, that is the last one."""
    shutil.rmtree(place / "log", ignore_errors=True)
    (place / "log").mkdir()
    path = segment_path(place / "log", 0)
    path.write_bytes(segment)
    quarantine = Quarantine(SYSTEM_FILES, place / "quarantine")
    found, _, _ = read_segment(SYSTEM_FILES, path, 0, last=True, quarantine=quarantine)
    return found


@examples(150)
@given(
    segment=st.binary(max_size=600)
    | st.binary(max_size=400).map(lambda rest: segment_header(0) + rest)
    | damaged(st.lists(records().map(raw), min_size=1, max_size=4).map(lambda all_: segment_header(0) + b"".join(all_)))
)
def test_whatever_a_segment_holds_only_what_is_intact_is_found(segment: bytes, tmp_path: Path) -> None:
    for one in recovered(tmp_path, segment):
        if one.header is not None and one.intact:
            check_sums(one.header, segment[one.position :])


# Whole directories


async def filled(directory: Path) -> dict[int, bytes]:
    """Make a directory of a few segments, and return what is in it by offset."""
    engine = DiskEngine(directory, segment_bytes=1024)
    await engine.start()
    there: dict[int, bytes] = {}
    for number in range(12):
        data = b"%d/" % number * (1 + number * 7)
        batch = queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=data)]).SerializeToString()
        receipt = await engine.publish(
            PublishBatch("t", batch, 1, partition=0, producer_id="p", producer_epoch=1, first_sequence=number)
        )
        assert receipt.base_offset is not None
        there[receipt.base_offset] = batch
    await engine.stop()
    return there


async def served(directory: Path, there: dict[int, bytes]) -> None:
    """Start on a directory: what is served is what was published, and something new finds its place."""
    engine = DiskEngine(directory, segment_bytes=1024)
    await engine.start()
    try:
        seen = {one.base_offset: one.batch async for one in engine.browse("t", None, Place.EARLIEST, 10_000)}
        assert seen.items() <= there.items()
        receipt = await engine.publish(PublishBatch("t", b"\n\x00", 1, partition=0))
        assert receipt.base_offset is not None
        assert receipt.base_offset > max(seen, default=-1)
    finally:
        await engine.stop()


def check_start(directory: Path, there: dict[int, bytes], refusal: str) -> None:
    """Start on a directory, unless that is refused with these words."""
    try:
        asyncio.run(served(directory, there))
    except DataDirectoryError as error:
        if refusal not in str(error):
            raise


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, dict[int, bytes]]:
    """A directory as a queue leaves it, and what it holds."""
    return tmp_path / "whole", asyncio.run(filled(tmp_path / "whole"))


@examples(40)
@given(data=st.data())
def test_a_directory_with_any_damage_is_served_without_it(
    whole: tuple[Path, dict[int, bytes]], tmp_path: Path, data: st.DataObject
) -> None:
    directory, there = whole
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    files = sorted((copy / "log").iterdir())
    for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3, unique=True)):
        path.write_bytes(data.draw(damaged(st.just(path.read_bytes()))))
    # Bytes may say, checksum and all, that they are of a later version.
    check_start(copy, there, "version")


@examples(30)
@given(data=st.data())
def test_a_catalogue_with_any_damage_is_refused_or_does_no_harm(
    whole: tuple[Path, dict[int, bytes]], tmp_path: Path, data: st.DataObject
) -> None:
    directory, there = whole
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    catalogue = copy / "catalogue.sqlite"
    before = catalogue.read_bytes()
    catalogue.write_bytes(data.draw(damaged(st.just(before))))
    assume(catalogue.read_bytes() != before)
    check_start(copy, there, "catalogue.sqlite")


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_a_log_without_its_catalogue_is_refused_and_kept(
    whole: tuple[Path, dict[int, bytes]], tmp_path: Path, left: str
) -> None:
    directory, there = whole
    catalogue = directory / "catalogue.sqlite"
    catalogue.rename(tmp_path / "aside")
    if left == "an empty file":
        catalogue.touch()
    with pytest.raises(DataDirectoryError, match=r"catalogue.sqlite is missing or empty"):
        asyncio.run(served(directory, there))
    catalogue.unlink()
    (tmp_path / "aside").rename(catalogue)
    assert len(asyncio.run(contents(directory))) == len(there)


async def contents(directory: Path) -> list[bytes]:
    engine = DiskEngine(directory, segment_bytes=1024)
    await engine.start()
    try:
        return [one.batch async for one in engine.browse("t", None, Place.EARLIEST, 10_000)]
    finally:
        await engine.stop()
