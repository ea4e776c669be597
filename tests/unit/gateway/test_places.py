"""The beginning of the fleet's answer, made once and used again."""

from __future__ import annotations

import gzip

import orjson
import pytest

from gateway.places import INLINE_BYTES_MAX, Places, zstd
from telemetry.v1 import query_pb2

GPUS = [f"GPU-{number}" for number in range(300)]
INVENTORY = {
    name: query_pb2.Gpu(gpu=name, host=f"node-{number // 8}", index=str(number % 8), model="H100")
    for number, name in enumerate(GPUS)
}


@pytest.mark.parametrize("values", [[1.5, float("nan")], [number / 7 for number in range(INLINE_BYTES_MAX // 8)]])
async def test_what_follows_is_the_same_compressed_or_not_however_often(values: list[float]) -> None:
    places = Places(INVENTORY, [*GPUS, "unknown"])
    for turn in range(3):
        more = {"time": turn, "columns": {"temperature": values}}
        plain = await places.followed_by(more, "")
        compressed = await places.followed_by(more, "gzip")
        assert gzip.decompress(compressed) == plain
        smaller = await places.followed_by(more, "zstd")
        assert zstd.decompress(smaller) == plain
        assert len(smaller) < len(compressed) < len(plain)
        answer = orjson.loads(plain)
        assert answer["gpus"] == [*GPUS, "unknown"]
        assert (answer["hosts"][9], answer["indexes"][9], answer["models"][9]) == ("node-1", "1", "H100")
        assert (answer["hosts"][-1], answer["indexes"][-1], answer["models"][-1]) == ("", "", "")
        assert answer["time"] == turn
        assert answer["columns"]["temperature"][:2] == [value if value == value else None for value in values[:2]]


def test_places_are_those_of_one_inventory_and_these_gpus_only() -> None:
    places = Places(INVENTORY, GPUS)
    assert places.are_of(INVENTORY, list(GPUS))
    assert not places.are_of(INVENTORY, GPUS[:-1])
    assert not places.are_of(dict(INVENTORY), GPUS)
