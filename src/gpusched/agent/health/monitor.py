"""Everything that watches this node's health, and what the head orders done about it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from gpusched.agent.health.host_checks import HostChecks
from gpusched.agent.health.kmsg import KmsgUnreadable, KmsgWatch, XidLine, parse_pci
from gpusched.agent.health.picture import Picture
from gpusched.agent.health.programs import run_program
from gpusched.agent.health.settings import DEVICE_WORD, KMSG, HealthSettings
from gpusched.agent.metering import Meters
from gpusched.agent.nvml_call import NvmlBroken
from gpusched.agent.shim.lease import boot_time_us
from gpusched.domain.commands import RepairNode
from gpusched.domain.events import HealthReport, RepairEnded
from gpusched.domain.health import Condition, HealthObserved, Signal
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.node import Device

log = logging.getLogger(__name__)

HOST, CLOCK = "host", "clock"
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
        self._host = HostChecks(settings)
        self._picture = Picture(node, boot_id, sources=(HOST, CLOCK), now_us=boot_time_us, tell=tell)
        self._meters, self._in_use = meters, in_use
        self._repairing = asyncio.Lock()
        self._answers: dict[int, RepairEnded] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        with ExitStack() as stack:
            self._watch_kmsg(stack)
            while True:
                await self._look_at_host()
                await asyncio.sleep(self._settings.interval_s)

    def acknowledge(self, fact: HealthReport) -> None:
        """The head has committed it."""
        if isinstance(fact, HealthObserved):
            self._picture.acknowledge(fact)

    def compare_clocks(self, head_us: int | None, sent_us: int, received_us: int) -> None:
        """Judge this clock by the head's, as far as the round trip allows.

        The head read its clock somewhere between our sending and our receiving, so it may be off by
        anything up to half the round trip from what the middle suggests (RFC 5905, clock filter).

        Args:
            head_us: The head's wall clock; None if it does not tell.
            sent_us: Ours when the heartbeat was sent.
            received_us: Ours when the answer came.
        """
        conditions: tuple[Condition, ...] = ()
        if head_us is not None and received_us >= sent_us:
            apart_s = abs(head_us - (sent_us + received_us) / 2) / 1e6
            certain_s = apart_s - (received_us - sent_us) / 2e6
            if certain_s > self._settings.clock_skew_max_s:
                detail = f"{certain_s:.1f} s or more apart from the head's"
                conditions = (Condition(signal=Signal.CLOCK_SKEW, detail=detail),)
        self._picture.put(CLOCK, conditions)

    async def repair(self, order: RepairNode) -> None:
        """Carry out a repair and tell how it went; one that was done before is only told again."""
        async with self._repairing:
            if order.number not in self._answers:
                failures = await self._reset(order.reset) or await self._check(order.check)
                self._answers[order.number] = RepairEnded(
                    node=self._node, number=order.number, failures=failures
                )
        self._tell(self._answers[order.number])

    async def _reset(self, uuids: Sequence[DeviceUuid]) -> tuple[str, ...]:
        """Reset devices, one after the other; why that did not work, if it did not."""
        real = [device for device in self._devices if device.uuid in uuids and not device.declared]
        cards = dict.fromkeys(map(_card, real))
        if not cards:
            return ()
        if busy := self._in_use().intersection(uuids):
            return (f"{', '.join(sorted(busy))} not reset: a job holds it",)
        try:
            async with self._meters.released():
                for card in cards:
                    argv = tuple(word.replace(DEVICE_WORD, card) for word in self._settings.reset)
                    ran = await run_program(argv, self._settings.reset_timeout_s)
                    log.warning("reset of %s: %s", card, ran.failure or "done")
                    if ran.failure is not None:
                        return (f"{card} not reset: {ran.failure}",)
        except NvmlBroken as error:
            return (str(error),)
        return ()

    async def _check(self, devices: Sequence[DeviceUuid]) -> tuple[str, ...]:
        """Look again at everything; what is wrong with these devices, or with anything if none is named."""
        await self._look_at_host()
        return tuple(
            f"{condition.signal}: {condition.detail}"
            for condition in self._picture.conditions
            if not condition.devices or not devices or set(condition.devices) & set(devices)
        )

    async def _look_at_host(self) -> None:
        self._picture.put(HOST, await asyncio.to_thread(self._host.look, time.monotonic()))

    def _watch_kmsg(self, stack: ExitStack) -> None:
        has_cards = any(not device.declared for device in self._devices)
        path = self._settings.kmsg or (KMSG if has_cards else None)
        if path is None:
            return
        watch = KmsgWatch(path, self._on_xid)
        try:
            watch.open()
        except KmsgUnreadable as error:
            log.warning("Xids are not read from the kernel's log: %s", error)
            return
        stack.callback(watch.close)

    def _on_xid(self, line: XidLine) -> None:
        devices = self._at(line)
        log.warning("Xid %d on %s: %s", line.code, ", ".join(devices) or "an unknown device", line.words)
        self._picture.see(
            Condition(signal=Signal.XID, code=line.code, devices=devices, detail=line.words[:WORDS_MAX])
        )

    def _at(self, line: XidLine) -> tuple[DeviceUuid, ...]:
        """The devices at a PCI address: a card, or all its slices."""
        if line.address is None:
            return ()
        return tuple(
            sorted(
                device.uuid
                for device in self._devices
                if device.pci_bus_id is not None and parse_pci(device.pci_bus_id) == line.address
            )
        )


def _card(device: Device) -> str:
    """How a program names the card: a slice is reset with its card, which only its PCI address names."""
    if device.mig_enabled and device.pci_bus_id is not None:
        return device.pci_bus_id
    return device.uuid
