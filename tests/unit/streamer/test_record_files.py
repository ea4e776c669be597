"""JSON Lines, Parquet, Arrow, and CSV as it is exported: what is in them becomes records, what is not goes aside."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from telemetry import exchange
from telemetry.codec import records_of
from telemetry.model import Record
from telemetry.streamer.sources import columnar
from telemetry.streamer.sources.layout import FIRST_LINE, LAST_LINE, SourceError
from telemetry.streamer.sources.lines import BadRow
from telemetry.streamer.sources.opening import open_source

T0 = datetime(2026, 1, 1, tzinfo=UTC)
Writer = Callable[[pa.Table, Path], None]


def write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=7)


def write_arrow_file(table: pa.Table, path: Path) -> None:
    with ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=5)


def write_arrow_stream(table: pa.Table, path: Path) -> None:
    with ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=5)


WRITERS = [write_parquet, write_arrow_file, write_arrow_stream]


def read(path: Path, **options: Any) -> tuple[list[Record], list[BadRow]]:
    """All that a file holds, and that a second pass is cut the same way."""
    passes = []
    for _ in range(2):
        source = open_source(path, **options)
        assert source.has_time
        blocks = list(source)
        records = [source.records(block.rows) for block in blocks if block.rows.height]
        source.close()
        passes.append((records, [row for block in blocks for row in block.bad]))
        assert [block.position for block in blocks] == sorted(block.position for block in blocks)
        assert all(block.position <= source.size for block in blocks)
    (records, bad), (again, bad_again) = passes
    assert [frame.height for frame in records] == [frame.height for frame in again]
    assert all(one.equals(other) for one, other in zip(records, again, strict=True))
    assert bad == bad_again
    plain = [each for frame in records for each in records_of(frame.drop(FIRST_LINE, LAST_LINE))]
    return plain, bad


def lines(tmp_path: Path, *rows: object, name: str = "some.jsonl") -> Path:
    path = tmp_path / name
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def stored(second: int = 0, **more: object) -> dict[str, object]:
    time = (T0 + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")
    return {"gpu_id": "g", "metrics": {"x": 1}, "timestamp": time, **more}


@pytest.mark.parametrize("name", ["a.jsonl", "a.gz", "whatever"])
def test_lines_of_the_hot_tier_become_the_records_that_they_are(name: str, tmp_path: Path) -> None:
    repeated = stored(metrics={"power draw [W]": 0.30000000000000004, "utilization": 150, "none": None})
    path = lines(tmp_path, stored(labels={"index": "007", "note": "N/A", "gone": None}), "", repeated, name=name)
    records, bad = read(path)
    assert bad == []
    assert records == [
        Record(T0, "g", {"x": 1.0}, {"index": "007", "note": "N/A"}),
        # Of one instant: parts of one record, so nothing is kept apart; and no name or value is interpreted.
        Record(T0, "g", {"power draw [W]": 0.30000000000000004, "utilization": 150.0}),
    ]


def test_lines_as_messages_of_the_queue_have_them_are_read_as_those(tmp_path: Path) -> None:
    fields = {"uuid": "GPU-1", "temperature.gpu": "45 C", "utilization.gpu [%]": "[N/A]"}
    records, bad = read(lines(tmp_path, {"timestamp": 1767225600, "fields": fields}))
    assert bad == []
    assert records == [Record(T0, "GPU-1", {"temperature": 45.0}, {"uuid": "GPU-1"})]


def test_lines_that_are_no_records_are_put_aside_with_the_reason(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        stored(),
        '{"gpu_id": ',
        "[1]",
        stored(gpu_id=7),
        stored(metrics=[1]),
        stored(labels="host"),
        stored(timestamp="noon"),
        stored(timestamp=None),
        stored(unknown=1),
        stored(1, metrics={"x": "hot", "y": True, "z": 3}, labels={"n": 7, "host": "h"}),
        stored(2, metrics={"timestamp": 1, "x": 2}),
        '{"timestamp": "2026-01-01T00:00:00Z", "fields": {}}',
    )
    records, bad = read(path)
    assert [(record.metrics, record.labels) for record in records] == [
        ({"x": 1.0}, {}),
        ({"z": 3.0}, {"host": "h"}),
        ({"x": 2.0}, {}),
    ]
    assert [(row.line, row.reason.split(":")[0]) for row in bad] == [
        (2, "the line is not JSON"),
        (3, "the line is not a JSON object"),
        (4, "'gpu_id' is not a text that names a GPU"),
        (5, "'metrics' is not an object"),
        (6, "'labels' is not an object"),
        (7, "'timestamp'"),
        (8, "'timestamp' is missing"),
        (9, "'unknown' is not a field of a record; known are gpu_id, labels, metrics, timestamp"),
        (10, "metric 'x' is not a number"),
        (10, "metric 'y' is not a number"),
        (10, "label 'n' is not text"),
        (11, "metric 'timestamp' is left out"),
        (12, "no field says which GPU it is"),
    ]
    assert bad[0].raw == '{"gpu_id": '


def test_a_name_is_either_a_metric_or_a_label_throughout_a_file_and_that_is_said_once(tmp_path: Path) -> None:
    path = lines(tmp_path, stored(), *(stored(second, metrics={}, labels={"x": "no", "y": "yes"}) for second in (1, 2)))
    records, bad = read(path)
    assert [(record.metrics, record.labels) for record in records] == [
        ({"x": 1.0}, {}), ({}, {"y": "yes"}), ({}, {"y": "yes"}),
    ]  # fmt: skip
    assert [(row.line, row.field) for row in bad] == [(2, "x")]


def test_a_time_without_a_zone_is_read_in_the_zone_given(tmp_path: Path) -> None:
    path = lines(tmp_path, stored(timestamp="2026-01-01T01:00:00"))
    assert read(path, zone=ZoneInfo("Europe/Berlin"))[0][0].timestamp == T0


def exported_table(rows: int = 20) -> pa.Table:
    return pa.table(
        {
            "timestamp": pa.array([T0 + timedelta(seconds=n) for n in range(rows)], pa.timestamp("us", "UTC")),
            "gpu_identity": [f"g{n % 2}" for n in range(rows)],
            "utilization": [150.0 if n % 2 else None for n in range(rows)],
            "metric:label:x": pa.array(range(rows), pa.int32()),
            "label:host": pa.array(["N/A" if n % 3 else "" for n in range(rows)]).dictionary_encode(),
        }
    )


@pytest.mark.parametrize("write", WRITERS)
def test_tables_of_an_export_are_read_as_they_are(write: Writer, tmp_path: Path) -> None:
    write(exported_table(), tmp_path / "f")
    records, bad = read(tmp_path / "f")
    assert bad == []
    assert records == [
        Record(
            T0 + timedelta(seconds=n),
            f"g{n % 2}",
            {"label:x": float(n)} | ({"utilization": 150.0} if n % 2 else {}),
            {"host": "N/A" if n % 3 else ""},
        )
        for n in range(20)
    ]


@pytest.mark.parametrize("write", WRITERS)
def test_files_of_the_cold_tier_are_read_as_they_are(write: Writer, tmp_path: Path) -> None:
    times = pa.array([T0, T0, T0 + timedelta(seconds=1)], pa.timestamp("us", "UTC"))
    table = pa.table(
        {
            "gpu": ["N/A", "0", "0"],
            "timestamp": times,
            "power_draw": pa.array([Decimal("563.12"), None, None], pa.decimal128(18, 2)),
            "temperature": pa.array([61, None, None], pa.int64()),
            "utilization": [150.0, 1.0, float("nan")],
        }
    )
    write(table, tmp_path / "f")
    records, bad = read(tmp_path / "f")
    assert bad == []
    assert records == [
        Record(T0, "N/A", {"power_draw": 563.12, "temperature": 61.0, "utilization": 150.0}),
        Record(T0, "0", {"utilization": 1.0}),
        Record(T0 + timedelta(seconds=1), "0", {}),
    ]


@pytest.mark.parametrize("write", WRITERS)
def test_any_other_table_is_read_by_the_rules_for_csv(write: Writer, tmp_path: Path) -> None:
    table = pa.table(
        {
            "timestamp": pa.array([datetime(2026, 1, 1), datetime(2026, 1, 1)], pa.timestamp("ns")),  # noqa: DTZ001
            "hostname": ["n1", "n1"],
            "gpu": [0, 0],
            "temperature.gpu": [60.5, None],
            "utilization.gpu [%]": ["45 %", "broken"],
            "list": [[1], [2]],
        }
    )
    write(table, tmp_path / "f")
    records, bad = read(tmp_path / "f")
    labels = {"host": "n1", "index": "0"}
    assert records == [
        Record(T0, "n1/0", {"temperature": 60.5, "utilization": 45.0}, labels),
        # The same GPU and time again: kept apart.
        Record(T0 + timedelta(microseconds=1), "n1/0", {}, labels),
    ]
    assert [(row.line, row.field, row.reason) for row in bad] == [
        (1, "list", "column 'list' is left out: List(Int64) is neither a number nor text"),
        (2, "utilization.gpu", "'broken' is not a number"),
    ]
    assert json.loads(bad[0].raw)["hostname"] == "n1"


@pytest.mark.parametrize("write", WRITERS)
def test_long_tables_are_merged_into_records(write: Writer, tmp_path: Path) -> None:
    table = pa.table(
        {
            "timestamp": ["2026-01-01 00:00:00"] * 2,
            "metric_name": ["DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_POWER_USAGE"],
            "uuid": ["GPU-1"] * 2,
            "value": [60.0, 300.5],
        }
    )
    write(table, tmp_path / "f")
    assert read(tmp_path / "f")[0] == [
        Record(T0, "GPU-1", {"temperature": 60.0, "power_draw": 300.5}, {"uuid": "GPU-1"})
    ]


@pytest.mark.parametrize("write", WRITERS)
def test_rows_of_a_table_that_say_not_when_or_which_are_put_aside(write: Writer, tmp_path: Path) -> None:
    table = pa.table(
        {
            "timestamp": pa.array([T0, None, T0, T0], pa.timestamp("ms", "Europe/Berlin")),
            "gpu_identity": ["g", "g", None, ""],
            "x": [1.0, 2.0, 3.0, 4.0],
            "label:x": ["a", "b", "c", "d"],
            "list": [[1], [2], [3], [4]],
        }
    )
    write(table, tmp_path / "f")
    records, bad = read(tmp_path / "f")
    assert records == [Record(T0, "g", {"x": 1.0})]
    assert [(row.line, row.field) for row in bad] == [
        (1, "label:x, list"), (2, "timestamp"), (3, "gpu_identity"), (4, "gpu_identity"),
    ]  # fmt: skip


def test_a_file_is_read_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "BATCH_ROWS", 3)
    for write in WRITERS:
        write(exported_table(), tmp_path / "f")
        assert max(block.rows.height for block in open_source(tmp_path / "f")) == 3
        records, _ = read(tmp_path / "f")
        assert [record.metrics["label:x"] for record in records] == list(range(20))


@pytest.mark.parametrize("write", WRITERS)
def test_a_table_that_breaks_off_gives_what_is_before_and_says_where(write: Writer, tmp_path: Path) -> None:
    path = tmp_path / "f"
    write(exported_table(), path)
    data = bytearray(path.read_bytes())
    if write is write_parquet:
        # The end of a Parquet file says where everything is, so only what lies between can be damaged and noticed late.
        place = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
        data[place : place + 12] = b"\xff" * 12
        path.write_bytes(data)
    elif write is write_arrow_stream:
        path.write_bytes(data[: len(data) * 2 // 3])
    else:
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(SourceError, match="f: "):
            open_source(path)
        return
    records, bad = read(path)
    assert len(bad) == 1
    assert bad[0].line == len(records) + 1
    assert "cannot be read from here on" in bad[0].reason


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1 and nothing more", "PAR1|Parquet|magic"),
        (b"ARROW1 and nothing more", "f: "),
        (b"", "the file is empty"),
    ],
)
def test_a_file_that_cannot_be_opened_is_an_error_that_names_it(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(SourceError, match=said):
        open_source(tmp_path / "f")
    with pytest.raises(SourceError, match="missing: No such file"):
        open_source(tmp_path / "missing")


def test_a_table_without_a_gpu_is_an_error_that_names_what_is_there(tmp_path: Path) -> None:
    write_parquet(pa.table({"timestamp": [1], "x": [1.0]}), tmp_path / "f")
    with pytest.raises(SourceError, match="no column says which GPU a row is about; found are: timestamp, x"):
        open_source(tmp_path / "f")


def test_cells_of_an_exported_csv_mean_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(
        'timestamp,gpu_identity,utilization,"a,b",x,label:host,label:x\n'
        "2026-01-01T00:00:00.000000Z,N/A,150.0,,1,N/A,twin\n"
        "2026-01-01T00:00:00.000000Z,\\sg\\n,nan,1e3,2,\\e,twin\n"
        "2026-01-01T00:00:00.000000Z,g,hot,2,,,\n"
        "noon,g,1,,,,\n"
        ",g,1,,,,\n"
        "2026-01-01T00:00:00.000000Z,,1,,,,\n",
        encoding="utf-8",
    )
    records, bad = read(tmp_path / "f")
    assert records == [
        Record(T0, "N/A", {"utilization": 150.0, "x": 1.0}, {"host": "N/A"}),
        Record(T0, " g\n", {"a,b": 1000.0, "x": 2.0}, {"host": ""}),
        Record(T0, "g", {"a,b": 2.0}),
    ]
    assert [(row.line, row.field) for row in bad] == [
        (2, "label:x"), (4, "utilization"), (5, "timestamp"), (6, "timestamp"), (7, "gpu_identity"),
    ]  # fmt: skip


@given(st.text())
def test_any_text_survives_csv(text: str) -> None:
    written = exchange.escaped(text)
    assert not set(written) & set("\n\r\0")
    assert exchange.unescaped(written) == text
    column = pl.Series([text, None, "plain"], dtype=pl.String)
    there = exchange.escaped_texts(column)
    assert exchange.unescaped_texts(there.fill_null("")).equals(column)


@given(st.text())
def test_any_name_survives_as_a_column(name: str) -> None:
    assert exchange.kind_of(exchange.metric_column(name)) == (exchange.Kind.METRIC, name)
    assert exchange.kind_of(exchange.label_column(name)) == (exchange.Kind.LABEL, name)
