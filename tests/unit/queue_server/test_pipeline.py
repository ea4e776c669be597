"""Streams with many requests in flight: order, bounds, and what happens when they break off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest

from telemetry.queue.core.errors import ClosedError
from telemetry.queue.services import pipeline as pipeline_module
from telemetry.queue.services.pipeline import REQUEST_OVERHEAD_BYTES, STREAM_BYTES_MAX, Pipeline


class Stream:
    """One stream as a servicer sees it: requests to read, and what was written."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[int | None] = asyncio.Queue()
        self.written: list[int] = []
        self.read = 0

    async def reading(self) -> AsyncIterator[int]:
        while (request := await self.requests.get()) is not None:
            self.read += 1
            yield request

    async def write(self, response: int) -> None:
        self.written.append(response)

    @property
    def context(self) -> grpc.aio.ServicerContext[int, int]:
        return cast("grpc.aio.ServicerContext[int, int]", self)

    def send(self, *requests: int | None) -> None:
        for request in requests:
            self.requests.put_nowait(request)


class Answers:
    """Requests are begun at once and answered when the test says so."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.futures: dict[int, asyncio.Future[int]] = {}

    async def __call__(self, request: int) -> int:
        self.begun.append(request)
        self.futures[request] = asyncio.get_running_loop().create_future()
        return await self.futures[request]

    def answer(self, *requests: int) -> None:
        for request in requests:
            self.futures[request].set_result(request)


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def stream() -> Stream:
    return Stream()


def pipeline_of(answers: Answers, request_bytes: int = 0, answer_bytes: int = 0) -> Pipeline[int, int]:
    return Pipeline(answers, lambda _: request_bytes, lambda _: answer_bytes)


def serving(pipeline: Pipeline[int, int], stream: Stream) -> asyncio.Task[None]:
    return asyncio.create_task(pipeline.serve(stream.reading(), stream.context))


async def test_requests_begin_at_once_and_are_answered_in_their_order(answers: Answers, stream: Stream) -> None:
    served = serving(pipeline_of(answers), stream)
    stream.send(1, 2, 3, None)
    await settle()
    assert answers.begun == [1, 2, 3]
    answers.answer(3, 2)
    await settle()
    assert stream.written == []
    answers.answer(1)
    await served
    assert stream.written == [1, 2, 3]


async def test_a_stream_is_not_read_while_too_many_bytes_are_unanswered(answers: Answers, stream: Stream) -> None:
    half = STREAM_BYTES_MAX // 2 - REQUEST_OVERHEAD_BYTES
    served = serving(pipeline_of(answers, half), stream)
    stream.send(*range(10), None)
    await settle()
    assert answers.begun == [0, 1]
    assert stream.read == 3, "one request waits for room; the rest stay with the sender"
    answers.answer(0)
    await settle()
    assert answers.begun == [0, 1, 2]
    while not served.done():
        answers.answer(*(n for n, future in answers.futures.items() if not future.done()))
        await settle()
    assert stream.written == list(range(10))


async def test_a_request_larger_than_all_room_passes_alone(answers: Answers, stream: Stream) -> None:
    served = serving(pipeline_of(answers, 2 * STREAM_BYTES_MAX), stream)
    stream.send(1, 2, None)
    await settle()
    assert answers.begun == [1]
    answers.answer(1)
    await settle()
    answers.answer(2)
    await served
    assert stream.written == [1, 2]


class Unread(Stream):
    """A stream whose client reads no answers until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = asyncio.Event()

    async def write(self, response: int) -> None:
        await self.reads.wait()
        await super().write(response)


async def test_who_leaves_too_many_answers_unread_is_not_read_from_and_others_are(
    answers: Answers, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "UNREAD_BYTES_MAX", 250)
    pipeline = pipeline_of(answers, answer_bytes=100)
    idle = Unread()
    served = serving(pipeline, idle), serving(pipeline, stream)
    for request in range(10, 20):
        idle.send(request)
        await settle()
        if request in answers.futures:
            answers.answer(request)
            await settle()
    assert answers.begun == [10, 11, 12], "three answers are unread, and that is more than the share of one of two"
    for request in range(5):
        stream.send(request)
        await settle()
        answers.answer(request)
        await settle()
    assert stream.written == [0, 1, 2, 3, 4]
    idle.reads.set()
    await settle()
    assert idle.written == [10, 11, 12]
    assert answers.begun[-1] > 12
    for one in served:
        one.cancel()
    await asyncio.gather(*served, return_exceptions=True)
    answers.answer(*(request for request, future in answers.futures.items() if not future.done()))
    await pipeline.wait_idle()


async def test_a_stream_that_breaks_off_leaves_no_answers_counted_as_unread(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "UNREAD_BYTES_MAX", 250)
    pipeline = pipeline_of(answers, answer_bytes=100)
    for first in (10, 20):
        idle = Unread()
        served = serving(pipeline, idle)
        idle.send(first, first + 1, first + 2, first + 3)
        await settle()
        assert first + 3 in answers.begun
        answers.answer(first, first + 1, first + 2)
        await settle()
        served.cancel()
        with pytest.raises(asyncio.CancelledError):
            await served
        answers.answer(first + 3)
    await pipeline.wait_idle()


async def test_draining_answers_what_was_begun_and_then_ends_the_stream(answers: Answers, stream: Stream) -> None:
    pipeline = pipeline_of(answers)
    served = serving(pipeline, stream)
    stream.send(1, 2)
    await settle()
    assert len(pipeline.streams) == 1
    pipeline.streams.drain(1.0)
    stream.send(3)
    await settle()
    assert not served.done()
    answers.answer(1, 2)
    with pytest.raises(ClosedError):
        await served
    assert stream.written == [1, 2]
    assert answers.begun == [1, 2]
    assert await pipeline.streams.wait_closed(1.0)


async def test_a_stream_that_comes_while_draining_is_refused(answers: Answers, stream: Stream) -> None:
    pipeline = pipeline_of(answers)
    pipeline.streams.drain(1.0)
    with pytest.raises(ClosedError):
        await pipeline.serve(stream.reading(), stream.context)


async def test_what_was_begun_goes_on_when_the_stream_breaks_off(answers: Answers, stream: Stream) -> None:
    pipeline = pipeline_of(answers)
    served = serving(pipeline, stream)
    stream.send(1)
    await settle()
    served.cancel()
    with pytest.raises(asyncio.CancelledError):
        await served
    assert not answers.futures[1].cancelled()
    idle = asyncio.create_task(pipeline.wait_idle())
    await settle()
    assert not idle.done()
    answers.answer(1)
    await idle


async def test_an_answer_that_fails_ends_the_stream_after_the_answers_before_it(
    answers: Answers, stream: Stream
) -> None:
    served = serving(pipeline_of(answers), stream)
    stream.send(1, 2, 3)
    await settle()
    answers.futures[2].set_exception(ClosedError("the queue is closed"))
    answers.answer(1, 3)
    with pytest.raises(ClosedError, match="the queue is closed"):
        await served
    assert stream.written == [1]


async def test_a_stream_that_cannot_be_read_fails(answers: Answers, stream: Stream) -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    served: asyncio.Task[Any] = asyncio.create_task(pipeline_of(answers).serve(broken(), stream.context))
    await settle()
    answers.answer(1)
    with pytest.raises(ValueError, match="broken"):
        await served
    assert stream.written == [1]
