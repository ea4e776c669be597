"""The newest values of single GPUs: what many ask for at the same time is asked of the collectors together.

While one question is on its way, others wait and go out together as the next one. So an answer is as fresh as if each
had been asked by itself, nothing is kept, and the more ask the less each costs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from math import isnan
from typing import Final

from gateway import shapes
from telemetry.query.fanout import Collectors
from telemetry.queue.shapes import Json
from telemetry.v1 import query_pb2

BATCH_MAX: Final = 200
"""The most GPUs in one question."""
QUESTIONS_MAX: Final = 1
"""The most questions on their way; with more, each would hold less."""


@dataclass(frozen=True, slots=True)
class Latest:
    """A GPU and its newest values."""

    gpu: query_pb2.Gpu
    values: Mapping[str, float]
    time_us: int | None
    completeness: Iterable[query_pb2.Completeness]

    def json(self) -> Json:
        """As it is answered."""
        warnings = list(dict.fromkeys(warning for each in self.completeness for warning in each.warnings))
        return shapes.gpu(self.gpu) | {
            "latest": self.values,
            "latest_time": None if self.time_us is None else shapes.instant_of_us(self.time_us),
            "completeness": {"partial": any(each.partial for each in self.completeness), "warnings": warnings},
        }


class _Question:
    """GPUs that are asked for together, and how many wait for the answer."""

    def __init__(self) -> None:
        self.answers: dict[str, asyncio.Future[Latest | None]] = {}
        self.waiters = 0
        # It goes by the name of the request that asked first, as it has no name for all of them.
        self.context = copy_context()
        self.asking: asyncio.Task[None] | None = None

    async def answer(self, gpu: str) -> Latest | None:
        """Wait for one GPU's; who is the last to give up takes the question back."""
        answer = self.answers.get(gpu)
        if answer is None:
            answer = self.answers[gpu] = asyncio.get_running_loop().create_future()
        self.waiters += 1
        try:
            return await asyncio.shield(answer)
        finally:
            self.waiters -= 1
            if not self.waiters and self.asking is not None:
                self.asking.cancel()


class LatestValues:
    """Asks the collectors. Used from one event loop."""

    def __init__(self, collectors: Collectors) -> None:
        self._collectors = collectors
        self._waiting: deque[_Question] = deque()
        self._on_their_way = 0

    async def of(self, gpu: str) -> Latest | None:
        """The newest values of the GPU of this very identity; ``None`` if the collectors that answer have none.

        Raises:
            UpstreamError: if no collector answers.
        """
        if not self._waiting or len(self._waiting[-1].answers) >= BATCH_MAX:
            self._waiting.append(_Question())
        question = self._waiting[-1]
        if self._on_their_way < QUESTIONS_MAX:
            # It goes out once this task waits, with whatever comes until then.
            asyncio.get_running_loop().call_soon(self._send)
            self._on_their_way += 1
        return await question.answer(gpu)

    def _send(self) -> None:
        while self._waiting:
            question = self._waiting.popleft()
            if question.waiters:
                asking = self._put(question)
                question.asking = asyncio.create_task(asking, name="latest values", context=question.context)
                # Also of a task that is cancelled before it has begun.
                question.asking.add_done_callback(lambda _: self._send())
                return
        self._on_their_way -= 1

    async def _put(self, question: _Question) -> None:
        try:
            found = await self._ask(list(question.answers))
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            for answer in question.answers.values():
                answer.set_exception(error)
                answer.exception()  # whoever waited may have gone
        else:
            for gpu, answer in question.answers.items():
                answer.set_result(found.get(gpu))

    async def _ask(self, gpus: list[str]) -> dict[str, Latest]:
        selector = query_pb2.GpuSelector(gpus=gpus)
        listed, newest = await asyncio.gather(
            self._collectors.list_gpus(query_pb2.ListGpusRequest(selector=selector, page_size=len(gpus))),
            self._collectors.get_latest(query_pb2.GetLatestRequest(selector=selector)),
        )
        completeness = (listed.completeness, newest.completeness)
        rows = {gpu: row for row, gpu in enumerate(newest.gpus)}
        columns = [(column.metric, list(column.values)) for column in newest.columns]
        found = {}
        for gpu in listed.gpus:
            row = rows.get(gpu.gpu)
            values = {} if row is None else {name: column[row] for name, column in columns if not isnan(column[row])}
            found[gpu.gpu] = Latest(gpu, values, None if row is None else newest.timestamps_us[row], completeness)
        return found
