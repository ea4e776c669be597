"""Names, labels, types and units of GPU series are those of dcgm-exporter."""

from __future__ import annotations

import re

import pytest

from telemetry.exposition import series_divisor, series_help, series_labels, series_name, series_type
from telemetry.model import METRICS, canonical_metric


@pytest.mark.parametrize(
    ("metric", "series"),
    [
        ("temperature", "DCGM_FI_DEV_GPU_TEMP"),
        ("sm_active", "DCGM_FI_PROF_SM_ACTIVE"),
        ("throttle_sw_power_cap", "gpu_throttle_sw_power_cap"),
        ("my metric/x", "gpu_my_metric_x"),
        ("DCGM_FI_DEV_FABRIC_STATUS", "DCGM_FI_DEV_FABRIC_STATUS"),
    ],
)
def test_a_metric_has_the_name_that_dcgm_exporter_gives_it_or_begins_with_gpu(metric: str, series: str) -> None:
    assert series_name(metric) == series


def test_no_two_metrics_have_one_series_name() -> None:
    assert len({series_name(metric.name) for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_values_of_a_series_keep_their_meaning(metric: object) -> None:
    name = metric.name  # type: ignore[attr-defined]
    series = series_name(name)
    assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", series)
    if series.startswith("DCGM"):
        read, scale = canonical_metric(series)
        assert read == name
        assert 55.5 / series_divisor(name) * scale == pytest.approx(55.5)
    assert series_help(name).endswith(".")


def test_units_are_those_of_dcgm() -> None:
    assert 55.0 / series_divisor("sm_active") == 0.55
    assert 1.5 / series_divisor("energy") == 1500.0
    assert "(in ratio)" in series_help("sm_active")
    assert "(in mJ)" in series_help("energy")
    assert (series_type("energy"), series_type("temperature")) == ("counter", "gauge")


def test_labels_are_those_of_dcgm_exporter_and_leave_out_what_changes_all_the_time() -> None:
    labels = {
        "uuid": "GPU-1", "host": "node-1", "index": "3", "model": "NVIDIA H100 80GB HBM3",
        "pci.bus_id": "00000000:1B:00.0", "pod": "train-0", "namespace": "default", "container": "main",
        "driver_version": "535.129.03", "pstate": "P0",
        "GPU_I_ID": "7",
    }  # fmt: skip
    assert list(series_labels("GPU-1", labels).items()) == [
        ("gpu", "3"),
        ("UUID", "GPU-1"),
        ("pci_bus_id", "00000000:1B:00.0"),
        ("device", "nvidia3"),
        ("modelName", "NVIDIA H100 80GB HBM3"),
        ("Hostname", "node-1"),
        ("DCGM_FI_DRIVER_VERSION", "535.129.03"),
        ("GPU_I_ID", "7"),
        ("container", "main"),
        ("namespace", "default"),
        ("pod", "train-0"),
    ]


def test_a_gpu_without_uuid_is_told_by_its_identity() -> None:
    assert series_labels("node-1/3", {"host": "node-1", "index": "3"}) == {
        "gpu": "3",
        "UUID": "node-1/3",
        "device": "nvidia3",
        "Hostname": "node-1",
    }
    assert series_labels("gpu_0", {}) == {"UUID": "gpu_0"}
