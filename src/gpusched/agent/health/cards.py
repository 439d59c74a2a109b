"""What is wrong with the cards, from one look to the next. Pure: no NVML here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pynvml

from gpusched.agent.health.kmsg import PciAddress, parse_pci
from gpusched.agent.health.nvml_probe import CardReading
from gpusched.domain.health import Condition, Signal
from gpusched.domain.ids import DeviceUuid
from gpusched.domain.node import Device

LOOKS_TO_BELIEVE = 3
"""A slowdown must last this many looks: clocks are lowered for moments on sound machines."""

_SLOWDOWNS = (
    (
        Signal.THERMAL_SLOWDOWN,
        pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        "clocks lowered for heat",
    ),
    (Signal.POWER_BRAKE, pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown, "the power supply brakes it"),
)


class CardHistory:
    """Remembers what one look alone cannot tell: links there were, counters, how long a slowdown lasts."""

    def __init__(self, devices: Iterable[Device]) -> None:
        self._by_address: dict[PciAddress, tuple[DeviceUuid, ...]] = {}
        self._by_uuid: dict[str, tuple[DeviceUuid, ...]] = {}
        for device in devices:
            if device.declared:
                continue
            address = None if device.pci_bus_id is None else parse_pci(device.pci_bus_id)
            if address is None:
                self._by_uuid[device.uuid] = (device.uuid,)
            else:
                self._by_address[address] = (*self._by_address.get(address, ()), device.uuid)
        self._links: dict[tuple[DeviceUuid, ...], int] = {}
        self._link_errors: dict[tuple[DeviceUuid, ...], int] = {}
        self._slow: dict[tuple[Signal, tuple[DeviceUuid, ...]], int] = {}

    @property
    def is_empty(self) -> bool:
        """No card was ever there."""
        return not self._by_address and not self._by_uuid

    def devices_at(self, pci_bus_id: str | None, uuid: str | None = None) -> tuple[DeviceUuid, ...]:
        """The device of a card, or its slices; none if the card is not known."""
        address = None if pci_bus_id is None else parse_pci(pci_bus_id)
        found = None if address is None else self._by_address.get(address)
        return found or self._by_uuid.get(uuid or "", ())

    def judge(self, cards: Sequence[CardReading]) -> tuple[Condition, ...]:
        """Everything that is wrong at this look."""
        found = {self.devices_at(card.pci_bus_id, card.uuid): card for card in cards}
        found.pop((), None)  # a card that came later is no business of ours
        conditions = [condition for devices, card in found.items() for condition in self._of(devices, card)]
        for devices in (*self._by_address.values(), *self._by_uuid.values()):
            if devices not in found:
                detail = "NVML does not list it any more"
                conditions.append(Condition(signal=Signal.GPU_LOST, devices=devices, detail=detail))
        return tuple(conditions)

    def _of(self, devices: tuple[DeviceUuid, ...], card: CardReading) -> Iterator[Condition]:
        def wrong(signal: Signal, detail: str, code: int | None = None) -> Condition:
            return Condition(signal=signal, devices=devices, detail=detail, code=code)

        if card.lost is not None:
            yield wrong(Signal.GPU_LOST, card.lost)
            return
        if card.ecc_uncorrected:
            yield wrong(Signal.ECC_UNCORRECTED, f"{card.ecc_uncorrected} since the driver loaded")
        if card.remap_failed:
            yield wrong(Signal.REMAP_FAILED, "a memory row could not be replaced")
        if card.remap_pending:
            yield wrong(Signal.REMAP_PENDING, "a memory row is replaced at the next reset")
        if card.recovery:
            yield wrong(Signal.RECOVERY, f"NVML asks for recovery action {card.recovery}", card.recovery)
        yield from self._links_of(devices, card)
        for signal, bit, words in _SLOWDOWNS:
            is_slow = card.slowdowns is not None and bool(card.slowdowns & bit)
            looks = self._slow.get((signal, devices), 0) + 1 if is_slow else 0
            self._slow[signal, devices] = looks
            if looks >= LOOKS_TO_BELIEVE:
                yield wrong(signal, words)

    def _links_of(self, devices: tuple[DeviceUuid, ...], card: CardReading) -> Iterator[Condition]:
        if card.links_active is not None:
            most = self._links[devices] = max(card.links_active, self._links.get(devices, 0))
            if card.links_active < most:
                detail = f"{most - card.links_active} of {most} NVLinks are not active any more"
                yield Condition(signal=Signal.NVLINK_INACTIVE, devices=devices, detail=detail)
        if card.link_errors is not None:
            before = self._link_errors.get(devices, card.link_errors)
            self._link_errors[devices] = card.link_errors
            if card.link_errors > before:
                detail = f"{card.link_errors - before} replays and recoveries since the last look"
                yield Condition(signal=Signal.NVLINK_ERRORS, devices=devices, detail=detail)
