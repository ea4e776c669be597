"""Unary calls of a client: one deadline for the whole, and tries while the queue is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import grpc

from telemetry.queue.clients.backoff import Backoff
from telemetry.queue.clients.errors import ClientClosedError, DeliveryTimeoutError, QueueClientError, error_from_rpc

log = logging.getLogger(__name__)

CALL_TIMEOUT_S: Final = 10.0
"""How long one attempt at a call may take."""

_Answer = TypeVar("_Answer")


async def ask(call: Callable[[], Awaitable[_Answer]], timeout_s: float | None) -> _Answer:
    """Call until the queue answers; only for calls that may be made twice.

    Args:
        call: makes one attempt.
        timeout_s: after how long to give up; ``None`` means never.

    Raises:
        QueueClientError: what the queue said, or why it could not be asked in time.
    """
    backoff = Backoff()
    problem: QueueClientError | None = None
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    return await call()
                except grpc.aio.AioRpcError as error:
                    problem = error_from_rpc(error)
                    if not problem.retriable:
                        raise problem from None
                    wait_s = backoff.next_s()
                    log.debug("the queue does not answer", extra={"error": problem.message, "retry_s": wait_s})
                except grpc.aio.UsageError:
                    raise ClientClosedError("the client was closed before the queue answered") from None
                await asyncio.sleep(wait_s)
    except TimeoutError:
        raise (problem or DeliveryTimeoutError(f"the queue did not answer within {timeout_s:g} s")) from None
