"""The life of a process: start, run until a signal, drain, and an exit code that says how it went."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from telemetry.runtime.errors import StartupError
from telemetry.runtime.logs import configure_logging
from telemetry.runtime.trace import start_tracing

PARENT_VARIABLE: Final = "TELEMETRY_PARENT_PID"
"""Set by a supervisor: a process that finds another parent drains and ends, even if that parent died of ``kill -9``."""
PARENT_CHECK_S: Final = 1.0

GC_THRESHOLDS: Final = (10_000, 20, 100)
"""How often garbage is looked for. Looking at everything takes 100 to 200 ms where there are a thousand connections,
and finds next to nothing, since nearly all that messages leave behind goes with its last reference. CPython's own 700,
10, 10 would stop the world like that every few seconds."""


def run_process(name: str, main: Callable[[asyncio.Event], Awaitable[None]], log_level: str = "info") -> int:
    """Run ``main`` until it returns, and return the exit code.

    ``main`` gets an event that SIGTERM or SIGINT sets; it should then drain and return (exit 0). A second signal
    cancels it. A :class:`StartupError` is printed as one sentence.
    """
    configure_logging(name, log_level)
    gc.set_threshold(*GC_THRESHOLDS)
    stop_tracing = start_tracing(name)

    async def supervise() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(main(stop))

        def on_signal() -> None:
            if stop.is_set():
                task.cancel()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        watch = asyncio.create_task(_stop_without_parent(stop))
        try:
            await task
        finally:
            watch.cancel()

    try:
        asyncio.run(supervise())
    except StartupError as error:
        print(f"telemetry-{name}: {error}", file=sys.stderr)  # noqa: T201 - the message to the user
        return error.exit_code
    except asyncio.CancelledError:
        return 130
    finally:
        stop_tracing()
    return 0


async def _stop_without_parent(stop: asyncio.Event) -> None:
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        return
    while os.getppid() == int(parent):  # noqa: ASYNC110 - nothing announces that a parent is gone
        await asyncio.sleep(PARENT_CHECK_S)
    stop.set()
