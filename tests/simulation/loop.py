"""An event loop without time of its own: nothing runs at once, nothing waits, and whole processes can be killed."""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

from tests.simulation.disk import PowerCut

T = TypeVar("T")

CALLBACKS_MAX: Final = 400_000
"""A run that has needed so many is taken for one that will never end."""


class Process:
    """What dies together: callbacks, timers and tasks that were begun in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: list[asyncio.Task[Any]] = []


class _Scheduled:
    """What the simulation itself has scheduled: a handle that cannot be cancelled and hides no errors."""

    __slots__ = ("_args", "_callback")

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self._callback = callback
        self._args = args

    def cancelled(self) -> bool:
        return False

    def _run(self) -> None:
        self._callback(*self._args)


Call = asyncio.Handle | _Scheduled


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs callbacks one after the other; when none is left, the clock jumps to the next timer.

    What asyncio would run in a thread runs here as well, whole, at a moment that ``thread_delay`` chooses, and its
    result arrives at a later one.
    """

    def __init__(self, thread_delay: Callable[[], float]) -> None:
        self.process = Process("world")
        self.on_power_cut: Callable[[], None] = lambda: None
        self._world = self.process
        self._thread_delay = thread_delay
        self._now = 0.0
        self._order = 0
        self._ready: deque[tuple[Call, Process]] = deque()
        self._timers: list[tuple[float, int, Call, Process]] = []
        self._busy_until: dict[object, float] = {}
        self._failure: BaseException | None = None
        self._callbacks = 0

    # For the simulation

    def run_until(self, done: Callable[[], bool], *, deadline_s: float) -> bool:
        """Run until ``done`` or ``deadline_s``; says whether it is done. Raises what was given to :meth:`fail`.

        ``done`` is asked whenever nothing is left to do at an instant.
        """
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while True:
                if not self._ready:
                    if done():
                        return True
                    if not self._pass_time(deadline_s):
                        return False
                call, self.process = self._ready.popleft()
                if self.process.alive and not call.cancelled():
                    self._callbacks += 1
                    call._run()
                    if self._failure is not None:
                        raise self._failure
                    if self._callbacks > CALLBACKS_MAX:
                        raise AssertionError(f"no end after {CALLBACKS_MAX} callbacks")
        finally:
            self.process = self._world
            events._set_running_loop(before)

    def fail(self, error: BaseException) -> None:
        """End the run with this error, unless it has failed before."""
        self._failure = self._failure or error

    def spawn(self, process: Process, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task in a process."""
        before, self.process = self.process, process
        try:
            return self.create_task(coroutine)
        finally:
            self.process = before

    def schedule(self, process: Process, when_s: float, callback: Callable[..., object], *args: object) -> None:
        """Call back in a process at a time, if it is still alive."""
        self._order += 1
        heappush(self._timers, (when_s, self._order, _Scheduled(callback, args), process))

    def after(self, delay_s: float, callback: Callable[..., object], *args: object) -> None:
        """Call back in the world, which never dies."""
        self.schedule(self._world, self._now + delay_s, callback, *args)

    def at(self, when_s: float, callback: Callable[..., object], *args: object) -> None:
        """Call back in the world at a time."""
        self.schedule(self._world, when_s, callback, *args)

    def kill(self, process: Process) -> None:
        """End a process where it stands."""
        process.alive = False
        before, self.process = self.process, process  # dead, so that what is cleaned up now changes nothing
        for task in process.tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(RuntimeError):
                    task.get_coro().close()
        process.tasks.clear()
        self._busy_until.clear()
        self.process = before

    def close_all(self, *others: Process | None) -> None:
        """Forget everything."""
        for process in (self._world, *others):
            if process is not None:
                self.kill(process)
        self._ready.clear()
        self._timers.clear()

    def _pass_time(self, deadline_s: float) -> bool:
        while self._timers:
            when_s, _, call, process = self._timers[0]
            if not process.alive or call.cancelled():
                heappop(self._timers)
                continue
            if when_s > deadline_s:
                break
            heappop(self._timers)
            self._now = max(self._now, when_s)
            self._ready.append((call, process))
            return True
        self._now = max(self._now, deadline_s)
        return False

    # What asyncio needs

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        self.process.tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if self.process.alive:
            self._ready.append((handle, self.process))
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if self.process.alive:
            self._order += 1
            heappush(self._timers, (when, self._order, handle, self.process))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run in "a thread": one after the other for an executor, as ours have one thread each."""
        future: asyncio.Future[T] = self.create_future()
        begin = self._thread_delay() + max(self._now, self._busy_until.get(executor, 0.0))
        end = begin + self._thread_delay()
        if executor is not None:
            self._busy_until[executor] = end

        def work() -> None:
            try:
                result = func(*args)
            except PowerCut:
                self.on_power_cut()
            except BaseException as error:  # noqa: BLE001  (whatever it is, it belongs to whoever waits)
                self.call_at(end, _reject, future, error)
            else:
                self.call_at(end, _resolve, future, result)

        self.call_at(begin, work)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "handle" in context:
            self.fail(context["exception"])
        # Else it is about a task or future that was thrown away, which is what a crash does to them.

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _reject(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
