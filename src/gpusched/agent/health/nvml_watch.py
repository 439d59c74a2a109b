"""The agent's end of ``nvml_probe``: reads it, notices when it falls silent, and starts another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from gpusched.agent.health.nvml_probe import CardReading, ProbeLine, SeenXid

log = logging.getLogger(__name__)

SILENCE_MAX_S = 15.0
RESTART_WAIT_S = 5.0
LINE_BYTES_MAX = 1 << 20


class NvmlWatch:
    """Runs the probe for as long as ``run`` does.

    Args:
        interval_s: Between two looks at all cards.
        on_cards: Called with each look.
        on_xid: Called with each Xid.
        on_silence: Called when the probe does not answer; the next ``on_cards`` ends it.
        silence_max_s: How long it may take to answer.
    """

    def __init__(
        self,
        interval_s: float,
        *,
        on_cards: Callable[[tuple[CardReading, ...]], None],
        on_xid: Callable[[SeenXid], None],
        on_silence: Callable[[str], None],
        silence_max_s: float = SILENCE_MAX_S,
    ) -> None:
        self._interval_s, self._silence_max_s = interval_s, silence_max_s
        self._on_cards, self._on_xid, self._on_silence = on_cards, on_xid, on_silence
        self._process: asyncio.subprocess.Process | None = None
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._looked = asyncio.Event()
        self._is_renewed = False

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                await self._may_run.wait()
                why = await self._probe_once()
                if self._is_renewed:
                    self._is_renewed = False
                elif self._may_run.is_set():
                    log.warning("the NVML probe ended: %s", why)
                    self._on_silence(why)
                    await asyncio.sleep(RESTART_WAIT_S)
        finally:
            self._kill()

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """Have no probe, and so no open driver, inside the block."""
        self._may_run.clear()
        process = self._process
        self._kill()
        if process is not None:
            with contextlib.suppress(TimeoutError):  # one that cannot be killed holds the card: so be it
                async with asyncio.timeout(self._silence_max_s):
                    await process.wait()
        try:
            yield
        finally:
            self._may_run.set()

    async def look(self) -> None:
        """Wait for a look at all cards that began after this call, or for the silence limit."""
        self._is_renewed = self._process is not None
        self._kill()  # a new one looks first of all
        self._looked.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._silence_max_s + RESTART_WAIT_S):
                await self._looked.wait()

    async def _probe_once(self) -> str:
        """Read one probe to its end; say how it ended."""
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gpusched.agent.health.nvml_probe",
            str(self._interval_s),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LINE_BYTES_MAX,
        )
        assert process.stdout is not None
        try:
            while True:
                try:
                    async with asyncio.timeout(self._silence_max_s):
                        line = await process.stdout.readline()
                except TimeoutError:
                    return f"NVML does not answer within {self._silence_max_s:.0f} s"
                if not line:
                    return "NVML cannot be asked"
                self._take(msgspec.json.decode(line, type=ProbeLine))
        finally:
            self._kill()

    def _take(self, line: ProbeLine) -> None:
        if line.cards is not None:
            self._on_cards(line.cards)
            self._looked.set()
        if line.xid is not None:
            self._on_xid(line.xid)

    def _kill(self) -> None:
        """End the probe. It is not waited for: one that hangs in the driver may never go."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process = None
