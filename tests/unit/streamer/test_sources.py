"""Files become records: identities, metrics, labels, instants, and bad rows apart."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from telemetry.codec import metric_columns
from telemetry.streamer.samples import SAMPLE_ROWS_PER_SECOND, sample_path
from telemetry.streamer.sources.csv_file import CsvSource
from telemetry.streamer.sources.layout import SourceError
from telemetry.streamer.sources.lines import BadRow

CAPTURES = Path(__file__).parents[4] / "shared" / "data"
needs_captures = pytest.mark.skipif(not CAPTURES.is_dir(), reason="the captures of real machines are not here")
TIME = datetime(2026, 1, 1, tzinfo=UTC)
LONG = (
    "timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace,value,labels_raw\n"
    '"2026-01-01T00:00:00Z","{metric}","0","nvidia0","GPU-1","H100","node-1","","{pod}","","{value}","{raw}"\n'
)


def read(path: Path, block_bytes: int = 4 << 20) -> tuple[pl.DataFrame, list[BadRow]]:
    """All records of a file, and its bad rows."""
    source = CsvSource(path, block_bytes=block_bytes)
    try:
        blocks = list(source)
        records = [source.records(block.rows) for block in blocks if block.rows.height]
    finally:
        source.close()
    bad = [row for block in blocks for row in block.bad]
    return (pl.concat(records, how="diagonal") if records else pl.DataFrame()), bad


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def samples(records: pl.DataFrame) -> int:
    return sum(records.height - records[name].null_count() for name in metric_columns(records))


@needs_captures
@pytest.mark.parametrize("block_bytes", [4 << 20, 100_000])
def test_a_dcgm_export_of_31_hosts_is_247_gpus_with_all_their_values(block_bytes: int) -> None:
    records, bad = read(CAPTURES / "dcgm_h100_31_hosts.csv", block_bytes)
    assert not bad
    assert records["gpu"].n_unique() == 247
    assert records["host"].n_unique() == 31
    assert samples(records) == 2470
    assert len(metric_columns(records)) == 10
    assert records["driver_version"].unique().to_list() == ["535.129.03"]
    assert (records["gpu"] == records["uuid"]).all()
    first = records.filter(pl.col("gpu") == "GPU-5fd4f087-86f3-7a43-b711-4771313afc50")
    assert first["power_draw"].drop_nulls().to_list() == [156.596]


@needs_captures
def test_an_nvidia_smi_log_is_read_with_its_units_and_gaps() -> None:
    records, bad = read(CAPTURES / "nvidia_smi_h100.csv")
    assert not bad
    idle, busy = records.to_dicts()
    assert idle["timestamp"] == datetime(2026, 7, 14, 8, 12, 38, 696000, tzinfo=UTC)
    assert (busy["utilization"], busy["power_draw"], busy["memory_used"]) == (100.0, 631.95, 19818.0)
    assert idle["throttle_reasons"] == 1.0
    assert idle["throttle_hw_thermal_slowdown"] == 0.0
    assert idle["fan_speed"] is None
    assert (idle["model"], idle["pstate"], idle["mig.mode.current"]) == ("NVIDIA H100 80GB HBM3", "P0", "Disabled")


def test_the_shipped_sample_is_32_gpus_over_5_minutes() -> None:
    records, bad = read(sample_path())
    assert not bad
    assert records["gpu"].n_unique() == 32
    assert records["host"].n_unique() == 4
    assert records["timestamp"].n_unique() == 150
    assert len(metric_columns(records)) == 10
    assert SAMPLE_ROWS_PER_SECOND == 32 * 10
    hot = records.filter(pl.col("throttle_reasons").cast(pl.Int64) & 0x40 > 0)
    assert set(zip(hot["host"], hot["index"], strict=True)) == {("node-3", "5")}
    gone = records.filter((pl.col("host") == "node-4") & (pl.col("index") == "3"))
    assert gone.height == 125


def test_the_wide_sample_is_read() -> None:
    records, bad = read(sample_path().with_name("nvidia_smi_sample.csv"))
    assert not bad
    assert records["gpu"].n_unique() == 8
    assert records["utilization"].null_count() == 0


@pytest.mark.parametrize(
    ("header", "row", "gpu", "labels"),
    [
        ("gpu_id", "7", "7", {}),
        ("gpu_id,hostname", "7,node-1", "node-1/7", {"host": "node-1", "index": "7"}),
        ("gpu,host", "0,a", "a/0", {"host": "a", "index": "0"}),
        ("index,uuid", "0,GPU-1", "GPU-1", {"uuid": "GPU-1", "index": "0"}),
        ("gpu_uuid,hostname,gpu_id", ",node-1,3", "node-1/3", {"uuid": None, "host": "node-1", "index": "3"}),
        ("gpu", "GPU-12345678-aaaa", "GPU-12345678-aaaa", {"uuid": "GPU-12345678-aaaa"}),
        ("gpu_id", "../../etc/passwd", "../../etc/passwd", {}),
    ],
)
def test_a_gpu_is_identified_by_what_the_file_has(
    tmp_path: Path, header: str, row: str, gpu: str, labels: dict[str, str | None]
) -> None:
    records, bad = read(write(tmp_path, f"timestamp,{header},temperature\n2026-01-01T00:00:00Z,{row},40\n"))
    assert not bad
    (record,) = records.to_dicts()
    assert record["gpu"] == gpu
    assert {name: record[name] for name in labels} == labels


def test_columns_of_unknown_name_are_metrics_if_they_hold_numbers_and_labels_otherwise(tmp_path: Path) -> None:
    text = (
        "time,gpu,hits,rack,serial_no,mode,driver_version,lanes [GB/s],nothing\n"
        "2026-01-01T00:00:00Z,0,5,r1,00123,Enabled,535.129,7 GB/s,\n"
    )
    (record,) = read(write(tmp_path, text))[0].to_dicts()
    assert (record["hits"], record["lanes"]) == (5.0, 7.0)
    assert (record["rack"], record["serial_no"], record["mode"], record["driver_version"]) == (
        "r1",
        "00123",
        "Enabled",
        "535.129",
    )
    assert "nothing" not in record


def test_a_column_that_comes_twice_keeps_both_its_values(tmp_path: Path) -> None:
    text = "gpu_id,power.draw,power.draw.instant,x,x\n0,100,110,1,2\n"
    (record,) = read(write(tmp_path, text))[0].to_dicts()
    assert (record["power_draw"], record["power.draw.instant"], record["x"], record["x_2"]) == (100, 110, 1, 2)


def test_values_that_are_none_are_absent(tmp_path: Path) -> None:
    values = ["[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "", "NaN", "9223372036854775794", "101", "50"]
    text = "gpu_id,utilization\n" + "".join(f"{number},{value}\n" for number, value in enumerate(values))
    records, bad = read(write(tmp_path, text))
    assert not bad
    assert records["utilization"].to_list() == [None] * 8 + [50.0]


BAD = (
    b"timestamp,gpu_id,temperature,power_draw\n"
    b"2026-01-01T00:00:00Z,a,1,1\n"
    b"2026-01-01T00:00:00Z,b,2\n"
    b"2026-01-01T00:00:00Z,c,3,3,3\n"
    b"2026-01-01T00:00:00Z,\xff\xfe,4,4\n"
    b"2026-01-01T00:00:00Z,d,warm,high\n"
    b"yesterday,e,6,6\n"
    b"2026-01-01T00:00:00Z,,7,7\n"
    b'2026-01-01T00:00:00Z,"f,8,8\n'
    b"\n"
    b"timestamp,gpu_id,temperature,power_draw\n"
    b'2026-01-01T00:00:00Z,"g,""h""",9,9\n'
    b"2026-01-01T00:00:00Z,i"
)


