"""How much may be new: GPUs and names are kept in memory and for ever, so there is an end to both. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from telemetry.collector.intake import Contents, Delivery, refused_rows
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
        """What has passed and may not be stored yet."""

    def begin(self) -> None:
        """Begin with a new batch: what has passed before is stored or never will be."""
        self._frames = []

    def pass_on(self, delivery: Delivery, contents: Contents) -> Contents:
        """What may be stored of a delivery; the rest goes to quarantine."""
        frames: list[pl.DataFrame] = []
        offsets: list[int] = []
        refused: list[bytes] = []
        for offset, frame in zip(contents.offsets, contents.frames, strict=True):
            new = [name for name in frame.columns if name not in self._names]
            if new and len(self._names) + len(new) > self._names_max:
                reason = f"{len(new)} new names, such as {new[0]!r}; at most {self._names_max} different ones are kept"
                refused.append(refused_rows(delivery, offset, frame, reason))
                continue
            self._names.update(new)
            passed, others = self._split_by_gpu(frame)
            if others.height:
                reason = f"new GPUs, such as {others.item(0, GPU)!r}; at most {self._gpus_max} are kept (--max-gpus)"
                refused.append(refused_rows(delivery, offset, others, reason))
            if passed.height:
                self._frames.append(passed)
                frames.append(passed)
                offsets.append(offset)
        if not refused:
            return contents
        return Contents(frames, offsets, [*contents.quarantine, *refused], contents.size)

    def _split_by_gpu(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The records of GPUs that may be kept, and the others."""
        self._gpus_at_most += frame.height
        if self._gpus_at_most <= self._gpus_max:
            return frame, frame.clear()
        coming = self._unknown([frame.get_column(GPU) for frame in self._frames])
        mine = [gpu for gpu in self._unknown([frame.get_column(GPU)]) if gpu not in coming]
        known = len(self._store.gpus()) + len(coming)
        room = max(0, self._gpus_max - known)
        self._gpus_at_most = known + min(len(mine), room)
        is_refused = pl.col(GPU).is_in(mine[room:])
        return frame.filter(~is_refused), frame.filter(is_refused)

    def _unknown(self, columns: Sequence[pl.Series]) -> dict[str, None]:
        """GPUs that the store does not have, in the order of their appearance."""
        if not columns:
            return {}
        gpus: list[str] = pl.concat(columns).unique(maintain_order=True).to_list()
        return {gpu: None for gpu in gpus if self._store.find(gpu) is None}
