"""Streams with many requests in flight: order, bounds, and what happens when they break off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest

from telemetry.queue.core.errors import ClosedError
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


def serving(pipeline: Pipeline[int, int], stream: Stream) -> asyncio.Task[None]:
    return asyncio.create_task(pipeline.serve(stream.reading(), stream.context))


async def test_requests_begin_at_once_and_are_answered_in_their_order(answers: Answers, stream: Stream) -> None:
    served = serving(Pipeline(answers, lambda _: 0), stream)
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
    served = serving(Pipeline(answers, lambda _: half), stream)
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
    served = serving(Pipeline(answers, lambda _: 2 * STREAM_BYTES_MAX), stream)
    stream.send(1, 2, None)
    await settle()
    assert answers.begun == [1]
    answers.answer(1)
    await settle()
    answers.answer(2)
    await served
    assert stream.written == [1, 2]


async def test_draining_answers_what_was_begun_and_then_ends_the_stream(answers: Answers, stream: Stream) -> None:
    pipeline = Pipeline(answers, lambda _: 0)
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
    pipeline = Pipeline(answers, lambda _: 0)
    pipeline.streams.drain(1.0)
    with pytest.raises(ClosedError):
        await pipeline.serve(stream.reading(), stream.context)


async def test_what_was_begun_goes_on_when_the_stream_breaks_off(answers: Answers, stream: Stream) -> None:
    pipeline = Pipeline(answers, lambda _: 0)
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
    served = serving(Pipeline(answers, lambda _: 0), stream)
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

    served: asyncio.Task[Any] = asyncio.create_task(Pipeline(answers, lambda _: 0).serve(broken(), stream.context))
    await settle()
    answers.answer(1)
    with pytest.raises(ValueError, match="broken"):
        await served
    assert stream.written == [1]
