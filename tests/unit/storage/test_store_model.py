"""The store against a naive list: whatever is written, moved, merged, deleted, cut off and opened again, in any order,
every question has the answer that the list gives."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from telemetry.storage import compaction, growth
from telemetry.storage.checkpoint import Checkpoint
from telemetry.storage.cold import windows
from telemetry.storage.cold.files import DAY_US, HOUR_US, MINUTE_US
from telemetry.storage.coldset import ColdSet
from telemetry.storage.compaction import Retention
from telemetry.storage.compactor import CompactionSettings, Compactor
from telemetry.storage.hot import HotTier
from telemetry.storage.plan import Plan
from telemetry.storage.series import Aggregation, Steps
from telemetry.storage.store import Batch, Position, Span, StoreError, TopicPartition
from telemetry.storage.tiered import TieredStore
from tests.unit.storage.naive import NaiveStore, Row
from tests.unit.storage.rounds import BASE_US, SECOND_US, frame, records, run_here

ROUNDS = int(os.environ.get("TELEMETRY_TEST_ROUNDS", "1"))
PARTITION = TopicPartition("telemetry", 0)

GPUS = ("gpu", "GPU", "../gpu+000000")
METRICS = ("x", "X", "0")

# Few, so that many records meet.
hours = st.sampled_from((0, 1, 23, 24, 47, 49))
seconds = st.sampled_from((0, 30, 60, 3599))
times = st.builds(
    lambda hour, second, rest: BASE_US + hour * HOUR_US + second * SECOND_US + rest,
    hours,
    seconds,
    st.sampled_from((0, 0, 0, 999_999)),
)
values = st.one_of(st.none(), st.integers(-3, 3).map(float))
rows = st.tuples(
    st.sampled_from(GPUS), times, st.dictionaries(st.sampled_from(METRICS), values, min_size=1, max_size=3)
)
spans = st.tuples(hours, hours, st.sampled_from((0, 0, 37 * SECOND_US, 1))).map(
    lambda each: (BASE_US + min(each[:2]) * HOUR_US + each[2], BASE_US + (max(each[:2]) + 1) * HOUR_US + each[2])
)
widths = st.sampled_from((7 * SECOND_US, MINUTE_US, 10 * MINUTE_US, HOUR_US, 3 * HOUR_US, DAY_US))


class Crash(BaseException):
    """The process dies here."""


@contextmanager
def dying(owner: type, name: str, *, done: bool) -> Iterator[None]:
    """Die in a method, before or after it has done its work."""
    original: Callable[..., Any] = getattr(owner, name)

    def die(*arguments: Any, **more: Any) -> None:
        if done:
            original(*arguments, **more)
        raise Crash

    # What has nothing to do does not die.
    with mock.patch.object(owner, name, die), suppress(Crash):
        yield


class StoreMachine(RuleBasedStateMachine):
    """Does anything in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now_us = BASE_US + 2 * HOUR_US
        self.naive = NaiveStore()
        self.cutoff_us = BASE_US
        self.commits = 0
        self.looks = 0
        self.store = self.open()

    @initialize(some=st.lists(rows, min_size=5, max_size=30))
    def begin(self, some: list[Row]) -> None:
        self.commit([some])

    def open(self) -> TieredStore:
        return TieredStore(
            Path(self.folder.name),
            cache_entries=3,
            synced=False,
            rotate_bytes=400,
            clock_us=lambda: self.now_us,
        )

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(messages=st.lists(st.lists(rows, min_size=1, max_size=12), min_size=1, max_size=3))
    def commit(self, messages: list[list[Row]]) -> None:
        messages = self.young(messages)
        self.commits += 1
        outcome = self.store.commit(
            Batch([frame(some) for some in messages], positions={PARTITION: Position(1, self.commits)})
        )
        self.naive.commit([row for some in messages for row in some])
        assert outcome.records + outcome.duplicates == sum(map(len, messages))

    @rule(data=st.data())
    @precondition(lambda self: any(self.naive.rows.values()))
    def commit_what_is_there(self, data: st.DataObject) -> None:
        held = [(gpu, time, metrics) for gpu, rows in self.naive.rows.items() for time, metrics in rows.items()]
        again = data.draw(st.lists(st.sampled_from(held), min_size=1, max_size=10))
        outcome = self.store.commit(Batch([frame(again)]))
        assert (outcome.records, outcome.samples, outcome.conflicts) == (0, 0, 0)
        assert outcome.duplicates == len(again)

    @rule(messages=st.lists(st.lists(rows, min_size=1, max_size=12), min_size=1, max_size=3), write=st.booleans())
    def commit_and_crash(self, messages: list[list[Row]], write: bool) -> None:
        owner, name = (HotTier, "write") if write else (Checkpoint, "commit")
        with dying(owner, name, done=write):
            self.store.commit(Batch([frame(some) for some in self.young(messages)]))
        self.reopen()

    @rule(done=st.booleans())
    def compact_in_vain(self, done: bool) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise StoreError("not now")

        owner, name = (Checkpoint, "exchange") if done else (Checkpoint, "commit")
        with mock.patch.object(owner, name, refuse), suppress(StoreError):
            self.round(Retention(), 0.0)

    @rule(hours=st.sampled_from((1, 5, 24)))
    def wait(self, hours: int) -> None:
        self.now_us += hours * HOUR_US

    @rule(all_of_it=st.booleans())
    def compact(self, all_of_it: bool) -> None:
        self.round(Retention(), 0.0 if all_of_it else 7200.0)

    @rule(
        where=st.sampled_from(
            (
                (HotTier, "close_files", True),
                (Checkpoint, "exchange", False),
                (Checkpoint, "exchange", True),
                (ColdSet, "delete", False),
                (HotTier, "delete", True),
            )
        )
    )
    def compact_and_crash(self, where: tuple[type, str, bool]) -> None:
        owner, name, done = where
        if owner is not HotTier or name != "close_files":
            self.store.close_files(self.now_us + 1)
        with dying(owner, name, done=done):
            self.round(Retention(), 0.0)
        self.reopen()

    @rule(days=st.integers(0, 2), minutes_too=st.booleans())
    def retain(self, days: int, minutes_too: bool) -> None:
        self.round(Retention(), 0.0)
        self.cutoff_us = max(self.cutoff_us, BASE_US + days * DAY_US)
        newest_us = min(self.now_us, self.naive.newest_us)
        age_us = newest_us - self.cutoff_us
        if age_us <= 0:
            return
        self.round(Retention(raw_us=age_us, minutes_us=age_us if minutes_too else 0), 0.0)
        self.naive.expire(self.cutoff_us)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()

    @rule(gpu=st.sampled_from(GPUS), span=spans, newest_first=st.booleans(), metrics=st.sets(st.sampled_from(METRICS)))
    def ask_for_records(self, gpu: str, span: tuple[int, int], newest_first: bool, metrics: set[str]) -> None:
        wanted = sorted(metrics) or None
        plan = Plan()
        found = records(self.store, gpu, Span(*span), newest_first=newest_first, metrics=wanted, plan=plan)
        assert not plan.warnings
        expected = [
            (time, {name: value for name, value in present.items() if wanted is None or name in wanted})
            for time, present in self.naive.records(gpu, Span(*span))
        ]
        assert found == (expected[::-1] if newest_first else expected)

    @rule(data=st.data(), width_us=widths, aggregation=st.sampled_from(Aggregation), newest_first=st.booleans())
    @precondition(lambda self: any(self.naive.rows.values()))
    def ask_up_to_a_record(
        self, data: st.DataObject, width_us: int, aggregation: Aggregation, newest_first: bool
    ) -> None:
        """Where a record is the first or the last one of all that are asked for, or just not."""
        gpu = data.draw(st.sampled_from([gpu for gpu, rows in self.naive.rows.items() if rows]))
        time = data.draw(st.sampled_from(sorted(self.naive.rows[gpu])))
        for span in ((time, time + 1), (time + 1, None), (None, time), (time, None), (None, time + 1)):
            expected = self.naive.records(gpu, Span(*span))
            found = records(self.store, gpu, Span(*span), newest_first=newest_first)
            assert found == (expected[::-1] if newest_first else expected)
        if time - HOUR_US >= self.cutoff_us:
            for start_us, end_us in ((time, time + HOUR_US), (time - HOUR_US, time), (time - HOUR_US, time + 1)):
                self.check_series(start_us, end_us, width_us, aggregation, GPUS)

    @rule(span=spans, width_us=widths, aggregation=st.sampled_from(Aggregation), some=st.sets(st.sampled_from(GPUS)))
    def ask_for_series(self, span: tuple[int, int], width_us: int, aggregation: Aggregation, some: set[str]) -> None:
        start_us, end_us = span
        if start_us < self.cutoff_us:
            # Where only roll-ups are left, and maybe only those by the hour, they answer for whole hours.
            width_us = -(-width_us // HOUR_US) * HOUR_US
            start_us, end_us = start_us - start_us % HOUR_US, end_us - end_us % HOUR_US
        self.check_series(start_us, end_us, width_us, aggregation, sorted(some) or list(GPUS))

    def check_series(
        self, start_us: int, end_us: int, width_us: int, aggregation: Aggregation, gpus: Sequence[str]
    ) -> None:
        steps = Steps.over(start_us, end_us, width_us)
        plan = Plan()
        pieces = list(self.store.series(gpus, Span(start_us, end_us), steps, METRICS, aggregation, plan=plan))
        found: dict[tuple[str, str], dict[int, float]] = {(gpu, name): {} for gpu in gpus for name in METRICS}
        for piece in pieces:
            for row in piece.iter_rows(named=True):
                for place, name in enumerate(METRICS):
                    if row[str(place)] is not None:
                        assert row["step"] not in found[row["gpu"], name]
                        found[row["gpu"], name][row["step"]] = row[str(place)]
        for (gpu, name), values in found.items():
            expected = self.naive.series(gpu, Span(start_us, end_us), steps, name, aggregation)
            assert values == pytest.approx(expected), (gpu, name, plan.lines())
        if aggregation not in (Aggregation.P50, Aggregation.P95, Aggregation.P99):
            assert not plan.warnings

    @invariant()
    def everything_is_there(self) -> None:
        assert [gpu.gpu for gpu in self.store.gpus()] == sorted(self.naive.latest.keys() | self.naive.rows.keys())
        for gpu in self.store.gpus():
            assert gpu.latest == self.naive.latest.get(gpu.gpu, {})
            assert records(self.store, gpu.gpu) == self.naive.records(gpu.gpu, Span())
        assert self.store.positions().get(PARTITION, Position(1, 0)).next_offset == self.commits
        # What is counted twice shows in counts, what is taken from the wrong file in last values.
        self.looks += 1
        aggregation = (Aggregation.COUNT, Aggregation.LAST)[self.looks % 2]
        self.check_series(BASE_US, BASE_US + 4 * DAY_US, (HOUR_US, DAY_US)[self.looks // 2 % 2], aggregation, GPUS)

    def young(self, messages: list[list[Row]]) -> list[list[Row]]:
        """The same rows, none of them of a time whose records have been deleted."""
        return [
            [(gpu, time + max(0, self.cutoff_us - BASE_US), metrics) for gpu, time, metrics in some]
            for some in messages
        ]

    def round(self, retention: Retention, after_s: float) -> None:
        self.now_us += SECOND_US
        compactor = Compactor(
            self.store, CompactionSettings(1.0, after_s, retention), run=run_here, clock_us=lambda: self.now_us
        )
        try:
            asyncio.run(compactor.round())
        finally:
            compactor.close()


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("limits", ["usual", "low"])
def test_the_store_answers_as_a_naive_list_would(seed: int, limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # How long records stay before they may be deleted is a matter of its own.
    monkeypatch.setattr(compaction, "SETTLED_US", 0)
    if limits == "low":
        # Several blocks a file and files a window, roll-ups by the minute of everything.
        monkeypatch.setattr(growth, "BLOCK_BYTES", 200)
        monkeypatch.setattr(windows, "FILE_ROWS_MAX", 5)
        monkeypatch.setattr(windows, "MINUTE_RECORDS_MIN", 0)
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            deadline=None,
            derandomize=ROUNDS == 1,
            suppress_health_check=list(HealthCheck),
            # To shrink an example takes minutes; whoever wants that adds the phase.
            phases=(Phase.generate,),
        ),
    )
