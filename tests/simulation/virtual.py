"""Virtual time: an asyncio event loop whose clock jumps, and processes that can die or stall in it.

The real head and agent code runs on it unchanged: ``asyncio.sleep`` costs nothing, a call in a
thread happens at one instant of virtual time, and everything is in one thread, so a seed decides
every interleaving.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from asyncio import base_events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)
"""Whose code is running; None is the world itself, which never dies."""


WORLD = Context()
"""What is called in it goes on whoever dies: the network, and what runs without its supervisor."""


def _no_wait() -> tuple[float, float]:
    return 0.0, 0.0


class Process:
    """Tasks and timers that end together, as kill -9 ends them: no ``finally`` runs, no ``await`` returns.

    Args:
        name: For traces.
        blocking_s: Draws how long a blocking call takes before and after the instant in which it acts.
    """

    def __init__(self, name: str, blocking_s: Callable[[], tuple[float, float]] = _no_wait) -> None:
        self.name = name
        self.blocking_s = blocking_s
        self.is_alive = True
        self.is_paused = False
        self.backlog: list[tuple[Callable[..., object], tuple[Any, ...], Context]] = []
        self.context = copy_context()
        self.context.run(PROCESS.set, self)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task of this process, whoever calls."""
        return asyncio.get_running_loop().create_task(work, context=self.context.copy())

    def call_later(self, delay_s: float, call: Callable[..., object], *args: object) -> None:
        """Have this process called back, if it lives then."""
        asyncio.get_running_loop().call_later(delay_s, call, *args, context=self.context)

    def kill(self) -> None:
        """End it between two instructions."""
        self.is_alive = self.is_paused = False
        self.backlog.clear()

    def pause(self) -> None:
        """SIGSTOP: time goes on, it does not."""
        self.is_paused = self.is_alive

    def resume(self) -> None:
        """SIGCONT: it finds everything that came meanwhile, timers included."""
        self.is_paused = False
        backlog, self.backlog = self.backlog, []
        for call, args, context in backlog:
            asyncio.get_running_loop().call_soon(call, *args, context=context)


class NothingLeft(Exception):
    """No timer and no callback is left: whatever is waited for will never come."""


class _JumpingClock:
    """Stands where a selector would block: passes the time instead."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def select(self, timeout_s: float | None) -> tuple[()]:
        if timeout_s is None:
            raise NothingLeft
        self.now_s += max(timeout_s, 0.0)
        return ()


class VirtualLoop(base_events.BaseEventLoop):
    """Runs everything there is to run, then jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _JumpingClock()
        self._clock_resolution = 1e-6
        # A dead process's tasks must not be collected while its world runs: that would run their ``finally``.
        self.steps = 0
        self.graveyard: list[asyncio.Task[Any]] = []
        self._is_over = False
        self.set_task_factory(self._make_task)

    def bury(self) -> None:
        """Let go of everything, unheard: what the dead do on being collected happened to nobody."""
        self._is_over = True
        self.set_exception_handler(lambda _loop, _context: None)
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            with warnings.catch_warnings(action="ignore"):
                self._scheduled.clear()  # type: ignore[attr-defined]
                self._ready.clear()  # type: ignore[attr-defined]
                self.graveyard.clear()
                gc.collect()
        finally:
            sys.unraisablehook = hook
        self.close()

    def time(self) -> float:
        return self._selector.now_s

    def _process_events(self, _events: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _make_task(self, _loop: object, work: Any, **given: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=self, **given)
        self.graveyard.append(task)
        return task

    # The base class calls these for every step of every task; each step asks whether its process lives.

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        self.steps += 1
        if self._is_over:
            return asyncio.Handle(callback, args, self, context)
        return super().call_soon(_guarded, callback, args, context=context)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if self._is_over:
            return asyncio.TimerHandle(when, callback, args, self, context)
        return super().call_at(when, _guarded, callback, args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Act at one instant, some time from now; whoever waits learns of it some time later still."""
        future: asyncio.Future[Any] = self.create_future()
        process = PROCESS.get()
        before_s, after_s = (0.0, 0.0) if process is None else process.blocking_s()

        def act() -> None:
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 (handed to the caller, as a thread's is)
                self.call_later(after_s, _settle, future, None, error)
            else:
                self.call_later(after_s, _settle, future, result, None)

        self.call_later(before_s, act)
        return future


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _guarded(callback: Callable[..., object], args: tuple[Any, ...]) -> None:
    process = PROCESS.get()
    if process is None:
        callback(*args)
    elif process.is_paused:
        process.backlog.append((callback, args, copy_context()))
    elif process.is_alive:
        callback(*args)
