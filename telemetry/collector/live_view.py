"""Publishes what changed to the topic `live`, at most once a second a GPU. Best effort: it never holds up the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from telemetry.codec import CONTENT_TYPE
from telemetry.live import LIVE_CONTENT_TYPE, LiveColumn, LiveUpdate
from telemetry.queue.client import Credentials, Publisher, QueueClientError
from telemetry.storage.store import Change, Gpu, Store
from telemetry.storage.values import Places, Ranges, extended, where
from telemetry.topics import LIVE_TOPIC

log = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
"""How often updates go out."""

LABELS_INTERVAL_S: Final = 60.0
"""How often all labels go out, for those who joined later."""

GPUS_MAX: Final = 2000
"""Most GPUs in one message."""

WINDOW_BYTES: Final = 16 << 20
"""Most bytes of updates on their way."""


@dataclass(slots=True)
class _Changed:
    newest_us: int
    values: Ranges


class LiveView:
    """Gathers what commits bring, a GPU at a time, and makes updates of it."""

    def __init__(self) -> None:
        self._changed: dict[str, _Changed] = {}
        self._labels: dict[str, Mapping[str, str]] = {}

    def add(self, changes: Sequence[Change]) -> None:
        """Take in what a commit brought. GPUs without a record newer than before are left out: it is no news of now."""
        for change in changes:
            if change.labels is not None:
                self._labels[change.gpu] = change.labels
            if not change.advanced:
                continue
            before = self._changed.get(change.gpu)
            values = change.values if before is None else before.values.then(change.values)
            self._changed[change.gpu] = _Changed(change.newest_us, values)

    def add_labels(self, gpus: Sequence[Gpu]) -> None:
        """Say all labels again with the next updates."""
        for gpu in gpus:
            self._labels[gpu.gpu] = gpu.labels

    def take(self) -> Iterator[LiveUpdate]:
        """Everything since the last call, as updates of at most :data:`GPUS_MAX` GPUs."""
        changed, labels = self._changed, self._labels
        self._changed, self._labels = {}, {}
        gpus = list(changed)
        rest = [gpu for gpu in labels if gpu not in changed]
        for first in range(0, len(gpus), GPUS_MAX):
            part = gpus[first : first + GPUS_MAX]
            yield _update({gpu: changed[gpu] for gpu in part}, {gpu: labels[gpu] for gpu in part if gpu in labels})
        for first in range(0, len(rest), GPUS_MAX):
            yield LiveUpdate([], [], {}, {gpu: labels[gpu] for gpu in rest[first : first + GPUS_MAX]})


async def publish_live(address: str, view: LiveView, store: Store, credentials: Credentials | None = None) -> None:
    """Publish updates until cancelled. What cannot be published within a moment is given up: the next one is newer."""
    loop = asyncio.get_running_loop()
    labels_at = loop.time()
    async with Publisher(
        address,
        linger_s=0.0,
        window_bytes=WINDOW_BYTES,
        delivery_timeout_s=2 * INTERVAL_S,
        credentials=credentials,
    ) as publisher:
        while True:
            await asyncio.sleep(INTERVAL_S)
            if loop.time() >= labels_at:
                view.add_labels(store.gpus())
                labels_at = loop.time() + LABELS_INTERVAL_S
            for update in view.take():
                try:
                    await publisher.publish(LIVE_TOPIC, update.encode(), {CONTENT_TYPE: LIVE_CONTENT_TYPE})
                except QueueClientError as error:
                    log.debug("a live update was given up", extra={"error": error.message})


def _update(changed: Mapping[str, _Changed], labels: Mapping[str, Mapping[str, str]]) -> LiveUpdate:
    places: Places = {}
    for mine in changed.values():
        places = extended(places, mine.values.places)
    figures = np.full((len(places), 3, len(changed)), np.nan)
    for number, mine in enumerate(changed.values()):
        figures[where(mine.values.places, places), :, number] = mine.values.figures.T
    values = figures.astype(object)
    values[np.isnan(figures)] = None
    columns = values.tolist()
    return LiveUpdate(
        list(changed),
        [mine.newest_us for mine in changed.values()],
        {name: LiveColumn(*columns[place]) for name, place in places.items()},
        labels,
    )
