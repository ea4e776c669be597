"""The live view: what collectors publish to the topic `live` and gateways and alerts feed on.

A message is JSON with one entry a GPU in each array, so that it costs what the fleet costs, not what the stream does,
and so that a program in any language reads it without Arrow::

    {"gpus": ["GPU-5fd4…"], "timestamps_us": [1752871354000000],
     "columns": {"temperature": {"last": [63.0], "min": [61.0], "max": [63.0]}},
     "labels": {"GPU-5fd4…": {"host": "node-1", "index": "0", "model": "NVIDIA H100 80GB HBM3"}}}

A metric that a GPU lacks is ``null``. ``labels`` holds only GPUs whose labels are new or have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

LIVE_CONTENT_TYPE: Final = "application/vnd.telemetry.live+json"
"""The message attribute ``content-type`` of live updates."""


@dataclass(frozen=True, slots=True)
class LiveColumn:
    """One metric over the last interval: a value a GPU, ``None`` where it has none."""

    last: list[float | None]
    min: list[float | None]
    max: list[float | None]


@dataclass(frozen=True, slots=True)
class LiveUpdate:
    """What changed since the update before, at most once a second a GPU.

    Attributes:
        gpus: the GPUs that have new records.
        timestamps_us: each GPU's newest record, microseconds since 1970.
        columns: by canonical metric name.
        labels: labels that are new or changed, by GPU.
    """

    gpus: list[str]
    timestamps_us: list[int]
    columns: Mapping[str, LiveColumn]
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The message's bytes."""
        return orjson.dumps(self)


def decode_live_update(data: bytes) -> LiveUpdate:
    """Read a message.

    Raises:
        ValueError: if it is not a live update.
    """
    try:
        content = orjson.loads(data)
        columns = {name: LiveColumn(**column) for name, column in content["columns"].items()}
        update = LiveUpdate(content["gpus"], content["timestamps_us"], columns, content["labels"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a live update: {error}") from None
    _check(update)
    return update


def _check(update: LiveUpdate) -> None:
    """See that everything is of the kind that it should be: every program may publish to the topic.

    Raises:
        ValueError: it is not. Nobody has looked at the values of metrics.
    """
    for name, values, kind in (("gpus", update.gpus, str), ("timestamps_us", update.timestamps_us, int)):
        if not isinstance(values, list) or not set(map(type, values)) <= {kind}:
            raise ValueError(f"not a live update: {name} is not a list of {kind.__name__}")
    rows = len(update.gpus)
    arrays = [each for column in update.columns.values() for each in (column.last, column.min, column.max)]
    if any(not isinstance(each, list) or len(each) != rows for each in (update.timestamps_us, *arrays)):
        raise ValueError(f"not a live update: an array does not have one entry for each of its {rows} GPUs")
    if not isinstance(update.labels, dict) or not all(
        isinstance(labels, dict) and set(map(type, labels.values())) <= {str} for labels in update.labels.values()
    ):
        raise ValueError("not a live update: labels are not texts by name")
