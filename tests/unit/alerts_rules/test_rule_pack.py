"""The rule pack: every incident of a simulated fleet is found, nothing else fires, and everybody can use it."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from benchmarks.incidents import score
from telemetry.alerts.export import prometheus_rule
from telemetry.alerts.process import PACK
from telemetry.alerts.replay import replay
from telemetry.alerts.rule_files import load_rules
from telemetry.alerts.rules import RuleError
from telemetry.model import GPU, TIMESTAMP
from telemetry.simulator.fleet import Fleet
from telemetry.simulator.incidents import Kind
from tests.integration.reference import find_program

DOCS = Path(__file__).parents[3] / "docs"


def test_every_incident_of_a_fleet_is_found_soon_and_nothing_else_fires() -> None:
    fleet = Fleet(
        64, duration=timedelta(hours=9), interval=timedelta(seconds=20), seed=11, incidents="random", gpus_per_host=8
    )
    assert {incident.kind for incident in fleet.incidents} == set(Kind)
    scored = score(fleet)
    assert scored.missed == []
    assert [(episode.alert.name, episode.alert.gpu) for episode in scored.wrong] == []
    longest = {kind: max(delays) for kind, delays in scored.delays_s.items()}
    assert max(longest[kind] for kind in (Kind.XID, Kind.ECC, Kind.ROW_REMAP)) <= 20
    assert max(longest[kind] for kind in (Kind.LOST, Kind.THROTTLE)) <= 130
    assert longest[Kind.STRAGGLER] <= 15 * 60
    assert longest[Kind.IDLE] <= 35 * 60


def test_a_healthy_fleet_raises_no_alert() -> None:
    fleet = Fleet(64, duration=timedelta(hours=4), interval=timedelta(seconds=20), seed=12)
    assert replay(load_rules([PACK]), pl.concat(list(fleet.frames()))).episodes == []


def frame(values: dict[str, list[float]], labels: dict[str, str]) -> pl.DataFrame:
    """A record a minute of one GPU."""
    count = len(next(iter(values.values())))
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute) for minute in range(count)]
    return pl.DataFrame(
        [
            pl.Series(TIMESTAMP, times, pl.Datetime("us", "UTC")),
            pl.Series(GPU, [labels["uuid"]] * count),
            *(pl.Series(name, column, pl.Float64) for name, column in values.items()),
            *(pl.Series(name, [text] * count) for name, text in labels.items()),
        ]
    )


def fired(values: dict[str, list[float]]) -> list[str]:
    labels = {"uuid": "GPU-1", "host": "node-1", "index": "0"}
    episodes = replay(load_rules([PACK]), frame(values, labels)).episodes
    return sorted({episode.alert.name for episode in episodes})


@pytest.mark.parametrize("code", [48, 62, 64, 74, 79, 95, 119, 120])
def test_xids_after_which_a_gpu_needs_a_reset_are_critical(code: int) -> None:
    assert fired({"xid_error": [0.0, float(code)]}) == ["GpuXidCritical"]


@pytest.mark.parametrize(("code", "alerts"), [(94, ["GpuXidWarning"]), (13, []), (31, []), (43, []), (0, [])])
def test_a_contained_error_is_a_warning_and_faults_of_applications_are_none(code: int, alerts: list[str]) -> None:
    assert fired({"xid_error": [float(code)] * 3}) == alerts


def test_a_gpu_whose_slowdown_point_is_known_is_held_against_it_and_others_against_90_degrees() -> None:
    assert fired({"temperature": [88.0] * 5, "slowdown_temperature": [87.0] * 5}) == ["GpuOverheating"]
    assert fired({"temperature": [91.0] * 5, "slowdown_temperature": [95.0] * 5}) == []
    assert fired({"temperature": [88.0] * 5}) == []
    assert fired({"temperature": [91.0] * 5}) == ["GpuOverheating"]


def test_throttling_is_seen_in_the_mask_and_in_single_reasons_and_the_power_cap_is_none() -> None:
    assert fired({"throttle_reasons": [float(0x20)] * 5}) == ["GpuThermalThrottling"]
    assert fired({"throttle_reasons": [float(0x40 | 0x8)] * 5}) == ["GpuThermalThrottling"]
    assert fired({"throttle_reasons": [float(0x80)] * 5}) == ["GpuPowerThrottling"]
    assert fired({"throttle_reasons": [float(0x1 | 0x4 | 0x10)] * 5}) == []
    assert fired({"throttle_hw_thermal_slowdown": [1.0] * 5}) == ["GpuThermalThrottling"]
    assert fired({"throttle_hw_power_brake_slowdown": [1.0] * 5}) == ["GpuPowerThrottling"]


def test_memory_is_nearly_full_by_what_is_free_or_by_what_there_is() -> None:
    assert fired({"memory_used": [99.0] * 5, "memory_free": [1.0] * 5}) == ["GpuMemoryNearlyFull"]
    assert fired({"memory_used": [99.0] * 5, "memory_total": [100.0] * 5}) == ["GpuMemoryNearlyFull"]
    assert fired({"memory_used": [97.0] * 5, "memory_free": [3.0] * 5}) == []


def test_every_alert_says_what_it_is_how_bad_it_is_and_where_to_read_on() -> None:
    headings = {
        line.removeprefix("### ").lower() for line in (DOCS / "alerts.md").read_text().splitlines() if "###" in line
    }
    for rule in load_rules([PACK]):
        if rule.alert:
            assert rule.labels["severity"] in ("critical", "warning", "info")
            assert {"summary", "description", "runbook_url"} == rule.annotations.keys()
            page, _, heading = rule.annotations["runbook_url"].partition("#")
            assert page == "docs/alerts.md"
            assert heading == rule.alert.lower()
            assert heading in headings


@pytest.mark.skipif(find_program("promtool") is None, reason="promtool is not there: nobody judges the rule pack")
def test_promtool_finds_nothing_wrong_with_the_pack_or_the_rules_of_its_export(tmp_path: Path) -> None:
    resource = yaml.safe_load(prometheus_rule([("pack", PACK.read_text())], "gpu-rules"))
    assert (resource["kind"], resource["metadata"]["name"]) == ("PrometheusRule", "gpu-rules")
    (tmp_path / "exported.yaml").write_text(yaml.safe_dump(resource["spec"]))
    for path in (PACK, tmp_path / "exported.yaml"):
        done = subprocess.run([str(find_program("promtool")), "check", "rules", path], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"SUCCESS: 23 rules found", done.stdout)


def test_what_cannot_be_one_prometheusrule_is_refused() -> None:
    text = PACK.read_text()
    with pytest.raises(RuleError, match=r"b\.yaml:\d+: the group 'gpu-faults' is in a\.yaml too"):
        prometheus_rule([("a.yaml", text), ("b.yaml", text)], "x")
    with pytest.raises(ValueError, match="'Not a name'"):
        prometheus_rule([("a.yaml", text)], "Not a name")
