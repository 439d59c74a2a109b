"""A process of its own that asks NVML how the cards are, and waits for Xids.

NVML can block for ever on a sick card. Here it blocks nobody: the agent reads lines from this process
(``nvml_watch``) and, when none comes, says so and starts another. It writes one JSON document a line.

    python -m gpusched.agent.health.nvml_probe SECONDS
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import pynvml

from gpusched.agent.nvml_call import DeviceUnreadable, Handle, read, read_or_none

EVENT_WAIT_MS = 1_000
LINK_ERRORS = (pynvml.NVML_NVLINK_ERROR_DL_REPLAY, pynvml.NVML_NVLINK_ERROR_DL_RECOVERY)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardReading:
    """One card. None: it cannot tell. ``lost`` says why it told nothing at all."""

    uuid: str | None
    pci_bus_id: str | None
    lost: str | None = None
    ecc_uncorrected: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    recovery: int | None = None
    slowdowns: int | None = None  # nvmlClocksEventReasons, a bit mask
    links_active: int | None = None
    link_errors: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenXid:
    """An Xid event."""

    code: int
    pci_bus_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLine:
    """What the process says: that it lives, and perhaps a look at all cards, or an Xid."""

    cards: tuple[CardReading, ...] | None = None
    xid: SeenXid | None = None


@dataclass(slots=True)
class _Card:
    handle: Handle | None
    uuid: str | None
    pci_bus_id: str | None
    why: str | None = None


def main() -> None:
    """Probe until nobody reads any more."""
    interval_s = float(sys.argv[1])
    pynvml.nvmlInit()
    cards = list(_find_cards())
    events = _register(cards)
    look_at_s = time.monotonic()
    while True:
        if time.monotonic() >= look_at_s:
            _say(ProbeLine(cards=tuple(map(_read_card, cards))))
            look_at_s = time.monotonic() + interval_s
        xid = _wait(events, cards, look_at_s - time.monotonic())
        _say(ProbeLine(xid=xid))


def _say(line: ProbeLine) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _find_cards() -> Iterator[_Card]:
    for index in range(read(pynvml.nvmlDeviceGetCount)):
        handle = uuid = bus_id = None
        try:
            handle = read(pynvml.nvmlDeviceGetHandleByIndex, index)
            uuid = read(pynvml.nvmlDeviceGetUUID, handle)
            pci = read_or_none(pynvml.nvmlDeviceGetPciInfo_v3, handle)
            bus_id = None if pci is None else str(pci.busId).lower()
            yield _Card(handle, uuid, bus_id)
        except DeviceUnreadable as error:
            yield _Card(None, uuid, bus_id, str(error))


def _register(cards: Iterable[_Card]) -> Handle | None:
    """An event set for the Xids of all cards; None where the driver has none."""
    try:
        events = read(pynvml.nvmlEventSetCreate)
    except DeviceUnreadable:
        return None
    xids = pynvml.nvmlEventTypeXidCriticalError
    for card in cards:
        if card.handle is not None:
            try:
                read(pynvml.nvmlDeviceRegisterEvents, card.handle, xids, events)
            except DeviceUnreadable:
                continue  # this card tells of none, the others may
    return events


def _wait(events: Handle | None, cards: Iterable[_Card], left_s: float) -> SeenXid | None:
    wait_ms = max(0, min(EVENT_WAIT_MS, round(left_s * 1000)))
    if events is None:
        time.sleep(wait_ms / 1000)
        return None
    try:
        event = pynvml.nvmlEventSetWait_v2(events, wait_ms)
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_TIMEOUT:
            time.sleep(wait_ms / 1000)  # as after a lost card: the next look tells which
        return None
    try:
        pci = read_or_none(pynvml.nvmlDeviceGetPciInfo_v3, event.device)
    except DeviceUnreadable:
        pci = None
    return SeenXid(code=int(event.eventData), pci_bus_id=None if pci is None else str(pci.busId).lower())


def _read_card(card: _Card) -> CardReading:
    if card.handle is None:
        return CardReading(uuid=card.uuid, pci_bus_id=card.pci_bus_id, lost=card.why)
    handle = card.handle
    try:
        read(pynvml.nvmlDeviceGetUUID, handle)
        remapped = read_or_none(pynvml.nvmlDeviceGetRemappedRows, handle)
        active = list(_active_links(handle))
        return CardReading(
            uuid=card.uuid,
            pci_bus_id=card.pci_bus_id,
            ecc_uncorrected=read_or_none(
                pynvml.nvmlDeviceGetTotalEccErrors,
                handle,
                pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
                pynvml.NVML_VOLATILE_ECC,
            ),
            remap_pending=None if remapped is None else bool(remapped[2]),
            remap_failed=None if remapped is None else bool(remapped[3]),
            recovery=_read_recovery(handle),
            slowdowns=read_or_none(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle),
            links_active=len(active),
            link_errors=_read_link_errors(handle, active),
        )
    except DeviceUnreadable as error:
        return CardReading(uuid=card.uuid, pci_bus_id=card.pci_bus_id, lost=str(error))


def _active_links(handle: Handle) -> Iterator[int]:
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        if read_or_none(pynvml.nvmlDeviceGetNvLinkState, handle, link):
            yield link


def _read_link_errors(handle: Handle, links: Iterable[int]) -> int | None:
    counts = [
        read_or_none(pynvml.nvmlDeviceGetNvLinkErrorCounter, handle, link, counter)
        for link in links
        for counter in LINK_ERRORS
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _read_recovery(handle: Handle) -> int | None:
    values = read_or_none(
        pynvml.nvmlDeviceGetFieldValues, handle, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]
    )
    if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    return int(values[0].value.uiVal)


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(0)
    except (pynvml.NVMLError, DeviceUnreadable) as error:
        sys.exit(f"NVML: {error}")
