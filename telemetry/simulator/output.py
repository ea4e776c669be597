"""Writes records to a file in a form that the pipeline reads: CSV, wide or as DCGM exports it, JSON Lines, Parquet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Final

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from telemetry.codec import label_columns, metric_columns
from telemetry.model import CATALOGUE, GPU, TIMESTAMP
from telemetry.simulator.physics import PLACES

Write = Callable[[pl.DataFrame], None]

_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%S%.6fZ"

DCGM_SUFFIX: Final = ".dcgm.csv"
"""A file of this name gets a row a sample, as DCGM exports come out of a database."""


@contextmanager
def written(path: Path) -> Iterator[Write]:
    """Write frames to ``path``, in the form that its name asks for. The file appears when all is written.

    Raises:
        ValueError: if the name ends in none of the known suffixes.
        OSError: if it cannot be written.
    """
    begin = next((begin for suffix, begin in FORMS.items() if path.name.endswith(suffix)), None)
    if begin is None:
        raise ValueError(f"{path}: the name has to end in one of {', '.join(FORMS)}")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            with begin(file) as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _wide(file: IO[bytes]) -> Iterator[Write]:
    header = True

    def write(frame: pl.DataFrame) -> None:
        nonlocal header
        # The UUID says which GPU; a column `gpu` would be read as its number on the host.
        rows = _whole_numbers(frame.drop(GPU)).with_columns(pl.col(TIMESTAMP).dt.strftime(_TIME_FORMAT))
        rows.write_csv(file, include_header=header)
        header = False

    yield write


@contextmanager
def _dcgm(file: IO[bytes]) -> Iterator[Write]:
    header = True

    def write(frame: pl.DataFrame) -> None:
        nonlocal header
        long_rows(frame).write_csv(file, include_header=header, quote_style="always")
        header = False

    yield write


@contextmanager
def _json_lines(file: IO[bytes]) -> Iterator[Write]:
    def write(frame: pl.DataFrame) -> None:
        frame.select(
            pl.col(GPU).alias("gpu_id"),
            pl.struct(label_columns(frame)).alias("labels"),
            pl.struct(metric_columns(frame)).alias("metrics"),
            pl.col(TIMESTAMP).dt.strftime(_TIME_FORMAT),
        ).write_ndjson(file)

    yield write


@contextmanager
def _parquet(file: IO[bytes]) -> Iterator[Write]:
    writer: pq.ParquetWriter | None = None

    def write(frame: pl.DataFrame) -> None:
        nonlocal writer
        # As plain text, which every reader of Parquet knows.
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)

    yield write
    if writer is not None:
        writer.close()


FORMS: Final[Mapping[str, Callable[[IO[bytes]], AbstractContextManager[Write]]]] = {
    DCGM_SUFFIX: _dcgm,
    ".csv": _wide,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
"""What the name of a file may end in; the first that fits counts."""


def long_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of a frame as DCGM's exporter and a database make them: one a sample, under DCGM's names and units."""
    metrics = [name for name in metric_columns(frame) if CATALOGUE[name].dcgm]
    texts = []
    for name in metrics:
        metric = CATALOGUE[name]
        values = pl.col(name) / metric.scale.get(metric.dcgm.lower(), 1.0)
        places = 6 if name in PLACES else 0
        texts.append((values.round(places) if places else values.cast(pl.Int64)).cast(pl.String).alias(metric.dcgm))
    rows = frame.select(
        pl.col(TIMESTAMP).dt.strftime(_TIME_FORMAT).alias("timestamp"),
        pl.col("index").alias("gpu_id"),
        pl.format("nvidia{}", "index").alias("device"),
        pl.col("uuid"),
        pl.col("model").alias("modelName"),
        pl.col("host").alias("Hostname"),
        *(pl.col(name).fill_null("") for name in ("container", "pod", "namespace")),
        *texts,
    )
    labels = rows.columns[: len(rows.columns) - len(metrics)]
    long = rows.unpivot(index=labels, variable_name="metric_name", value_name="value")
    # A record's samples stand together, as an exporter writes them.
    order = np.arange(long.height).reshape(len(metrics), frame.height).T.ravel()
    return long[order].select("timestamp", "metric_name", *labels[1:], "value")


def _whole_numbers(frame: pl.DataFrame) -> pl.DataFrame:
    """Metrics without decimal places as the instruments print them: 59, not 59.0."""
    return frame.with_columns(pl.col(name).cast(pl.Int64) for name in metric_columns(frame) if name not in PLACES)
