"""The newest values of all GPUs as dcgm-exporter would write them, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isnan
from typing import Final

from telemetry.exposition import series_divisor, series_help, series_labels, series_name, series_type
from telemetry.model import CATALOGUE
from telemetry.v1 import query_pb2

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render_metrics(latest: query_pb2.GetLatestResponse, gpus: Mapping[str, query_pb2.Gpu], since_us: int) -> bytes:
    """The values of GPUs that have been heard of since ``since_us``; those that are not in ``gpus`` have few labels."""
    rows = {
        row: _labels(series_labels(name, gpus[name].labels if name in gpus else {}))
        for row, (name, time_us) in enumerate(zip(latest.gpus, latest.timestamps_us, strict=True))
        if time_us >= since_us
    }
    series: dict[str, list[str]] = {}
    columns = {column.metric: column.values for column in latest.columns}
    # What the catalogue knows comes first: of metrics that end up under one name, a GPU's first one counts.
    for metric in sorted(columns, key=lambda name: (name not in CATALOGUE, name)):
        series.setdefault(series_name(metric), []).append(metric)
    lines = (
        line
        for name, metrics in sorted(series.items())
        for line in _series(name, metrics, {metric: columns[metric] for metric in metrics}, rows)
    )
    return "".join(lines).encode()


def _series(
    name: str, metrics: Sequence[str], columns: Mapping[str, Sequence[float]], rows: Mapping[int, str]
) -> Iterator[str]:
    """The lines of one series' name; nothing if no GPU has a value."""
    samples: dict[int, str] = {}
    for metric in metrics:
        divisor = series_divisor(metric)
        values = list(columns[metric])
        for row, labels in rows.items():
            if row not in samples and not isnan(values[row]):
                samples[row] = f"{name}{{{labels}}} {_number(values[row] / divisor)}\n"
    if samples:
        text = series_help(metrics[0]).replace("\\", r"\\").replace("\n", r"\n")
        yield f"# HELP {name} {text}\n# TYPE {name} {series_type(metrics[0])}\n"
        yield from (samples[row] for row in rows if row in samples)


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if value in (inf, -inf):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
