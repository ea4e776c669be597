"""How much may be new: GPUs and names are kept in memory and for ever, so there is an end to both. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import polars as pl

from telemetry.collector.intake import Contents, Delivery, Piece, sifted
from telemetry.model import GPU, TIMESTAMP
from telemetry.storage.store import Store

GPUS_MAX: Final = 100_000
"""GPUs that a collector keeps, unless told otherwise."""

NAMES_MAX: Final = 10_000
"""Different names of metrics and labels that a collector keeps."""


class Admission:
    """Refuses records of GPUs that are too many, and of names that are. What is known already always passes."""

    def __init__(self, store: Store, gpus_max: int = GPUS_MAX, names_max: int = NAMES_MAX) -> None:
        """Know what ``store`` has."""
        self._store, self._gpus_max, self._names_max = store, gpus_max, names_max
        gpus = store.gpus()
        self._names = {TIMESTAMP, GPU, *(name for gpu in gpus for name in (*gpu.latest, *gpu.labels))}
        self._gpus_at_most = len(gpus)
        """A count that may be too high: all rows since it was exact are taken for new GPUs."""
        self._frames: list[pl.DataFrame] = []
        """What has passed, may not be stored yet, and has not been looked at for new GPUs."""
        self._coming: set[str] = set()
        """New GPUs of what has passed and been looked at."""

    def begin(self) -> None:
        """Begin with a new batch: what has passed before is stored or never will be."""
        self._frames = []
        self._coming = set()

    def pass_on(self, delivery: Delivery, contents: Contents) -> Contents:
        """What may be stored of a delivery; the rest goes to quarantine."""
        passed: list[Piece] = []
        refused: list[bytes] = []
        for piece in contents.pieces:
            piece, lines = self._without_new_names(delivery, piece)
            refused += lines
            piece, lines = self._without_new_gpus(delivery, piece)
            refused += lines
            if piece.frame.height:
                self._frames.append(piece.frame)
                passed.append(piece)
        if not refused:
            return contents
        return replace(contents, pieces=passed, quarantine=[*contents.quarantine, *refused])

    def _without_new_names(self, delivery: Delivery, piece: Piece) -> tuple[Piece, list[bytes]]:
        """Take out records with new names if there are too many of those."""
        new = [name for name in piece.frame.columns if name not in self._names]
        if not new or len(self._names) + len(new) <= self._names_max:
            self._names.update(new)
            return piece, []
        has_new = piece.frame.select(pl.any_horizontal(pl.col(new).is_not_null())).to_series()
        reason = f"{len(new)} new names, such as {new[0]!r}; at most {self._names_max} different ones are kept"
        piece, lines = sifted(delivery, piece, has_new, reason)
        return Piece(piece.frame.drop(new), piece.offsets), lines

    def _without_new_gpus(self, delivery: Delivery, piece: Piece) -> tuple[Piece, list[bytes]]:
        """Take out records of new GPUs if there are too many of those."""
        frame = piece.frame
        self._gpus_at_most += frame.height
        if self._gpus_at_most <= self._gpus_max:
            return piece, []
        self._coming.update(*(self._unknown(passed) for passed in self._frames))
        self._frames = []
        mine = [gpu for gpu in self._unknown(frame) if gpu not in self._coming]
        known = len(self._store.gpus()) + len(self._coming)
        room = max(0, self._gpus_max - known)
        self._gpus_at_most = known + min(len(mine), room)
        if len(mine) <= room:
            return piece, []
        reason = f"new GPUs, such as {mine[room]!r}; at most {self._gpus_max} are kept (--max-gpus)"
        return sifted(delivery, piece, frame.get_column(GPU).is_in(mine[room:]), reason)

    def _unknown(self, frame: pl.DataFrame) -> list[str]:
        """GPUs that the store does not have, in the order of their appearance."""
        gpus: list[str] = frame.get_column(GPU).unique(maintain_order=True).to_list()
        return [gpu for gpu in gpus if self._store.find(gpu) is None]
