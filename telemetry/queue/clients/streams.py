"""Running the two directions of a bidirectional call at the same time, and saying why the call ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import grpc

from telemetry.queue.clients.errors import QueueClientError, QueueUnavailableError, error_from_rpc


async def run_streams(calls: Sequence[grpc.aio.Call], *parts: Coroutine[Any, Any, None]) -> None:
    """Run parts that read and write calls until the first of them ends or fails; then cancel the calls and the rest.

    Returns when a part has returned: the client wanted to end.

    Raises:
        QueueClientError: if a call was ended by the queue or the network, or a part raised it.
    """
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                await _raise_failure(task, calls)
    finally:
        for call in calls:
            call.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _raise_failure(task: asyncio.Task[None], calls: Sequence[grpc.aio.Call]) -> None:
    try:
        task.result()
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from None
    except asyncio.InvalidStateError:  # written to after its end; the status is on its way
        for call in calls:
            if call.done():
                raise await _status_of(call) from None
        raise QueueUnavailableError("the stream to the queue is broken") from None


async def _status_of(call: grpc.aio.Call) -> QueueClientError:
    code, details, metadata = await call.code(), await call.details(), await call.trailing_metadata()
    return error_from_rpc(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details))


async def wait_until(event: asyncio.Event, at: float | None) -> None:
    """Wait for an event, but not beyond ``at`` on the loop's clock."""
    if at is None:
        await event.wait()
        return
    timer = asyncio.get_running_loop().call_at(at, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
