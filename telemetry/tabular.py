"""What names and cells of GPU telemetry mean: headers with units, times, numbers, and the ways to say "no value"."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from telemetry.model import CATALOGUE, canonical_metric


class Role(enum.Enum):
    """What a column holds."""

    TIME = "time"
    UUID = "uuid"
    HOST = "host"
    INDEX = "index"
    BARE = "bare id"
    LABEL = "label"
    METRIC = "metric"
    UNKNOWN = "unknown"
    """Only its values can tell whether it is a metric or a label."""


NAMES: Final[dict[Role, tuple[str, ...]]] = {
    Role.TIME: ("timestamp", "@timestamp", "time", "ts", "datetime", "timestamp_utc", "timestamp_ms", "epoch"),
    Role.UUID: ("uuid", "gpu_uuid"),
    Role.HOST: ("hostname", "host", "node"),
    Role.INDEX: ("index", "gpu", "gpu_index"),
    Role.BARE: ("gpu_id",),
}
"""Names of columns that say when and which GPU, in lower case; of several of one kind the first counts."""

_RENAMED_LABELS: Final = {"name": "model", "modelname": "model", "gpu_name": "model", "model_name": "model"}

_LABELS: Final = frozenset(
    {
        "model", "serial", "gpu_serial", "driver_version", "vbios_version", "compute_cap", "pci.bus_id", "gpu_bus_id",
        "pci_bus_id", "pci.device_id", "pci.sub_device_id", "device", "pstate", "pod", "namespace", "container", "job",
        "instance", "cluster", "compute_mode", "persistence_mode", "display_mode", "display_active", "ecc.mode.current",
        "ecc.mode.pending", "mig.mode.current", "mig.mode.pending", "retired_pages.pending", "gpu_i_id",
        "gpu_i_profile",
    }
)  # fmt: skip
"""Labels even where a value reads like a number."""

NOT_VALUES: Final = frozenset(
    {
        "", "-", "n/a", "[n/a]", "na", "nan", "none", "null", "not supported", "[not supported]", "[unknown error]",
        "[function not found]", "[insufficient permissions]", "[gpu requires reset]", "[gpu is lost]",
        "[requested functionality has been deprecated]", "<<<null>>>", "<<<not_found>>>", "<<<not_supported>>>",
        "<<<not_perm>>>",
    }
)  # fmt: skip
"""Texts that say that there is no value, in lower case."""

_BOOLEANS: Final = {
    "active": 1.0, "not active": 0.0, "enabled": 1.0, "disabled": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0,
}  # fmt: skip

BLANKS: Final = frozenset(float(start + offset) for start in (0x7FFFFFF0, 1 << 47) for offset in range(4))
"""DCGM's blanks: four neighbours each of the 32-bit integer and of the floating point kind."""

INT64_BLANK_MIN: Final = float(0x7FFF_FFFF_FFFF_FFF0)
"""DCGM's 64-bit blanks begin here; as floating point numbers they are all the same."""

_UNIT_SCALE: Final = {
    "KiB": ("MiB", 1 / 1024), "GiB": ("MiB", 1024.0), "TiB": ("MiB", 1024.0**2), "mW": ("W", 1e-3), "kW": ("W", 1e3),
    "mJ": ("J", 1e-3), "kJ": ("J", 1e3), "kHz": ("MHz", 1e-3), "GHz": ("MHz", 1e3), "Hz": ("MHz", 1e-6),
}  # fmt: skip
"""Units that are brought to the catalogue's."""

