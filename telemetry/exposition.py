"""What GPU metrics are called for Prometheus: names, labels, types and units as dcgm-exporter has them.

Rules, dashboards and scrape configurations that were written for dcgm-exporter then work on this pipeline as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal

from telemetry.model import CATALOGUE

PREFIX: Final = "gpu_"
"""Begins the names of series of metrics for which dcgm-exporter has no name."""

_NOT_ALLOWED: Final = re.compile(r"[^a-zA-Z0-9_:]")
_DCGM: Final = re.compile(r"DCGM_(FI|EXP)_[A-Z0-9_]+")

_COUNTERS: Final = frozenset(
    {
        "energy", "pcie_replays", "ecc_corrected", "ecc_uncorrected", "remapped_rows_correctable",
        "remapped_rows_uncorrectable", "nvlink_bandwidth",
    }
)  # fmt: skip

_UNITS: Final = {"energy": "mJ"}
"""Units that are not the catalogue's."""

_LABELS: Final = (
    ("pci_bus_id", ("pci_bus_id", "pci.bus_id", "gpu_bus_id")),
    ("device", ("device",)),
    ("modelName", ("model",)),
    ("Hostname", ("host",)),
    ("DCGM_FI_DRIVER_VERSION", ("driver_version",)),
    ("GPU_I_PROFILE", ("gpu_i_profile",)),
    ("GPU_I_ID", ("gpu_i_id",)),
    ("container", ("container",)),
    ("namespace", ("namespace",)),
    ("pod", ("pod",)),
)
"""dcgm-exporter's labels, in its order, and what they are called in records, in lower case. Others are left out: some,
such as the performance state, change all the time, and every change would begin a new series."""


@lru_cache(10_000)
def series_name(metric: str) -> str:
    """The series' name of a metric: ``temperature`` is ``DCGM_FI_DEV_GPU_TEMP``, ``my metric`` is ``gpu_my_metric``."""
    known = CATALOGUE.get(metric)
    if known is not None and known.dcgm:
        return known.dcgm
    return metric if _DCGM.fullmatch(metric) else PREFIX + _NOT_ALLOWED.sub("_", metric)


@lru_cache(10_000)
def series_divisor(metric: str) -> float:
    """What to divide a metric's values by to get those of its series: DCGM's ratios go up to 1, its energy is in mJ."""
    known = CATALOGUE.get(metric)
    return known.scale.get(known.dcgm.lower(), 1.0) if known is not None and known.dcgm else 1.0


def series_type(metric: str) -> Literal["counter", "gauge"]:
    """The type of a metric's series."""
    return "counter" if metric in _COUNTERS else "gauge"


def series_help(metric: str) -> str:
    """What a metric's series tells, with its unit."""
    known = CATALOGUE.get(metric)
    if known is None:
        return f"The metric {metric}, of which the catalogue knows nothing."
    unit = "ratio" if series_divisor(metric) == 100.0 else _UNITS.get(metric, known.unit)
    return f"{known.description.removesuffix('.')} (in {unit})." if unit else known.description


def series_labels(gpu: str, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a GPU's series, those that are known, in dcgm-exporter's order.

    ``UUID`` is always the GPU's identity, also of GPUs that have none but their place.

    Args:
        gpu: the GPU's identity.
        labels: the labels of its records.
    """
    mine = {name.lower(): value for name, value in labels.items() if value}
    index = mine.get("index", mine.get("gpu_id", ""))
    found = {"gpu": index, "UUID": gpu}
    for name, sources in _LABELS:
        found[name] = next((mine[source] for source in sources if source in mine), "")
    if not found["device"] and index.isdecimal():
        found["device"] = f"nvidia{index}"
    return {name: value for name, value in found.items() if value}
