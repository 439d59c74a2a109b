"""Everything that watches this node's health, and what the head orders done about it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from gpusched.agent.health.cards import CardHistory
from gpusched.agent.health.held import HeldDevices
from gpusched.agent.health.hooks import Hooks
from gpusched.agent.health.host_checks import HostChecks
from gpusched.agent.health.kmsg import KmsgUnreadable, KmsgWatch, XidLine
from gpusched.agent.health.nvml_probe import CardReading, SeenXid
from gpusched.agent.health.nvml_watch import NvmlWatch
from gpusched.agent.health.picture import Picture
from gpusched.agent.health.programs import run_program
from gpusched.agent.health.settings import DEVICE_WORD, KMSG, HealthSettings
from gpusched.agent.metering import Meters
from gpusched.agent.nvml_call import NvmlBroken
from gpusched.agent.shim.lease import boot_time_us
from gpusched.domain.commands import RepairNode
from gpusched.domain.events import HealthReport, RepairEnded, TasksEnded
from gpusched.domain.health import Condition, HealthObserved, Signal
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.launch_plan import NodeLaunch
from gpusched.domain.node import Device
from gpusched.domain.telemetry import NodeSample

log = logging.getLogger(__name__)

HOST, CLOCK, NVML, CHECKS, HELD = "host", "clock", "nvml", "checks", "held"
WORDS_MAX = 300


class HealthMonitor:
    """Watches one node. ``run`` goes on until cancelled; the rest is for the session.

    Args:
        node: Its name.
        boot_id: Of this boot.
        devices: What NVML found, or what is declared.
        settings: What to look at.
        meters: Hold the driver open, and let it go for a reset.
        in_use: Devices that attempts hold.
        tell: Takes what the head must hear.

    Raises:
        ConfigInvalid: A hook may be changed by others.
    """

    def __init__(
        self,
        node: NodeName,
        boot_id: str,
        devices: Sequence[Device],
        settings: HealthSettings,
        *,
        meters: Meters,
        in_use: Callable[[], frozenset[DeviceUuid]],
        tell: Callable[[HealthReport], None],
    ) -> None:
        self._node, self._settings, self._tell = node, settings, tell
        self._devices = tuple(devices)
        self._meters, self._in_use = meters, in_use
        self._hooks = Hooks(node, settings.hooks)
        self._host = HostChecks(settings)
        self._cards = CardHistory(devices)
        self._held = HeldDevices(settings.held_max_s)
        self._nvml = NvmlWatch(
            settings.interval_s,
            on_cards=self._on_cards,
            on_xid=self._on_nvml_xid,
            on_silence=self._on_silence,
            silence_max_s=settings.nvml_silence_max_s,
        )
        sources = [HOST, CLOCK, HELD]
        sources += [NVML] if self._has_cards else []
        sources += [CHECKS] if self._hooks.has_checks else []
        self._picture = Picture(node, boot_id, sources=sources, now_us=boot_time_us, tell=tell)
        self._reads_kmsg = False
        self._check_now = asyncio.Event()
        self._repairing = asyncio.Lock()
        self._resetting: frozenset[DeviceUuid] = frozenset()
        self._answers: dict[int, RepairEnded] = {}

    @property
    def has_epilog(self) -> bool:
        """Whether something runs after an attempt."""
        return bool(self._settings.hooks.epilog)

    async def run(self) -> None:
        """Watch until cancelled."""
        with ExitStack() as stack:
            self._watch_kmsg(stack)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_host())
                if self._has_cards:
                    tasks.create_task(self._nvml.run())
                if self._hooks.has_checks:
                    tasks.create_task(self._check_regularly())

    # ── for the session ──────────────────────────────────────────────────────────────────

    def acknowledge(self, fact: HealthReport) -> None:
        """The head has committed it."""
        if isinstance(fact, HealthObserved):
            self._picture.acknowledge(fact)

    def observe(self, sample: NodeSample) -> None:
        """Look at a heartbeat's sample for devices that are held though no attempt has them."""
        self._picture.put(HELD, self._held.look(sample, self._in_use(), time.monotonic()))

    def compare_clocks(self, head_us: int | None, sent_us: int, received_us: int) -> None:
        """Judge this wall clock by the head's (``certain_skew_s``)."""
        conditions: tuple[Condition, ...] = ()
        skew_s = 0.0 if head_us is None else certain_skew_s(head_us, sent_us, received_us)
        if skew_s > self._settings.clock_skew_max_s:
            detail = f"{skew_s:.1f} s or more apart from the head's"
            conditions = (Condition(signal=Signal.CLOCK_SKEW, detail=detail),)
        self._picture.put(CLOCK, conditions)

    async def prolog(self, launch: NodeLaunch) -> str | None:
        """Run what the site wants done before an attempt; the reason if it failed."""
        if self._resetting.intersection(launch.devices):
            async with self._repairing:  # nothing starts in the middle of a reset
                pass
        failure = await self._hooks.prolog(launch)
        if failure is not None:
            self._picture.see(Condition(signal=Signal.PROLOG_FAILED, detail=failure))
        return failure

    async def epilog(self, ended: TasksEnded) -> None:
        """Run what the site wants done after an attempt, and look at the node again."""
        failure = await self._hooks.epilog(ended)
        if failure is not None:
            self._picture.see(Condition(signal=Signal.EPILOG_FAILED, detail=failure))
        self._check_now.set()

    async def repair(self, order: RepairNode) -> None:
        """Carry out a repair and tell how it went; one that was done before is only told again."""
        async with self._repairing:
            if order.number not in self._answers:
                failures = await self._reset(order.reset) or await self._check(order.check)
                self._answers[order.number] = RepairEnded(
                    node=self._node, number=order.number, failures=failures
                )
        self._tell(self._answers[order.number])

    # ── mending ──────────────────────────────────────────────────────────────────────────

    async def _reset(self, uuids: Sequence[DeviceUuid]) -> tuple[str, ...]:
        """Reset devices, one after the other; why that did not work, if it did not."""
        real = [device for device in self._devices if device.uuid in uuids and not device.declared]
        cards = dict.fromkeys(map(_card, real))
        if not cards:
            return ()
        if busy := self._in_use().intersection(uuids):
            return (f"{', '.join(sorted(busy))} not reset: a job holds it",)
        self._resetting = frozenset(uuids)
        try:
            async with self._nvml.released(), self._meters.released():
                for card in cards:
                    argv = tuple(word.replace(DEVICE_WORD, card) for word in self._settings.reset)
                    ran = await run_program(argv, self._settings.reset_timeout_s)
                    log.warning("reset of %s: %s", card, ran.failure or "done")
                    if ran.failure is not None:
                        return (f"{card} not reset: {ran.failure}",)
        except NvmlBroken as error:
            return (str(error),)
        finally:
            self._resetting = frozenset()
        return ()

    async def _check(self, devices: Sequence[DeviceUuid]) -> tuple[str, ...]:
        """Look again at everything; what is wrong with these devices, or with anything if none is named."""
        await self._look_at_host()
        if self._has_cards:
            await self._nvml.look()
        if self._hooks.has_checks:
            await self._look_at_checks()
        return tuple(
            f"{condition.signal}: {condition.detail}"
            for condition in self._picture.conditions
            if not condition.devices or not devices or set(condition.devices) & set(devices)
        )

    # ── watching ─────────────────────────────────────────────────────────────────────────

    @property
    def _has_cards(self) -> bool:
        return not self._cards.is_empty

    async def _watch_host(self) -> None:
        while True:
            await self._look_at_host()
            await asyncio.sleep(self._settings.interval_s)

    async def _look_at_host(self) -> None:
        self._picture.put(HOST, await asyncio.to_thread(self._host.look, time.monotonic()))

    async def _check_regularly(self) -> None:
        """At the interval, and as soon as an attempt has ended."""
        while True:
            self._check_now.clear()
            await self._look_at_checks()
            try:
                async with asyncio.timeout(self._settings.hooks.check_interval_s):
                    await self._check_now.wait()
            except TimeoutError:
                continue

    async def _look_at_checks(self) -> None:
        failures = await self._hooks.check()
        self._picture.put(CHECKS, (Condition(signal=Signal.CHECK_FAILED, detail=why) for why in failures))

    def _on_cards(self, cards: tuple[CardReading, ...]) -> None:
        self._picture.put(NVML, self._cards.judge(cards))

    def _on_silence(self, why: str) -> None:
        self._picture.put(NVML, (Condition(signal=Signal.NVML_SILENT, detail=why),))

    def _watch_kmsg(self, stack: ExitStack) -> None:
        path = self._settings.kmsg or (KMSG if self._has_cards else None)
        if path is None:
            return
        watch = KmsgWatch(path, self._on_xid)
        try:
            watch.open()
        except KmsgUnreadable as error:
            log.warning("Xids come from NVML, without the driver's words: %s", error)
            return
        self._reads_kmsg = True
        stack.callback(watch.close)

    def _on_xid(self, line: XidLine) -> None:
        bus_id = None if line.address is None else "{:x}:{:x}:{:x}".format(*line.address)
        self._see_xid(line.code, self._cards.devices_at(bus_id), line.words)

    def _on_nvml_xid(self, seen: SeenXid) -> None:
        if not self._reads_kmsg:  # which has words to it, and speaks also of cards that NVML has lost
            self._see_xid(seen.code, self._cards.devices_at(seen.pci_bus_id), "")

    def _see_xid(self, code: int, devices: tuple[DeviceUuid, ...], words: str) -> None:
        log.warning("Xid %d on %s: %s", code, ", ".join(devices) or "an unknown device", words)
        self._picture.see(Condition(signal=Signal.XID, code=code, devices=devices, detail=words[:WORDS_MAX]))


def certain_skew_s(head_us: int, sent_us: int, received_us: int) -> float:
    """How far two wall clocks are apart at least, whatever the messages took; 0 if nothing is certain.

    The head read its clock somewhere between our sending and our receiving, so it may be off by
    anything up to half the round trip from what the middle suggests (RFC 5905, clock filter).

    Args:
        head_us: The head's clock.
        sent_us: Ours when the heartbeat was sent.
        received_us: Ours when the answer came; a clock that was set back in between tells nothing.
    """
    if received_us < sent_us:
        return 0.0
    apart_us = abs(head_us - (sent_us + received_us) / 2) - (received_us - sent_us) / 2
    return max(0.0, apart_us / 1e6)


def _card(device: Device) -> str:
    """How a program names the card: a slice is reset with its card, which only its PCI address names."""
    if device.mig_enabled and device.pci_bus_id is not None:
        return device.pci_bus_id
    return device.uuid
