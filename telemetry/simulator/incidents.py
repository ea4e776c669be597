"""What goes wrong in a simulated fleet, when and where: the truth that alerts are held against."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast

import numpy as np
import orjson

from telemetry.simulator.machines import SimulatedGpu
from telemetry.tabular import read_time


class Kind(enum.StrEnum):
    """What may go wrong with a GPU."""

    HEAT = "heat"
    """Cooling fails: the temperature climbs to the slowdown point and stays there, and the GPU slows itself down."""
    THROTTLE = "throttle"
    """The power supply asks for less: the power brake holds clocks and power down under full load."""
    XID = "xid"
    """The driver reports an XID that needs the GPU reset (the code is in the detail ``xid``); its job is gone."""
    ECC = "ecc"
    """Uncorrectable memory errors: XID 48, the counter goes up, a row waits to be remapped by the reset at the end."""
    ROW_REMAP = "row_remap"
    """A row cannot be remapped: XID 64, and the failure is set until the GPU is replaced at the end."""
    LOST = "lost"
    """The GPU says nothing."""
    STRAGGLER = "straggler"
    """The GPU runs far below those that do the same job on its host."""
    IDLE = "idle"
    """Memory is held, and nothing runs at all."""
    MEMORY_FULL = "memory_full"
    """The job's memory grows until hardly any is left."""


CRITICAL_XIDS: Final = (48, 62, 64, 74, 79, 95, 119, 120)
"""Codes after which a GPU needs a reset or a replacement."""

NEEDS_LOAD: Final = frozenset({Kind.HEAT, Kind.THROTTLE, Kind.STRAGGLER, Kind.MEMORY_FULL})
"""Kinds that show only under load: while they last, one training job has the whole host."""

LEAD: Final = timedelta(minutes=15)
"""How long before such an incident, and after it, that job runs."""

_HOURS: Final[Mapping[Kind, tuple[float, float]]] = {
    Kind.HEAT: (0.5, 2),
    Kind.THROTTLE: (0.25, 1),
    Kind.XID: (0.5, 4),
    Kind.ECC: (1, 8),
    Kind.ROW_REMAP: (2, 12),
    Kind.LOST: (0.25, 4),
    Kind.STRAGGLER: (0.5, 4),
    Kind.IDLE: (2, 10),
    Kind.MEMORY_FULL: (0.5, 2),
}
"""How long each lasts, at least and at most."""

_GPU_DAYS: Final = 1500.0
"""GPU-days between two incidents of one kind."""

