"""Keeps apart, over a whole file, which names are metrics and which are labels: a frame has one column a name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from telemetry.model import GPU, TIMESTAMP
from telemetry.streamer.sources.layout import FIRST_LINE, LAST_LINE
from telemetry.streamer.sources.table import LINE

_RESERVED: Final = frozenset({TIMESTAMP, GPU, LINE, FIRST_LINE, LAST_LINE, "$partition"})


class Kinds:
    """Remembers what each name was when it first came."""

    def __init__(self) -> None:
        self._metrics: set[str] = set()
        self._labels: set[str] = set()
        self._told: set[tuple[str, str]] = set()

    def refuse(self, names: Iterable[str], *, are_metrics: bool) -> dict[str, str]:
        """Of these names those that cannot be used, each with the reason, which is empty if it was told before."""
        kind, mine, others = ("metric", self._metrics, self._labels)
        if not are_metrics:
            kind, mine, others = ("label", self._labels, self._metrics)
        refused = {}
        for name in set(names) - mine:  # Usually none: all are known.
            if name in _RESERVED:
                reason = f"{kind} {name!r} is left out: no {kind} can be called that"
            elif name in others:
                other = "label" if are_metrics else "metric"
                reason = f"{kind} {name!r} is left out, here and in what follows: the file has a {other} of that name"
            else:
                mine.add(name)
                continue
            refused[name] = "" if (name, kind) in self._told else reason
            self._told.add((name, kind))
        return refused
