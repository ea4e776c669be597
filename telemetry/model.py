"""The vocabulary: what a record is, how a GPU is identified, and what each metric is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

TIMESTAMP: Final = "timestamp"
"""Name of the column that holds a record's instant."""

GPU: Final = "gpu"
"""Name of the column that holds a record's GPU."""


@dataclass(frozen=True, slots=True)
class Record:
    """One GPU at one instant.

    Attributes:
        timestamp: UTC, to the microsecond.
        gpu: the identity, see :func:`gpu_identity`.
        metrics: canonical name to value, in the catalogue's unit.
        labels: everything about it that is not a number.
    """

    timestamp: datetime
    gpu: str
    metrics: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric the catalogue knows.

    Attributes:
        name: the canonical name, without a unit.
        unit: as written beside a value; empty for a plain number.
        description: one sentence for people.
        dcgm: the DCGM field that dcgm-exporter publishes it under; empty when there is none.
        sources: other names it goes by, in lower case, without units.
        scale: per source name, what to multiply its values by to get ``unit``.
        maximum: values above it are not values (utilisation above 100 has been seen).
    """

    name: str
    unit: str
    description: str
    dcgm: str = ""
    sources: tuple[str, ...] = ()
    scale: Mapping[str, float] = field(default_factory=dict)
    maximum: float | None = None


def _profiling(name: str, dcgm: str, description: str) -> Metric:
    """A DCGM profiling ratio: 0–1 at the source, percent here."""
    return Metric(name, "%", description, dcgm, scale={dcgm.lower(): 100.0})


def _throttled(reason: str, description: str) -> Metric:
    """One reason for clocks being held down: 1 while it applies. Drivers have renamed the fields."""
    sources = (f"clocks_event_reasons.{reason}", f"clocks_throttle_reasons.{reason}")
    return Metric(f"throttle_{reason}", "", description, sources=sources)


METRICS: Final[tuple[Metric, ...]] = (
    Metric("temperature", "°C", "Temperature of the GPU core.", "DCGM_FI_DEV_GPU_TEMP",
           ("temperature.gpu", "temperature_gpu", "gpu_temp", "gpu_temperature", "temperature_c", "temp",
            "gpu_temp_c")),
    Metric("memory_temperature", "°C", "Temperature of the memory.", "DCGM_FI_DEV_MEMORY_TEMP",
           ("temperature.memory", "temperature_memory", "memory_temp")),
    Metric("utilization", "%", "Share of time in which a kernel ran.", "DCGM_FI_DEV_GPU_UTIL",
           ("utilization.gpu", "utilization_gpu", "gpu_utilization", "gpu_util", "util"), maximum=100),
    Metric("memory_utilization", "%", "Share of time in which memory was read or written.", "DCGM_FI_DEV_MEM_COPY_UTIL",
           ("utilization.memory", "utilization_memory", "mem_copy_util"), maximum=100),
    Metric("encoder_utilization", "%", "Share of time in which the video encoder ran.", "DCGM_FI_DEV_ENC_UTIL",
           ("utilization.encoder", "utilization_encoder"), maximum=100),
    Metric("decoder_utilization", "%", "Share of time in which the video decoder ran.", "DCGM_FI_DEV_DEC_UTIL",
           ("utilization.decoder", "utilization_decoder"), maximum=100),
    Metric("memory_used", "MiB", "Memory in use.", "DCGM_FI_DEV_FB_USED",
           ("memory.used", "fb_used", "gpu_memory_used", "memory_used_mb", "memory_used_mib", "memory_used_gb",
            "memory_used_gib", "memory_used_bytes"),
           {"memory_used_gb": 1024.0, "memory_used_gib": 1024.0, "memory_used_bytes": 1 / 1024**2}),
    Metric("memory_free", "MiB", "Memory not in use.", "DCGM_FI_DEV_FB_FREE", ("memory.free", "fb_free")),
    Metric("memory_total", "MiB", "Memory of the GPU.", "DCGM_FI_DEV_FB_TOTAL",
           ("memory.total", "fb_total", "memory_total_mb", "memory_total_mib")),
    Metric("memory_reserved", "MiB", "Memory that the driver keeps.", "DCGM_FI_DEV_FB_RESERVED",
           ("memory.reserved", "fb_reserved")),
    Metric("power_draw", "W", "Power drawn by the board.", "DCGM_FI_DEV_POWER_USAGE",
           ("power.draw", "power_usage", "power", "power_w", "power_draw_w", "power.draw.instant",
            "power.draw.average")),
    Metric("power_limit", "W", "Power the board may draw.", "DCGM_FI_DEV_POWER_MGMT_LIMIT",
           ("power.limit", "enforced.power.limit")),
    Metric("energy", "J", "Energy drawn since the driver was loaded.", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
           ("total_energy_consumption",),
           {"dcgm_fi_dev_total_energy_consumption": 1e-3, "total_energy_consumption": 1e-3}),
    Metric("sm_clock", "MHz", "Clock of the streaming multiprocessors.", "DCGM_FI_DEV_SM_CLOCK",
           ("clocks.sm", "clocks.current.sm")),
    Metric("memory_clock", "MHz", "Clock of the memory.", "DCGM_FI_DEV_MEM_CLOCK",
           ("clocks.mem", "clocks.current.memory", "clocks.memory")),
    Metric("graphics_clock", "MHz", "Clock of the graphics engine.", "",
           ("clocks.gr", "clocks.current.graphics", "clocks.graphics")),
    Metric("fan_speed", "%", "Speed the fan is set to.", "DCGM_FI_DEV_FAN_SPEED", ("fan.speed",)),
    Metric("xid_error", "", "The last XID error code; a code, not a count.", "DCGM_FI_DEV_XID_ERRORS", ("xid_errors",)),
    Metric("throttle_reasons", "", "Bits that say why clocks are held down.", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
           ("clocks_event_reasons.active", "clocks_throttle_reasons.active", "dcgm_fi_dev_clocks_event_reasons")),
    Metric("pcie_replays", "", "PCIe replays since the driver was loaded.", "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
           ("pcie_replay_counter",)),
    Metric("ecc_uncorrected", "", "Uncorrected ECC errors since the driver was loaded.",
           "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", ("ecc.errors.uncorrected.volatile.total",)),
    Metric("ecc_corrected", "", "Corrected ECC errors since the driver was loaded.", "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
           ("ecc.errors.corrected.volatile.total",)),
    Metric("remapped_rows_uncorrectable", "", "Rows remapped for uncorrectable errors.",
           "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", ("remapped_rows.uncorrectable",)),
    Metric("remapped_rows_correctable", "", "Rows remapped for correctable errors.",
           "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", ("remapped_rows.correctable",)),
    Metric("row_remap_failure", "", "1 when a row could not be remapped.", "DCGM_FI_DEV_ROW_REMAP_FAILURE",
           ("remapped_rows.failure",)),
    Metric("row_remap_pending", "", "1 when a row waits to be remapped at the next reset.",
           "DCGM_FI_DEV_ROW_REMAP_PENDING", ("remapped_rows.pending",)),
    Metric("nvlink_bandwidth", "", "NVLink bandwidth counter over all lanes.", "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL"),
    Metric("slowdown_temperature", "°C", "Temperature at which the GPU slows itself down.", "DCGM_FI_DEV_SLOWDOWN_TEMP",
           ("temperature.gpu.tlimit.slowdown",)),
    _throttled("gpu_idle", "1 while clocks are low because nothing runs."),
    _throttled("applications_clocks_setting", "1 while clocks are held at the applications' setting."),
    _throttled("sw_power_cap", "1 while the driver lowers clocks to stay within the power limit."),
    _throttled("sw_thermal_slowdown", "1 while the driver lowers clocks because of heat."),
    _throttled("hw_slowdown", "1 while the hardware lowers clocks, whatever the reason."),
    _throttled("hw_thermal_slowdown", "1 while the hardware lowers clocks because of heat."),
    _throttled("hw_power_brake_slowdown", "1 while the power supply asks the hardware to lower clocks."),
    _throttled("sync_boost", "1 while clocks are held to those of other GPUs."),
    _profiling("graphics_active", "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
               "Share of time in which the graphics or compute engine was active."),
    _profiling("sm_active", "DCGM_FI_PROF_SM_ACTIVE",
               "Share of time in which a warp was resident on a multiprocessor."),
    _profiling("sm_occupancy", "DCGM_FI_PROF_SM_OCCUPANCY", "Resident warps as a share of the most there can be."),
    _profiling("tensor_active", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
               "Share of time in which the tensor pipes were active."),
    _profiling("dram_active", "DCGM_FI_PROF_DRAM_ACTIVE", "Share of time in which device memory was active."),
)  # fmt: skip
"""The catalogue. Names that are not in it pass through unchanged."""

CATALOGUE: Final[Mapping[str, Metric]] = {metric.name: metric for metric in METRICS}
"""Metrics by canonical name."""

_BY_SOURCE_NAME: Final[Mapping[str, Metric]] = {
    name: metric for metric in METRICS for name in (metric.name, metric.dcgm.lower(), *metric.sources) if name
}


def canonical_metric(source_name: str) -> tuple[str, float]:
    """Return the canonical name for a source's name, and the factor that brings its values to the catalogue's unit.

    The source's name carries no unit (``utilization.gpu``, not ``utilization.gpu [%]``). Names that the catalogue does
    not know come back unchanged with a factor of 1.
    """
    key = source_name.strip().lower()
    metric = _BY_SOURCE_NAME.get(key)
    if metric is None:
        return source_name.strip(), 1.0
    return metric.name, metric.scale.get(key, 1.0)


def gpu_identity(uuid: str | None, host: str | None, index: str | None, bare: str | None) -> str | None:
    """Return a GPU's identity: its UUID, else ``host/index``, else the bare id of the source, else ``None``.

    Numbers alone do not identify: real DCGM exports number GPUs 0–7 on every host.
    """
    if uuid:
        return uuid
    if host and index:
        return f"{host}/{index}"
    return bare or index or None