@pytest.mark.parametrize("block_bytes", [16, 100, 4 << 20])
def test_bad_rows_are_told_apart_with_line_field_and_reason_and_take_no_neighbour_along(
    tmp_path: Path, block_bytes: int
) -> None:
    records, bad = read(write(tmp_path, BAD), block_bytes)
    assert records["gpu"].to_list() == ["a", "d", 'g,"h"']
    assert records["temperature"].to_list() == [1.0, None, 9.0]
    assert [(row.line, row.field) for row in bad] == [
        (3, ""),
        (4, ""),
        (5, ""),
        (6, "temperature, power_draw"),
        (7, "timestamp"),
        (8, "gpu_id"),
        (9, ""),
        (13, ""),
    ]
    reasons = [row.reason for row in bad]
    assert reasons[0] == "the row has 3 fields; the header has 4"
    assert "not UTF-8" in reasons[2]
    assert reasons[3] == "'warm' is not a number; 'high' is not a number"
    assert "'yesterday' is not a time" in reasons[4]
    assert "quotes do not match" in reasons[6]
    assert bad[2].raw == "2026-01-01T00:00:00Z,\\xff\\xfe,4,4"


def test_rows_that_repeat_gpu_and_time_are_kept_apart_in_file_order(tmp_path: Path) -> None:
    rows = "".join(f"2026-01-01T00:00:00Z,{gpu},{n}\n" for n in range(50) for gpu in "ab")
    for block_bytes in (60, 4 << 20):
        records, _ = read(write(tmp_path, "timestamp,gpu_id,temperature\n" + rows), block_bytes)
        for gpu in "ab":
            own = records.filter(pl.col("gpu") == gpu)
            assert own["timestamp"].to_list() == [TIME + timedelta(microseconds=n) for n in range(50)]
            assert own["temperature"].to_list() == list(range(50))


def test_a_time_that_a_repetition_would_take_moves_on_too(tmp_path: Path) -> None:
    times = ["00:00:00.000000", "00:00:00.000000", "00:00:00.000001", "00:00:00.500000"]
    rows = "".join(f"2026-01-01T{time}Z,a,{n}\n" for n, time in enumerate(times))
    records, _ = read(write(tmp_path, "timestamp,gpu_id,temperature\n" + rows))
    assert [(time - TIME).microseconds for time in records["timestamp"]] == [0, 1, 2, 500_000]


