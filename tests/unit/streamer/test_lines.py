"""Files come in as whole lines, whatever is in them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from telemetry.streamer.sources.lines import LINE_BYTES_MAX, RAW_BYTES_MAX, BadRow, Block, LineReader


def read(path: Path, block_bytes: int = 64) -> tuple[bytes, list[BadRow], list[Block]]:
    with LineReader(path, block_bytes) as reader:
        blocks = list(reader)
    return b"".join(block.data for block in blocks), [bad for block in blocks for bad in block.bad], blocks


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 20])
def test_blocks_are_whole_lines_with_their_numbers(tmp_path: Path, block_bytes: int) -> None:
    path = tmp_path / "a.csv"
    lines = [f"line {number}" * (number % 7) for number in range(200)]
    path.write_text("\n".join(lines))
    data, bad, blocks = read(path, block_bytes)
    assert data.decode() == "\n".join(lines) + "\n"
    assert not bad
    for block in blocks:
        assert block.data.split(b"\n")[0].decode() == lines[block.first_line - 1]
        assert block.count == block.data.count(b"\n")


def test_carriage_returns_before_line_feeds_are_not_part_of_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\r\n1,2\r\n")
    assert read(tmp_path / "a.csv")[0] == b"a,b\n1,2\n"


def test_a_gzipped_file_is_recognised_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert read(tmp_path / "a.csv")[0] == b"a,b\n1,2\n"


def test_a_gzipped_file_that_was_cut_off_gives_what_it_still_holds(tmp_path: Path) -> None:
    text = b"".join(b"%d,%d\n" % (n, n * n) for n in range(20_000))
    packed = gzip.compress(text)
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    data, bad, _ = read(tmp_path / "a.csv.gz", 1 << 20)
    assert text.startswith(data)
    assert data.endswith(b"\n")
    assert len(data) > len(text) // 4
    assert len(bad) == 1
    assert bad[0].line == data.count(b"\n") + 1
    assert "cannot be decompressed from here on" in bad[0].reason


@pytest.mark.parametrize("end", [b"\n", b""])
@pytest.mark.parametrize("length", [2 * LINE_BYTES_MAX, 10_000_000])
def test_a_line_that_is_too_long_is_bad_and_its_neighbours_are_not(tmp_path: Path, length: int, end: bytes) -> None:
    path = tmp_path / "a.csv"
    after = b"after\n" if end else b""
    path.write_bytes(b"before\n" + b"x" * length + end + after)
    data, (bad,), blocks = read(path, LINE_BYTES_MAX // 2)
    assert data == b"before\n" + after
    assert bad.line == 2
    assert f"has {length} bytes" in bad.reason
    assert len(bad.raw) == RAW_BYTES_MAX
    assert bad.truncated
    assert [block.first_line for block in blocks if b"after" in block.data] == ([3] if after else [])
