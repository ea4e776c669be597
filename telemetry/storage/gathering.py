"""Metrics of many GPUs over time out of both tiers: reads what :mod:`telemetry.storage.regions` chose, adds it up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from telemetry.model import GPU, TIMESTAMP
from telemetry.storage.checkpoint import Block
from telemetry.storage.cold.files import ColdFile, ColdFileError
from telemetry.storage.cold.reader import ColdReader
from telemetry.storage.cold.rollups import combine_partials, partials_of
from telemetry.storage.cold.rows import merge_rows
from telemetry.storage.few_lines import FEW_BYTES, in_steps_of_lines
from telemetry.storage.hot import HotGpu, HotTier
from telemetry.storage.plan import Plan
from telemetry.storage.regions import ColdChoice, Part, Region, choose
from telemetry.storage.series import COMPOSABLE, STEP, Aggregation, Steps, of_partials, of_rows
from telemetry.storage.store import Span, StoreError

_CELLS: Final = 1 << 21
"""GPUs are taken together up to so many values of partial results."""

_GPUS_MAX: Final = 2048
"""The most GPUs that are taken together."""

_ROWS: Final = 1 << 21
"""For percentiles, so many rows or so are held at a time, and no less than those of one step and GPU."""

_MERGED_GPUS: Final = 256
"""GPUs whose records of both tiers are merged at a time."""

_FEW_GPUS: Final = 16
"""Up to so many GPUs are looked at one by one, if they have few lines."""

_PIECES_MAX: Final = 64
_INTERVAL_US: Final = 10_000_000
"""How far apart samples are believed to be where nothing is known."""


@dataclass(frozen=True, slots=True)
class Tiers:
    """Both tiers as they are at one moment."""

    hot: HotTier
    reader: ColdReader
    files: Sequence[ColdFile]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: metrics between two times, in steps."""

    start_us: int
    end_us: int
    steps: Steps
    metrics: Sequence[str]
    aggregation: Aggregation


