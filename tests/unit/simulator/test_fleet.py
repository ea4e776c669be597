"""A simulated fleet is the same every time, looks like one, and shows its incidents exactly while they last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from telemetry.codec import decode, encode_arrow, label_columns, metric_columns
from telemetry.model import CATALOGUE
from telemetry.simulator import Fleet, Incident, Kind
from telemetry.simulator.incidents import IncidentError
from telemetry.simulator.physics import (
    HW_SLOWDOWN_BIT,
    HW_THERMAL_BIT,
    POWER_BRAKE_BIT,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def records(fleet: Fleet) -> pl.DataFrame:
    return pl.concat(fleet.frames())


def fleet_with(kind: Kind, *, begin: timedelta = 2 * HOUR, length: timedelta = HOUR, seed: int = 1) -> Fleet:
    """Sixteen GPUs on two hosts, with one incident on the second GPU."""
    incident = Incident("node-001/1", kind, START + begin, START + begin + length)
    return Fleet(16, duration=5 * HOUR, start=START, seed=seed, incidents=[incident])


def around(fleet: Fleet) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """What the GPU of the only incident showed before it, while it lasted, and after it."""
    (incident,) = fleet.incidents
    own = records(fleet).filter(pl.col("gpu") == incident.gpu)
    time = pl.col("timestamp")
    return (
        own.filter(time < incident.start),
        own.filter(time.is_between(incident.start, incident.end, closed="left")),
        own.filter(time >= incident.end),
    )


def every(frame: pl.DataFrame, metric: str) -> set[float]:
    return set(frame[metric].unique())


def low(frame: pl.DataFrame, metric: str) -> float:
    return float(frame.select(pl.col(metric).min()).item())


def high(frame: pl.DataFrame, metric: str) -> float:
    return float(frame.select(pl.col(metric).max()).item())


def median(frame: pl.DataFrame, metric: str) -> float:
    return float(frame.select(pl.col(metric).median()).item())


def test_one_seed_makes_the_same_records_and_another_makes_others() -> None:
    def simulate(seed: int) -> pl.DataFrame:
        return records(Fleet(24, duration=3 * HOUR, seed=seed, incidents="random"))

    fleet = Fleet(24, duration=3 * HOUR, seed=5, incidents="random")
    assert records(fleet).equals(records(fleet))
    assert records(fleet).equals(simulate(5))
    assert not records(fleet).equals(simulate(6))
    assert fleet.incidents == Fleet(24, duration=3 * HOUR, seed=5, incidents="random").incidents


def test_an_incident_of_one_instant_shows_in_one_record() -> None:
    steps = [START + n * timedelta(seconds=20) for n in range(1, 60)]
    incidents = [Incident("node-001/1", Kind.ROW_REMAP, step, step + timedelta(seconds=1)) for step in steps]
    fleet = Fleet(500, duration=timedelta(minutes=20), start=START, incidents=incidents)
    failures = records(fleet).filter(pl.col("row_remap_failure") > 0)
    assert failures["timestamp"].to_list() == steps


def test_every_gpu_has_a_record_at_every_instant_and_frames_are_in_order_of_time() -> None:
    fleet = Fleet(20, duration=timedelta(minutes=10), interval=timedelta(seconds=7), start=START, gpus_per_host=8)
    frame = records(fleet)
    assert fleet.instants == 86
    assert frame.height == 86 * 20
    assert frame["timestamp"].is_sorted()
    assert frame["timestamp"].unique().sort().to_list() == [START + n * timedelta(seconds=7) for n in range(86)]
    assert frame.group_by("gpu").len()["len"].unique().to_list() == [86]
    assert frame.select("host", "index").unique().height == 20
    assert sorted(frame["host"].unique()) == ["node-001", "node-002", "node-003"]


@pytest.mark.parametrize("gpus", [1, 3, 7_000])
def test_frames_go_through_the_codec_and_stay_small(gpus: int) -> None:
    interval = timedelta(seconds=10)
    fleet = Fleet(gpus, duration=max(interval, 150_000 // gpus * interval), interval=interval)
    for frame in fleet.frames():
        assert frame.height <= 110_000
        part = frame.head(65_000)
        assert decode(encode_arrow(part), "application/vnd.apache.arrow.stream").equals(part)
        assert set(metric_columns(frame)) <= CATALOGUE.keys()
        assert set(label_columns(frame)) == {"uuid", "host", "index", "model", "namespace", "pod", "container"}


def test_values_are_what_instruments_show() -> None:
    frame = records(Fleet(64, duration=12 * HOUR, seed=2))
    for name in metric_columns(frame):
        assert frame[name].null_count() == 0
        assert frame[name].is_finite().all()
        assert low(frame, name) >= 0, name
    for name in ("utilization", "temperature", "memory_used", "sm_clock"):
        assert (frame[name] == frame[name].round()).all()
    assert (frame["power_draw"] == frame["power_draw"].round(2)).all()
    assert (frame["power_draw"] <= frame["power_limit"]).all()
    assert (frame["memory_used"] + frame["memory_free"] <= frame["memory_total"]).all()
    assert (frame["utilization"] <= 100).all()
    assert (frame["temperature"] < frame["slowdown_temperature"]).all()
    counters = ["energy", "pcie_replays", "ecc_corrected", "remapped_rows_correctable"]
    steps = frame.select(pl.col(name).diff().over("gpu") for name in counters).drop_nulls()
    assert all((steps[name] >= 0).all() for name in counters)
    # A fleet at work: some train, some serve, some have nothing to do.
    share = frame.select(
        busy=(pl.col("utilization") > 90).mean(),
        some=pl.col("utilization").is_between(5, 90).mean(),
        none=(pl.col("utilization") == 0).mean(),
    ).row(0)
    assert all(part > 0.03 for part in share), share


def test_temperature_follows_power_with_inertia() -> None:
    frame = records(Fleet(64, duration=12 * HOUR, seed=2)).with_columns(
        pl.col("temperature", "power_draw").diff().over("gpu").name.suffix("_step")
    )
    jumps = frame.filter(pl.col("power_draw_step").abs() > 250)
    assert jumps.height > 50
    # Ten seconds are a fifth of the heat sink's time.
    assert high(jumps.select(pl.col("temperature_step").abs()), "temperature_step") < 15
    correlation = frame.filter(pl.col("model").str.contains("H100")).select(pl.corr("temperature", "power_draw"))
    assert correlation.item() > 0.9


def test_heat_brings_the_gpu_to_its_slowdown_point_and_clocks_down() -> None:
    before, during, after = around(fleet_with(Kind.HEAT))
    slowdown = before["slowdown_temperature"][0]
    assert high(before, "temperature") < slowdown
    hot = during.filter(pl.col("temperature") >= slowdown)
    assert hot.height > during.height * 0.8
    assert high(hot, "temperature") <= slowdown + 4
    held = hot.filter(pl.col("throttle_reasons").cast(pl.Int64) & HW_THERMAL_BIT == HW_THERMAL_BIT)
    assert held.height > hot.height * 0.8
    assert median(held, "sm_clock") < high(before, "sm_clock") * 0.8
    assert high(after.tail(100), "temperature") < slowdown


def test_the_power_brake_halves_power_under_load() -> None:
    before, during, after = around(fleet_with(Kind.THROTTLE))
    bits = during["throttle_reasons"].cast(pl.Int64)
    braked = (bits & (POWER_BRAKE_BIT | HW_SLOWDOWN_BIT)) == (POWER_BRAKE_BIT | HW_SLOWDOWN_BIT)
    assert braked.sum() > 0.9 * during.height
    assert every(during, "power_limit") == {before["power_limit"][0] / 2}
    assert (during["power_draw"] <= before["power_limit"][0] / 2).all()
    assert not ((after["throttle_reasons"].cast(pl.Int64) & POWER_BRAKE_BIT) > 0).any()


def test_an_xid_stays_while_the_incident_lasts_and_nothing_runs() -> None:
    before, during, after = around(fleet_with(Kind.XID))
    assert every(during, "xid_error") == {79.0}
    assert not every(before, "xid_error") & {79.0}
    assert not every(after, "xid_error") & {79.0}
    assert every(during, "utilization") == {0.0}


def test_uncorrectable_errors_wait_for_the_remap_of_a_row() -> None:
    before, during, after = around(fleet_with(Kind.ECC))
    assert every(before, "ecc_uncorrected") == every(after, "ecc_uncorrected") == {0.0}
    assert every(during, "ecc_uncorrected") <= {1.0, 2.0, 3.0, 4.0}
    assert every(during, "row_remap_pending") == {1.0}
    assert every(during, "xid_error") == {48.0}
    assert every(after, "row_remap_pending") == {0.0}
    assert after["remapped_rows_uncorrectable"][0] == before["remapped_rows_uncorrectable"][0] + 1


def test_a_failed_remap_stays_set() -> None:
    before, during, after = around(fleet_with(Kind.ROW_REMAP))
    assert every(during, "row_remap_failure") == {1.0}
    assert every(before, "row_remap_failure") == every(after, "row_remap_failure") == {0.0}


def test_a_lost_gpu_says_nothing_and_the_others_go_on() -> None:
    fleet = fleet_with(Kind.LOST)
    before, during, after = around(fleet)
    assert (before.height, during.height, after.height) == (720, 0, 720)
    assert records(fleet).height == 16 * fleet.instants - 360


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_straggler_is_far_below_its_peers(seed: int) -> None:
    fleet = fleet_with(Kind.STRAGGLER, seed=seed)
    _, during, _ = around(fleet)
    (incident,) = fleet.incidents
    peers = records(fleet).filter(
        (pl.col("host") == "node-001")
        & (pl.col("gpu") != incident.gpu)
        & pl.col("timestamp").is_between(incident.start, incident.end, closed="left")
    )
    assert median(peers, "utilization") > 95
    assert median(during, "utilization") < 65
    assert median(during, "memory_used") > 0.5 * during["memory_total"][0]
    assert peers["pod"].drop_nulls().unique().to_list() == during["pod"].drop_nulls().unique().to_list()


def test_an_idle_gpu_holds_memory_and_does_nothing() -> None:
    _, during, _ = around(fleet_with(Kind.IDLE))
    assert every(during, "utilization") == {0.0}
    assert low(during, "memory_used") > 0.4 * during["memory_total"][0]
    assert during["pod"].null_count() == 0


def test_memory_fills_up_within_minutes() -> None:
    before, during, _ = around(fleet_with(Kind.MEMORY_FULL))
    total = before["memory_total"][0]
    assert high(before, "memory_used") < 0.95 * total
    assert low(during[31:], "memory_used") > 0.98 * total


def test_random_incidents_are_of_every_kind_and_keep_apart() -> None:
    fleet = Fleet(64, duration=timedelta(days=2), seed=9, incidents="random")
    assert {incident.kind for incident in fleet.incidents} == set(Kind)
    hosts = {gpu.uuid: gpu.host for gpu in fleet.gpus}
    taken: dict[str, datetime] = {}
    for incident in fleet.incidents:
        assert fleet.start <= incident.start < incident.end <= fleet.end
        host = hosts[incident.gpu]
        assert incident.start - taken.get(host, datetime.min.replace(tzinfo=UTC)) >= timedelta(minutes=30)
        taken[host] = incident.end


def test_what_is_wrong_shows_nowhere_else() -> None:
    fleet = Fleet(64, duration=timedelta(days=1), seed=4, incidents="random")
    frame = records(fleet)
    for kind, sign in (
        (Kind.HEAT, pl.col("temperature") >= pl.col("slowdown_temperature")),
        (Kind.THROTTLE, (pl.col("throttle_reasons").cast(pl.Int64) & POWER_BRAKE_BIT) > 0),
        (Kind.ECC, pl.col("ecc_uncorrected") > 0),
        (Kind.ROW_REMAP, pl.col("row_remap_failure") > 0),
        (Kind.MEMORY_FULL, pl.col("memory_used") > 0.97 * pl.col("memory_total")),
    ):
        shown = frame.filter(sign)
        inside = shown.filter(
            pl.any_horizontal(
                (pl.col("gpu") == incident.gpu)
                & pl.col("timestamp").is_between(incident.start, incident.end + timedelta(minutes=1), closed="left")
                for incident in fleet.incidents
                if incident.kind is kind
            )
        )
        assert 0 < shown.height == inside.height, kind


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"gpus": 0}, "gpus is 0"),
        ({"gpus_per_host": 65}, "gpus_per_host is 65"),
        ({"interval": timedelta(0)}, "interval is 0:00:00"),
        ({"duration": timedelta(seconds=1)}, "duration is 0:00:01"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Fleet(**{"gpus": 8, "duration": HOUR, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gpu", "begin_h", "end_h", "reason"),
    [
        ("node-009/0", 1.0, 2.0, "the fleet has no such GPU; its first is node-001/0"),
        ("node-001/0", 2.0, 2.0, "not after it begins"),
        ("node-001/0", 9.0, 10.0, "is not between"),
        ("node-001/0", -1.0, 1.0, "is not between"),
        ("node-001/1", 1.5, 1.7, "overlaps the one before it"),
    ],
)
def test_an_incident_of_another_fleet_or_time_is_refused(gpu: str, begin_h: float, end_h: float, reason: str) -> None:
    first = Incident("node-001/1", Kind.HEAT, START + HOUR, START + 2 * HOUR)
    wrong = Incident(gpu, Kind.LOST, START + begin_h * HOUR, START + end_h * HOUR)
    with pytest.raises(IncidentError, match=reason):
        Fleet(8, duration=4 * HOUR, start=START, incidents=[first, wrong])