_TRIES: Final = 50
_FILE_BYTES_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing that goes wrong with one GPU.

    Attributes:
        gpu: the GPU's identity.
        kind: what.
        start: the first instant at which it applies, UTC.
        end: the first at which it does not any more.
        detail: more about it, such as ``xid``.
    """

    gpu: str
    kind: Kind
    start: datetime
    end: datetime
    detail: Mapping[str, int] = field(default_factory=dict)


class IncidentError(ValueError):
    """A list of incidents that cannot be simulated; the text names the entry and what is wrong with it."""


def random_incidents(
    gpus: Sequence[SimulatedGpu], start: datetime, end: datetime, rng: np.random.Generator
) -> list[Incident]:
    """Draw incidents: at least one of each kind, as far as there is room, and more in larger fleets and longer times.

    Two of one host keep their distance, so that each can be told apart. None begins in the first tenth of the time.
    """
    span_s = (end - start).total_seconds()
    days = len(gpus) * span_s / 86400
    busy: dict[str, list[tuple[float, float]]] = {}
    lead_s = min(LEAD.total_seconds(), span_s / 20)
    drawn: list[Incident] = []
    # The rarest come first, so that a small fleet has one of each.
    counts = {kind: max(1, int(rng.poisson(days / _GPU_DAYS))) for kind in Kind}
    order = [kind for turn in range(max(counts.values())) for kind in Kind if turn < counts[kind]]
    for kind in order:
        shortest, longest = (hours * 3600 for hours in _HOURS[kind])
        length_s = float(np.round(min(rng.uniform(shortest, longest), span_s / 4)))
        for _ in range(_TRIES):
            gpu = gpus[int(rng.integers(len(gpus)))]
            begin_s = float(np.round(rng.uniform(span_s / 10, max(span_s / 10, span_s - length_s))))
            taken = busy.setdefault(gpu.host, [])
            room = (begin_s - 2 * lead_s, begin_s + length_s + 2 * lead_s)
            if all(room[1] <= other[0] or other[1] <= room[0] for other in taken):
                taken.append((begin_s, begin_s + length_s))
                detail = {"xid": int(rng.choice(CRITICAL_XIDS))} if kind is Kind.XID else {}
                begin = start + timedelta(seconds=begin_s)
                drawn.append(Incident(gpu.uuid, kind, begin, begin + timedelta(seconds=length_s), detail))
                break
    return sorted(drawn, key=lambda incident: (incident.start, incident.gpu))


def checked(
    incidents: Iterable[Incident], gpus: Sequence[SimulatedGpu], start: datetime, end: datetime
) -> list[Incident]:
    """Bring incidents into order, with identities for places such as ``node-001/3``.

    Raises:
        IncidentError: if one names no GPU of the fleet, ends before it begins, lies outside the simulated time, or
            overlaps another of the same GPU.
    """
    identities = {gpu.uuid: gpu.uuid for gpu in gpus} | {gpu.place: gpu.uuid for gpu in gpus}
    ordered: list[Incident] = []
    free_from: dict[str, datetime] = {}
    for incident in sorted(incidents, key=lambda incident: (incident.start, incident.gpu)):
        what = f"{incident.kind} of {incident.gpu} at {incident.start.isoformat()}"
        gpu = identities.get(incident.gpu)
        if gpu is None:
            raise IncidentError(f"{what}: the fleet has no such GPU; its first is {gpus[0].place} ({gpus[0].uuid})")
        if incident.end <= incident.start:
            raise IncidentError(f"{what}: ends at {incident.end.isoformat()}, not after it begins")
        if incident.start < start or incident.start >= end:
            raise IncidentError(f"{what}: is not between {start.isoformat()} and {end.isoformat()}")
        if incident.start < free_from.get(gpu, start):
            raise IncidentError(f"{what}: overlaps the one before it on the same GPU")
        free_from[gpu] = incident.end
        ordered.append(Incident(gpu, incident.kind, incident.start, incident.end, incident.detail))
    return ordered


def incidents_to_json(incidents: Iterable[Incident], gpus: Sequence[SimulatedGpu]) -> bytes:
    """Write the truth: a JSON array with an object an incident, one a line."""
    places = {gpu.uuid: gpu for gpu in gpus}
    lines = []
    for incident in incidents:
        gpu = places[incident.gpu]
        entry = {
            "gpu": incident.gpu,
            "host": gpu.host,
            "index": gpu.index,
            "kind": str(incident.kind),
            "start": incident.start,
            "end": incident.end,
            **incident.detail,
        }
        lines.append(orjson.dumps(entry, option=orjson.OPT_UTC_Z))
    return b"[\n" + b",\n".join(lines) + b"\n]\n"


def read_incidents(path: Path) -> list[Incident]:
    """Read what :func:`incidents_to_json` writes; ``gpu`` may be a place such as ``node-001/3``.

    Raises:
        IncidentError: naming the file, the entry and the field.
        OSError: if the file cannot be read.
    """
    if path.stat().st_size > _FILE_BYTES_MAX:
        raise IncidentError(f"{path}: larger than {_FILE_BYTES_MAX >> 20} MiB")
    try:
        entries = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise IncidentError(f"{path}: not JSON: {error}") from None
    if not isinstance(entries, list):
        raise IncidentError(f"{path}: not a JSON array")
    return [_read(entry, f"{path}: entry {number}") for number, entry in enumerate(entries, 1)]


def _read(entry: object, where: str) -> Incident:
    if not isinstance(entry, dict):
        raise IncidentError(f"{where}: not an object")
    fields = cast("dict[str, object]", entry)
    texts: dict[str, str] = {}
    for name in ("gpu", "kind", "start", "end"):
        value = fields.get(name)
        if not isinstance(value, str):
            raise IncidentError(f"{where}: field {name!r} is {'missing' if value is None else 'not a text'}")
        texts[name] = value
    try:
        kind = Kind(texts["kind"])
    except ValueError:
        raise IncidentError(f"{where}: kind {texts['kind']!r} is none of {', '.join(Kind)}") from None
    times: list[datetime] = []
    for name in ("start", "end"):
        try:
            times.append(read_time(texts[name], UTC))
        except ValueError as error:
            raise IncidentError(f"{where}: {name}: {error}") from None
    xid = fields.get("xid")
    if xid is not None and (not isinstance(xid, int) or isinstance(xid, bool) or not 0 < xid < 1000):
        raise IncidentError(f"{where}: xid {xid!r} is not a whole number between 1 and 999")
    return Incident(texts["gpu"], kind, times[0], times[1], {} if xid is None else {"xid": xid})