_HEADER: Final = re.compile(r"(?P<name>.*?)\s*(?:\[(?P<unit>[^\]]*)\])?")
_NUMBER: Final = re.compile(r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-z%°/]*)")
_FRACTION: Final = re.compile(r"(?<=\.)\d{7,}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source.

    Attributes:
        source: its name at the source, without a unit.
        unit: the unit that its header gives in brackets; empty when none.
        role: what it holds.
        name: what it is called in a record.
        scale: what to multiply its numbers by.
    """

    source: str
    unit: str
    role: Role
    name: str
    scale: float = 1.0

    @property
    def maximum(self) -> float | None:
        """Numbers above it are not values."""
        metric = CATALOGUE.get(self.name)
        return metric.maximum if metric else None


def column_of(header: str) -> Column:
    """Say what a column is from its name alone.

    The catalogue's metrics and columns with a unit are metrics, and so are the single reasons of
    ``clocks_event_reasons`` (``Active`` is 1, ``Not Active`` 0). Other switches, such as modes, are labels.
    """
    match = _HEADER.fullmatch(header.strip())
    source, unit = (match["name"], (match["unit"] or "").strip()) if match else (header.strip(), "")
    key = source.lower()
    for role, names in NAMES.items():
        if key in names:
            return Column(source, unit, role, role.name.lower() if role is not Role.BARE else "gpu_id")
    if (label := _RENAMED_LABELS.get(key, key)) in _LABELS:
        return Column(source, unit, Role.LABEL, label if key in _RENAMED_LABELS else source)
    name, scale = canonical_metric(source)
    metric = CATALOGUE.get(name)
    if metric is None:
        return Column(source, unit, Role.METRIC if unit else Role.UNKNOWN, name)
    return Column(source, unit, Role.METRIC, name, scale * unit_scale(unit, metric.unit))


def unit_scale(unit: str, wanted: str) -> float:
    """What to multiply numbers in ``unit`` by to get ``wanted``; 1 when nothing is known about the pair."""
    target, scale = _UNIT_SCALE.get(unit, ("", 1.0))
    return scale if target == wanted else 1.0


def is_blank(value: float) -> bool:
    """Whether a number stands for "no value": DCGM's blanks, NaN, the infinities."""
    return not -INT64_BLANK_MIN < value < INT64_BLANK_MIN or value in BLANKS


def is_absent(text: str) -> bool:
    """Whether a text says that there is no value."""
    return text.strip().lower() in NOT_VALUES


def read_number(text: str, column: Column) -> float | None:
    """Read a cell of a metric column, in the catalogue's unit.

    Understood: a number with or without a unit, a hexadecimal mask, ``Active``/``Not Active`` and the like as 1 and 0.

    Returns:
        ``None`` if the cell says that there is no value, or holds one that cannot be (above the metric's maximum).

    Raises:
        ValueError: if it cannot be read.
    """
    text = text.strip()
    lower = text.lower()
    if lower in NOT_VALUES:
        return None
    if lower in _BOOLEANS:
        return _BOOLEANS[lower]
    if lower.startswith("0x"):
        return plausible(float(int(text, 16)), column)
    match = _NUMBER.fullmatch(text)
    if match is None:
        if lower in ("inf", "+inf", "-inf", "infinity", "-infinity"):
            return None
        raise ValueError(f"{text[:100]!r} is not a number")
    metric = CATALOGUE.get(column.name)
    unit = match["unit"]
    scale = unit_scale(unit, metric.unit) if metric and unit and unit != column.unit and not column.unit else 1.0
    value = plausible(float(match["number"]), column)
    return None if value is None else _scaled(value, scale)


def plausible(value: float, column: Column) -> float | None:
    """Bring a source's number to the catalogue's unit; ``None`` if it is a blank or beyond what can be."""
    if is_blank(value):
        return None
    value = _scaled(value, column.scale)
    maximum = column.maximum
    return None if maximum is not None and value > maximum else value


def _scaled(value: float, scale: float) -> float:
    """To 15 digits, so that 0.55 becomes 55 and not 55.00000000000001."""
    return value if scale == 1 else float(f"{value * scale:.15g}")


def read_time(text: str, zone: tzinfo = UTC) -> datetime:
    """Read an instant: ISO 8601, ``2026/07/14 08:12:38.696``, or seconds (also ms, µs, ns) since 1970.

    Args:
        text: the cell.
        zone: where the clock stood that wrote a time without a zone.

    Raises:
        ValueError: if it is none of these or lies outside the years 1970 to 2261.
    """
    text = text.strip().strip('"')
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return from_epoch(seconds)
    # Nanoseconds are more than a datetime holds.
    shortened = _FRACTION.sub(lambda digits: digits[0][:6], text.replace("/", "-", 2))
    try:
        time = datetime.fromisoformat(shortened)
    except ValueError:
        raise ValueError(f"{text[:100]!r} is not a time") from None
    return in_range((time if time.tzinfo else time.replace(tzinfo=zone)).astimezone(UTC))


def from_epoch(number: float) -> datetime:
    """Read seconds since 1970, or ms, µs, ns where the size of the number says so.

    Raises:
        ValueError: if it lies outside the years 1970 to 2261.
    """
    for divisor in (1, 10**3, 10**6, 10**9):
        if 0 <= number / divisor < EPOCH_SECONDS_MAX:
            # In two steps, so that microseconds survive.
            seconds, rest = divmod(number, divisor)
            return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=round(rest / divisor * 1e6))
    raise ValueError(f"{number} is not a time")


EPOCH_SECONDS_MAX: Final = 9_200_000_000
"""Numbers below it are seconds since 1970, up to the year 2261."""


def in_range(time: datetime) -> datetime:
    """Return ``time`` if it lies in the years 1970 to 2261.

    Raises:
        ValueError: otherwise.
    """
    if not 0 <= time.timestamp() < EPOCH_SECONDS_MAX:
        raise ValueError(f"{time.isoformat()} is not a time between 1970 and 2261")
    return time
