"""A bit that flips anywhere in a cold file: found when it is verified, and never a wrong value when it is read."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry.storage.cold.files import ColdFile, ColdFileError
from telemetry.storage.cold.reader import ColdReader
from telemetry.storage.cold.verify import verify
from telemetry.storage.series import Steps
from telemetry.storage.store import Span
from tests.unit.storage_cold.lake import MIDNIGHT_US, Lake, plain

ROUNDS = int(os.environ.get("TELEMETRY_TEST_ROUNDS") or 1)
SECOND_US = 1_000_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    chance = random.Random(7)
    rows = [
        (f"gpu-{gpu}", MIDNIGHT_US + place * 10 * SECOND_US, {"power": round(chance.gauss(300, 20), 2), "util": 97.0})
        for gpu in range(8)
        for place in range(200)
    ]
    lake.run(lake.segment(rows))
    return lake


def flipped(path: Path, rounds: int) -> Iterator[int]:
    """Let one bit after the other be wrong; the file is whole again afterwards."""
    whole = path.read_bytes()
    chance = random.Random(11)
    try:
        for _ in range(rounds):
            place = chance.randrange(len(whole))
            data = bytearray(whole)
            data[place] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
            yield place
    finally:
        path.write_bytes(whole)


def test_no_read_gives_a_wrong_value_whichever_bit_is_wrong(world: Lake) -> None:
    (file,) = world.records
    reader = ColdReader(world.cold)

    def read(gpu: str) -> list[object]:
        metrics = ["power", "util"]
        return [row for frame in reader.records([file], gpu, Span(), metrics) for row in plain(frame, metrics, gpu)]

    right = {gpu: read(gpu) for gpu in ("gpu-0", "gpu-7")}
    refused = 0
    for place in flipped(world.cold / file.path, 300 * ROUNDS):
        for gpu, rows in right.items():
            try:
                assert read(gpu) == rows, f"bit flipped at {place}"
            except ColdFileError:
                refused += 1
    assert refused > 300


def test_no_roll_up_gives_a_wrong_value_whichever_bit_is_wrong(world: Lake) -> None:
    file = world.files[1]
    assert file.level.is_rollup
    reader = ColdReader(world.cold)
    steps = Steps.over(MIDNIGHT_US, MIDNIGHT_US + 3600 * SECOND_US, 60 * SECOND_US)

    def read() -> list[tuple[object, ...]]:
        return reader.rollup_partials([file], None, Span(), steps, ["power", "util"]).sort("gpu", "step").rows()

    right = read()
    for place in flipped(world.cold / file.path, 100 * ROUNDS):
        try:
            assert read() == right, f"bit flipped at {place}"
        except ColdFileError:
            continue


def test_verifying_finds_every_flipped_bit(world: Lake) -> None:
    for file in world.files:
        assert verify(file, world.cold) == []
        for place in flipped(world.cold / file.path, 60 * ROUNDS):
            assert verify(file, world.cold) != [], f"bit flipped at {place}"


def test_a_file_that_is_gone_short_or_another_is_named(world: Lake) -> None:
    file = world.records[0]
    path = world.cold / file.path
    whole = path.read_bytes()
    try:
        for damaged in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"\x00", b"PAR1" * 40):
            path.write_bytes(damaged)
            assert verify(file, world.cold) == [f"it has {len(damaged)} bytes instead of {len(whole)}"]
            with pytest.raises(ColdFileError, match="footer"):
                list(ColdReader(world.cold).records([file], "gpu-3", Span()))
        path.unlink()
        assert verify(file, world.cold) == ["it is missing"]
        with pytest.raises(ColdFileError, match=f"{file.path}: the file is missing"):
            list(ColdReader(world.cold).records([file], "gpu-3", Span()))
    finally:
        path.write_bytes(whole)


def test_a_description_that_does_not_fit_is_noticed(world: Lake) -> None:
    file = world.records[0]

    def problems(**changes: object) -> list[str]:
        wrong: ColdFile = dataclasses.replace(file, **changes)  # type: ignore[arg-type]
        return verify(wrong, world.cold)

    assert problems(rows=7) == ["rows is 1600 instead of 7"]
    assert problems(samples=7) == ["samples is 3200 instead of 7"]
    assert problems(gpu_max="z") == ["gpu_max is gpu-7 instead of z"]
    assert problems(last_us=1) == [f"last_us is {file.last_us} instead of 1"]
    assert problems(crc32c=1) == ["its checksum is wrong"]
    assert "its metadata says metrics" in problems(metrics=("power",))[0]