def gather(
    tiers: Tiers,
    views: Sequence[HotGpu],
    question: Question,
    plan: Plan,
    on_damage: Callable[[ColdFileError], None],
) -> Iterator[pl.DataFrame]:
    """Yield rows for some GPUs at a time: ``gpu``, ``step`` and the metrics by place. What cannot be read is left out.

    Raises:
        StoreError: the hot tier cannot be read.
    """
    places = len(question.metrics)
    size = max(1, min(_GPUS_MAX, _CELLS // (question.steps.count * places * 6)))
    for first in range(0, len(views), size):
        some = views[first : first + size]
        while True:
            attempt = Plan()
            try:
                frame = _Attempt(tiers, some, question, attempt).result()
            except ColdFileError as error:
                on_damage(error)
                tiers = replace(tiers, files=_without(tiers.files, error.path))
                continue
            break
        plan.add(attempt)
        yield frame


def rows_of(
    tiers: Tiers,
    views: Sequence[HotGpu],
    start_us: int,
    end_us: int,
    metrics: Sequence[str],
    on_damage: Callable[[ColdFileError], None],
) -> Iterator[pl.DataFrame]:
    """Yield the records of GPUs: ``gpu``, ``timestamp`` and the metrics by place; one of an instant, in no order.

    What cannot be read is left out.
    """
    steps = Steps.over(start_us, end_us, end_us - start_us)
    question = Question(start_us, end_us, steps, metrics, Aggregation.P50)
    for first in range(0, len(views), _MERGED_GPUS):
        some = views[first : first + _MERGED_GPUS]
        while True:
            try:
                rows = list(_Attempt(tiers, some, question, Plan()).rows())
            except ColdFileError as error:
                on_damage(error)
                tiers = replace(tiers, files=_without(tiers.files, error.path))
                continue
            break
        yield from rows


def _without(files: Sequence[ColdFile], path: str) -> list[ColdFile]:
    """All files but one and, if it holds records, what was made of it."""
    gone = {file.id for file in files if file.path == path}
    return [file for file in files if file.id not in gone and file.derived_from not in gone]


class _Attempt:
    """An answer for some GPUs, unless a cold file turns out to be damaged."""

    def __init__(self, tiers: Tiers, views: Sequence[HotGpu], question: Question, plan: Plan) -> None:
        self._tiers, self._views, self._question, self._plan = tiers, views, question, plan
        self._gpus = {view.entry.gpu.gpu for view in views}
        self._places = len(question.metrics)

    def result(self) -> pl.DataFrame:
        """Rows in order of GPU and step."""
        question = self._question
        if question.aggregation in COMPOSABLE:
            choice = self._choose(question.start_us, question.end_us, rollups=True)
            if not choice.regions and not choice.remains and len(self._views) <= _FEW_GPUS:
                found = self._of_few_lines()
                if found is not None:
                    return found
            pieces = list(self._rolled(choice))
            for rows in self._rows(choice, question.start_us, question.end_us):
                pieces.append(partials_of(rows, question.steps, self._places))
                if len(pieces) >= _PIECES_MAX:
                    pieces = [combine_partials(pieces, self._places)]
            partials = combine_partials(pieces, self._places)
            return of_partials(partials, self._places, question.aggregation).sort(GPU, STEP)
        frames = []
        for start_us, end_us in self._slices():
            choice = self._choose(start_us, end_us, rollups=False)
            if choice.remains:
                self._plan.warn("of some of the range only roll-ups are left; they hold no percentiles")
            rows = merge_rows([self._empty(), *self._rows(choice, start_us, end_us)])
            frames.append(of_rows(rows, question.steps, self._places, question.aggregation))
        return pl.concat(frames).sort(GPU, STEP)

    def _of_few_lines(self) -> pl.DataFrame | None:
        """The result where nothing but few lines have to be read; ``None`` if they are many, or need a closer look."""
        hot, question = self._tiers.hot, self._question
        blocks = hot.blocks(self._views, question.start_us, question.end_us)
        if sum(block.end - block.start for mine in blocks.values() for block in mine) > FEW_BYTES:
            return None
        span_us = question.start_us, question.end_us
        frames, names, records = [], [], 0
        for view in self._views:
            gpu, mine = view.entry.gpu.gpu, blocks.get(view.entry.number, ())
            try:
                lines = b"".join(hot.lines(view, block) for block in mine)
            except StoreError:
                return None
            found = in_steps_of_lines(lines, gpu, span_us, question.steps, question.metrics, question.aggregation)
            if found is None:
                return None
            frames.append(found.frame)
            records += found.records
            if mine:
                names.append(gpu)
        self._plan.read("hot", names, records)
        return pl.concat(frames) if len(frames) > 1 else frames[0]

    def rows(self) -> Iterator[pl.DataFrame]:
        """All records, of which roll-ups do not stand for any."""
        question = self._question
        files = [file for file in self._tiers.files if not file.level.is_rollup]
        choice = choose(files, question.start_us, question.end_us, question.steps.width_us, rollups=False)
        return self._rows(choice, question.start_us, question.end_us)

    def _choose(self, start_us: int, end_us: int, *, rollups: bool) -> ColdChoice:
        low, high = min(self._gpus), max(self._gpus)
        files = [file for file in self._tiers.files if file.gpu_min <= high and file.gpu_max >= low]
        step_us = self._question.steps.width_us
        choice = choose(files, start_us, end_us, step_us, rollups=rollups)
        if rollups and choice.coarsest_us and step_us % choice.coarsest_us:
            self._plan.warn(
                f"of some of the range only roll-ups of {choice.coarsest_us // 1_000_000} s are left, which do not fit"
                f" into steps of {step_us / 1e6:g} s: their values stand at the step in which they begin"
            )
        return choice

    def _slices(self) -> Iterator[tuple[int, int]]:
        """The range in stretches of whole steps, each with a bearable number of rows."""
        question, steps = self._question, self._question.steps
        span_us = question.end_us - question.start_us
        per_gpu = max(1, span_us // _INTERVAL_US)
        per_step = max(1, per_gpu * len(self._views) // steps.count)
        width_us = steps.width_us * max(1, _ROWS // per_step)
        for start_us in range(steps.start_us, question.end_us, width_us):
            yield max(start_us, question.start_us), min(start_us + width_us, question.end_us)

    def _rolled(self, choice: ColdChoice) -> Iterator[pl.DataFrame]:
        """Partial results from roll-ups: of GPUs that have nothing else then, or where nothing else is left."""
        question = self._question
        blocks = self._tiers.hot.blocks(self._views, question.start_us, question.end_us)
        for region in choice.regions:
            clean = self._gpus - self._mixed(region, blocks)
            for part in region.parts:
                if part.is_rollup and clean:
                    yield self._roll(part, clean)
        for part in choice.remains:
            yield self._roll(part, self._gpus)

    def _roll(self, part: Part, gpus: set[str]) -> pl.DataFrame:
        (file,) = part.files
        question = self._question
        span = Span(part.start_us, part.end_us)
        partials = self._tiers.reader.rollup_partials([file], gpus, span, question.steps, question.metrics)
        self._plan.read(f"cold {file.level.value}", [file.path], partials.height)
        width = file.level.width_us
        newest = part.last_us if part.last_us is not None else file.last_us + width - 1
        # A roll-up knows only in which of its rows a last value was; no other record lies between that row's beginning
        # and the file's last one, so that value is the last until then.
        columns = [pl.col(f"{place}:last_us") for place in range(self._places)]
        return partials.with_columns(
            pl.when(column.is_not_null()).then(pl.min_horizontal(column + (width - 1), pl.lit(newest)))
            for column in columns
        )

    def _rows(self, choice: ColdChoice, start_us: int, end_us: int) -> Iterator[pl.DataFrame]:
        """Records that no roll-up stands for: ``gpu``, ``timestamp`` and metrics by place, no instant in two frames."""
        hot = self._tiers.hot
        blocks = hot.blocks(self._views, start_us, end_us)
        mixed = [self._mixed(region, blocks) for region in choice.regions]
        for region, gpus in zip(choice.regions, mixed, strict=True):
            clean = self._gpus - gpus
            for part in region.parts:
                if not part.is_rollup and clean:
                    yield from self._cold(part, clean)
        self._plan.read("hot", (view.entry.gpu.gpu for view in self._views if view.entry.number in blocks), 0)
        aside: list[list[pl.DataFrame]] = [[] for _ in mixed]
        for rows in hot.records_of_many(self._views, blocks, start_us, end_us, self._question.metrics, self._leave_out):
            self._plan.read("hot", (), rows.height)
            for covered in choice.covered:
                rows = rows.filter(~_within(*covered))
            for place, (region, gpus) in enumerate(zip(choice.regions, mixed, strict=True)):
                if gpus:
                    belongs = pl.col(GPU).is_in(gpus) & pl.any_horizontal(_within(*each) for each in region.ranges)
                    aside[place].append(rows.filter(belongs))
                    rows = rows.filter(~belongs)
            if rows.height:
                yield rows
        for region, gpus, hot_rows in zip(choice.regions, mixed, aside, strict=True):
            names_in_order = sorted(gpus)
            for first in range(0, len(gpus), _MERGED_GPUS):
                yield from self._merged(region, set(names_in_order[first : first + _MERGED_GPUS]), hot_rows)

    def _leave_out(self, gpu: str, error: StoreError) -> None:
        self._plan.warn(f"GPU {gpu}: {error}")

    def _mixed(self, region: Region, blocks: dict[int, list[Block]]) -> set[str]:
        """The GPUs that may have records in both tiers within a region's times."""
        return {
            view.entry.gpu.gpu
            for view in self._views
            if region.may_have(view.entry.gpu.gpu)
            and any(
                block.min_us < end_us and block.max_us >= start_us
                for block in blocks.get(view.entry.number, ())
                for start_us, end_us in region.ranges
            )
        }

    def _merged(self, region: Region, gpus: set[str], hot_rows: Sequence[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        cold = [frame for each in region.ranges for frame in self._cold(Part(region.files, *each), gpus)]
        hot = [rows.filter(pl.col(GPU).is_in(gpus)) for rows in hot_rows]
        merged = merge_rows([self._empty(), *cold, *hot])
        if merged.height:
            yield merged

    def _cold(self, part: Part, gpus: set[str]) -> Iterator[pl.DataFrame]:
        span = Span(part.start_us, part.end_us)
        tier = f"cold {part.files[0].level.value}"
        self._plan.read(tier, (file.path for file in part.files), 0)
        for frame in self._tiers.reader.rows(part.files, gpus, span, self._question.metrics):
            self._plan.read(tier, (), frame.height)
            yield frame

    def _empty(self) -> pl.DataFrame:
        values = {str(place): pl.Float64() for place in range(self._places)}
        return pl.DataFrame(schema={GPU: pl.String(), TIMESTAMP: pl.Datetime("us", "UTC"), **values})


def _within(start_us: int, end_us: int) -> pl.Expr:
    times = pl.col(TIMESTAMP).dt.timestamp("us")
    return (times >= start_us) & (times < end_us)
