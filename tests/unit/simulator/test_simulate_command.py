"""`telemetry simulate` writes files that the streamer reads back unchanged, and says what is wrong with its options."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest
from click.testing import CliRunner, Result
from polars.testing import assert_frame_equal

from telemetry.cli.main import telemetry
from telemetry.codec import label_columns, metric_columns
from telemetry.simulator import Fleet
from telemetry.simulator.incidents import IncidentError, incidents_to_json, read_incidents
from telemetry.streamer.sources.layout import FIRST_LINE, LAST_LINE
from telemetry.streamer.sources.opening import open_source
from telemetry.tabular import read_time


def run(*arguments: str) -> Result:
    return CliRunner().invoke(telemetry, ["simulate", "--gpus", "20", "--duration", "10m", *arguments])


def simulated() -> pl.DataFrame:
    return pl.concat(Fleet(20, duration=timedelta(minutes=10)).frames())


@pytest.mark.parametrize("name", ["fleet.csv", "fleet.dcgm.csv", "fleet.jsonl", "fleet.parquet"])
def test_the_streamer_reads_back_what_was_simulated(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert run("--out", str(path)).exit_code == 0
    source = open_source(path)
    read = pl.concat([source.records(rows.rows) for rows in source], how="diagonal")
    source.close()
    expected = simulated()
    columns = ["timestamp", "gpu", *metric_columns(expected), "host", "model", "pod", "namespace", "container"]
    assert read.height < expected.height + 10, "the samples of a record do not stand together"
    # A record may lie across two blocks of a long file; its parts are one record again in the store.
    keys = ("timestamp", "gpu")
    read = read.drop(FIRST_LINE, LAST_LINE).group_by(keys, maintain_order=True).agg(pl.all().drop_nulls().first())
    assert_frame_equal(read.select(columns), expected.select(columns), rel_tol=1e-9)


def test_parquet_and_json_lines_hold_every_value(tmp_path: Path) -> None:
    expected = simulated()
    assert run("--out", str(tmp_path / "fleet.parquet")).exit_code == 0
    assert_frame_equal(pl.read_parquet(tmp_path / "fleet.parquet"), expected)
    assert run("--out", str(tmp_path / "fleet.jsonl")).exit_code == 0
    lines = [orjson.loads(line) for line in (tmp_path / "fleet.jsonl").read_bytes().splitlines()]
    assert len(lines) == expected.height
    row = expected.row(7, named=True)
    assert lines[7]["gpu_id"] == row["gpu"]
    assert read_time(lines[7]["timestamp"]) == row["timestamp"]
    assert lines[7]["metrics"] == {name: row[name] for name in metric_columns(expected)}
    assert lines[7]["labels"] == {name: row[name] for name in label_columns(expected)}


def test_the_truth_lies_beside_the_file_and_can_be_played_again(tmp_path: Path) -> None:
    first, again = tmp_path / "first.parquet", tmp_path / "again.parquet"
    result = run("--duration", "2h", "--incidents", "random", "--seed", "3", "--out", str(first))
    assert result.exit_code == 0
    truth = tmp_path / "first.incidents.json"
    assert str(truth) in result.output
    entries = orjson.loads(truth.read_bytes())
    assert {entry["kind"] for entry in entries} >= {"heat", "lost", "xid"}
    assert run("--duration", "2h", "--incidents", str(truth), "--seed", "3", "--out", str(again)).exit_code == 0
    assert pl.read_parquet(first).equals(pl.read_parquet(again))
    assert read_incidents(truth) == read_incidents(tmp_path / "again.incidents.json")


def test_a_file_that_cannot_be_finished_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    result = run("--out", str(tmp_path / "fleet.csv"))
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name either a file with --out or a queue with --queue"),
        (("--out", "x.csv", "--queue", "h:1"), "name either a file with --out or a queue with --queue"),
        (("--out", "x.txt"), "has to end in one of .dcgm.csv, .csv, .jsonl, .parquet"),
        (("--out", "x.csv", "--duration", "soon"), "'soon' is not a length of time"),
        (("--out", "x.csv", "--start", "yesterday"), "'yesterday' is not a time"),
        (("--out", "x.csv", "--interval", "1h"), "duration is 0:10:00"),
        (("--queue", "h:1", "--rate", "fast"), "'fast' is neither realtime nor a number"),
        (("--queue", "h:1", "--rate", "inf"), "'inf' is neither realtime nor a number"),
        (("--out", "x.csv", "--gpus", "0"), "'--gpus'"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())


GOOD = {"gpu": "node-001/1", "kind": "heat", "start": "2026-01-01T00:01:00Z", "end": "2026-01-01T00:02:00Z"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not JSON"),
        (b"{}", "not a JSON array"),
        (b"[3]", "entry 1: not an object"),
        (orjson.dumps([GOOD, {**GOOD, "kind": "fire"}]), "entry 2: kind 'fire' is none of heat, throttle"),
        (orjson.dumps([{**GOOD, "start": "now"}]), "entry 1: start: 'now' is not a time"),
        (orjson.dumps([{**GOOD, "gpu": 3}]), "entry 1: field 'gpu' is not a text"),
        (orjson.dumps([{k: v for k, v in GOOD.items() if k != "end"}]), "entry 1: field 'end' is missing"),
        (orjson.dumps([{**GOOD, "xid": "79"}]), "entry 1: xid '79' is not a whole number"),
    ],
)
def test_a_wrong_list_of_incidents_is_refused_with_file_entry_and_field(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "incidents.json"
    path.write_bytes(content)
    with pytest.raises(IncidentError) as error:
        read_incidents(path)
    assert str(error.value).startswith(f"{path}: ")
    assert reason in str(error.value)
    result = run("--out", str(tmp_path / "x.csv"), "--incidents", str(path))
    assert result.exit_code == 1
    assert reason in " ".join(result.output.split())


def test_an_empty_truth_is_an_empty_list(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    path.write_bytes(incidents_to_json([], []))
    assert read_incidents(path) == []
