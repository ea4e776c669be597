"""Write the parts of docs/queue.md that come from the code, or with --check say that they are stale.

These are the tables of limits, from constants and the texts below them, and the diagram of a delivery's life, from the
core's state table.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Final

from scripts.parts import Parts, main
from telemetry.queue.core.delivery import SETTLED, TABLE, State
from telemetry.queue.core.limits import DEFAULT_LIMITS, Limits, flag_of

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "queue.md"
LIMIT_MODULES: Final = (
    "telemetry.queue.core.types",
    "telemetry.queue.core.names",
    "telemetry.queue.core.settings",
    "telemetry.queue.core.producers",
    "telemetry.queue.core.sessions",
    "telemetry.queue.validation.fields",
    "telemetry.queue.validation.publish",
    "telemetry.queue.validation.subscribe",
    "telemetry.queue.validation.ack",
    "telemetry.queue.services.pipeline",
    "telemetry.queue.engines.disk_log",
)
"""Where the queue's limits are constants named ``…_MAX`` or ``…_MIN``."""

OF_FLAGS: Final = frozenset({"MESSAGE_BYTES_MAX", "BATCH_BYTES_MAX", "BATCH_MESSAGES_MAX", "PARTITIONS_MAX"})
"""Constants that are what a flag may say at most: the flags' own table has them."""


def flags() -> Iterator[str]:
    """The rows of a table: what the flags of `telemetry queue` bound, their defaults, and the most they may say."""
    yield "| flag | default | at most | |"
    yield "| --- | --- | --- | --- |"
    for limit in fields(Limits):
        name = f"{limit.name.upper()}_"
        default, most = readable(name, getattr(DEFAULT_LIMITS, limit.name)), readable(name, limit.metadata["most"])
        yield f"| `{flag_of(limit.name)}` | {default} | {most} | {limit.metadata['text']} |"


def limits() -> Iterator[str]:
    """The rows of a table: what is bounded, and by what."""
    yield "| limit | value | |"
    yield "| --- | --- | --- |"
    for name in LIMIT_MODULES:
        module = import_module(name)
        assert module.__file__ is not None
        body = ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
        for statement, after in pairwise(body):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            constant = statement.target.id
            if constant.startswith("_") or constant in OF_FLAGS or not re.search(r"_(MAX|MIN)$", constant):
                continue
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            value = readable(constant, getattr(module, constant))
            yield f"| `{constant}` | {value} | {' '.join(str(text).replace('``', '`').split())} |"


def readable(constant: str, value: float) -> str:
    """A number with the unit that its name ends in."""
    if "_BYTES_" in constant:
        for size, unit in ((1 << 50, "PiB"), (1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if value >= size and value % size == 0:
                return f"{value / size:.0f} {unit}"
        return f"{value:,.0f} bytes"
    seconds = value / 1e6 if "_US_" in constant else value
    if "_S_" in constant or "_US_" in constant:
        for length, unit in ((86_400, "days"), (3600, "h")):
            if seconds >= length and seconds % length == 0:
                return f"{seconds / length:.0f} {unit}"
        return f"{seconds:g} s"
    return f"{value:,.0f}"


def delivery() -> Iterator[str]:
    """The state table of the core as a diagram."""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {State.READY.name}"
    for state, moves in TABLE.items():
        by_target: dict[State, list[str]] = {}
        for event, target in moves.items():
            by_target.setdefault(target, []).append(event.value)
        for target, events in by_target.items():
            yield f"    {state.name} --> {target.name}: {', '.join(events)}"
    for state in TABLE:
        if state in SETTLED:
            yield f"    {state.name} --> [*]"
    yield "```"


def parts() -> Parts:
    """The page's parts by name."""
    return {"flags": flags(), "limits": limits(), "delivery": delivery()}


if __name__ == "__main__":
    raise SystemExit(main(__doc__, PAGE, parts))