def test_rows_without_a_time_get_increasing_times(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    rows = "".join(f"a,{n}\n" for n in range(1000))
    records, _ = read(write(tmp_path, "gpu_id,temperature\n" + rows), 512)
    times = records["timestamp"].to_list()
    assert times == sorted(set(times))
    assert times[0] >= before
    assert records["temperature"].to_list() == list(range(1000))


def test_long_rows_of_one_gpu_and_instant_become_one_record(tmp_path: Path) -> None:
    header, row = LONG.splitlines(keepends=True)
    raw = 'DCGM_FI_DRIVER_VERSION=""535"",instance=""node-1:9400"",UUID=""GPU-1"",zone=""a\\""b""'
    values = [("DCGM_FI_DEV_GPU_TEMP", "41"), ("DCGM_FI_PROF_SM_ACTIVE", "0.5"), ("DCGM_FI_DEV_GPU_UTIL", "101")]
    rows = "".join(row.format(metric=metric, value=value, pod="p", raw=raw) for metric, value in values)
    records, bad = read(write(tmp_path, header + rows))
    assert not bad
    (record,) = records.to_dicts()
    assert (record["temperature"], record["sm_active"], record["utilization"]) == (41.0, 50.0, None)
    assert (record["uuid"], record["host"], record["index"], record["model"]) == ("GPU-1", "node-1", "0", "H100")
    assert (record["pod"], record["driver_version"], record["instance"]) == ("p", "535", "node-1:9400")
    assert "namespace" not in record


def test_long_rows_that_repeat_a_metric_are_kept_apart(tmp_path: Path) -> None:
    header, row = LONG.splitlines(keepends=True)
    rows = [row.format(metric=metric, value=n, pod="", raw="") for n in (1, 2) for metric in ("a", "b")]
    for block_bytes in (100, 4 << 20):
        records, _ = read(write(tmp_path, header + "".join(rows)), block_bytes)
        merged = records.group_by("timestamp").agg(pl.col("a", "b").max()).sort("timestamp")
        assert merged.rows() == [(TIME, 1.0, 1.0), (TIME + timedelta(microseconds=1), 2.0, 2.0)]


def test_instances_of_a_divided_gpu_are_told_apart(tmp_path: Path) -> None:
    header, row = LONG.splitlines(keepends=True)
    rows = "".join(row.format(metric="a", value=n, pod="", raw=f'GPU_I_ID=""{n}""') for n in (1, 2))
    records, _ = read(write(tmp_path, header + rows))
    assert records.select("gpu", "a").rows() == [("GPU-1/1", 1.0), ("GPU-1/2", 2.0)]


def test_long_rows_that_cannot_be_read_are_bad(tmp_path: Path) -> None:
    header, row = LONG.splitlines(keepends=True)
    rows = row.format(metric="a", value="much", pod="", raw="") + row.format(metric="", value="1", pod="", raw="")
    records, bad = read(write(tmp_path, header + rows + row.format(metric="a", value="1", pod="", raw="")))
    assert records.height == 1
    assert [(b.line, b.field) for b in bad] == [(2, "value"), (3, "metric_name")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "the file is empty"),
        (b"\ngpu_id\n", "the first line is empty"),
        (
            b"timestamp,temperature\n",
            "no column says which GPU .* found are: timestamp, temperature; accepted are: uuid",
        ),
        (b"timestamp,gpu_id\n", "no column holds a metric"),
        (b"x" * 3_000_000, "the header cannot be read: the line has"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"gpu_id,temperature\n", "there is a header but no row"),
    ],
)
def test_a_file_that_cannot_be_streamed_is_refused_in_one_sentence(tmp_path: Path, text: bytes, reason: str) -> None:
    with pytest.raises(SourceError, match=reason) as caught:
        CsvSource(write(tmp_path, text))
    assert str(tmp_path / "file.csv") in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        CsvSource(tmp_path / "missing.csv")


def test_a_line_of_more_than_a_mebibyte_is_bad(tmp_path: Path) -> None:
    text = b"gpu_id,temperature,note\n0,1,a\n1,2," + b"x" * (1 << 20) + b"\n2,3,c\n"
    records, (bad,) = read(write(tmp_path, text))
    assert records["gpu"].to_list() == ["0", "2"]
    assert (bad.line, bad.truncated, len(bad.raw)) == (3, True, 4096)
    assert "at most 1048576 are allowed" in bad.reason


def test_windows_files_and_gzipped_files_are_read_like_others(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbfgpu_id,temperature\r\n0,41\r\n"
    for data in (text, gzip.compress(text)):
        records, bad = read(write(tmp_path, data))
        assert not bad
        assert records.select("gpu", "temperature").rows() == [("0", 41.0)]
