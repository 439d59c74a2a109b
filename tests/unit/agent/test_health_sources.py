"""What an agent can see of a sick host, each against a folder, a fifo or a value made for it."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.agent.health.host_checks import Asker, Failed, HostChecks
from gpusched.agent.health.kmsg import KmsgUnreadable, KmsgWatch, XidLine, parse_pci, parse_xid
from gpusched.agent.health.monitor import certain_skew_s
from gpusched.agent.health.picture import TOLD_MAX, WINDOW_US, Picture
from gpusched.agent.health.settings import HealthSettings
from gpusched.domain.health import Condition, HealthObserved, Signal


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.",
            XidLine(79, (0, 0x3B, 0), "pid=1234, GPU has fallen off the bus."),
        ),
        ("[12.5] NVRM: Xid (0000:03:00): 14, Channel 00000001", XidLine(14, (0, 3, 0), "Channel 00000001")),
        ("NVRM: Xid (PCI:00000001:0A:1f.0): 8", XidLine(8, (1, 10, 31), "")),
        ("NVRM: Xid (PCI:nowhere): 8, words", None),
        ("containerBoxID=Xid79Xid (PCI:0000:3b:00): 79", None),
        ("NVRM: loading NVIDIA UNIX Kernel Module", None),
    ],
)
def test_an_xid_is_read_from_the_drivers_line_and_from_no_other(text: str, found: XidLine | None) -> None:
    assert parse_xid(text) == found


@given(st.text(max_size=200))
def test_any_text_is_a_line_without_an_xid_or_with_one(text: str) -> None:
    assert parse_xid(text) is None or "NVRM: Xid" in text
    parse_pci(text)
    assert parse_xid(f"NVRM: Xid (PCI:0000:3b:00): 31, {text}") is not None


async def test_the_log_is_read_from_its_end_and_in_pieces(tmp_path: Path) -> None:
    log, seen = tmp_path / "kmsg", asyncio.Queue[XidLine]()
    os.mkfifo(log)
    watch = KmsgWatch(log, seen.put_nowait)
    watch.open()
    fd = os.open(log, os.O_WRONLY)
    os.write(fd, b"6,1,1,-;nothing here\n3,2,2,-;NVRM: Xid (PCI:0000:3b:00)")
    os.write(fd, b": 95, words\n4,3,3,-;NVRM: Xid (PCI:0000:3c:00): 31\n")
    os.close(fd)
    async with asyncio.timeout(10):
        assert [(await seen.get()).code, (await seen.get()).code] == [95, 31]
    watch.close()


async def test_a_log_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(KmsgUnreadable, match="no-log"):
        KmsgWatch(tmp_path / "no-log", print).open()


class Told:
    """A picture, its clock and what it told."""

    def __init__(self, *sources: str) -> None:
        self.now_us = 0
        self.told: list[HealthObserved] = []
        self.picture = Picture(
            "n1", "boot", sources=sources, now_us=lambda: self.now_us, tell=self.told.append
        )


DISK = Condition(signal=Signal.DISK_FULL, detail="/")
XID = Condition(signal=Signal.XID, code=31, detail="")


def test_nothing_is_told_while_nothing_changes() -> None:
    it = Told("host", "nvml")
    it.picture.put("host", ())
    assert it.told == []
    it.picture.put("nvml", ())
    assert [(observed.conditions, observed.is_complete) for observed in it.told] == [((), True)]
    for detail in ("/ is 91 % full", "/ is 92 % full"):
        it.picture.put("host", (Condition(signal=Signal.DISK_FULL, detail=detail),))
    assert len(it.told) == 2
    it.picture.put("host", ())
    assert len(it.told) == 3


def test_a_picture_is_incomplete_until_every_source_has_spoken() -> None:
    it = Told("host", "nvml")
    it.picture.put("host", (DISK,))
    assert not it.told[-1].is_complete
    it.picture.put("nvml", ())
    assert it.told[-1].is_complete


def test_two_faults_of_one_kind_are_one_condition_that_names_both() -> None:
    it = Told("host")
    missing = (Condition(signal=Signal.MOUNT_MISSING, detail=f"/{name} is not mounted") for name in "ab")
    it.picture.put("host", missing)
    assert [c.detail for c in it.picture.conditions] == ["/a is not mounted; /b is not mounted"]


def test_sightings_are_told_until_acknowledged_and_so_many_a_minute() -> None:
    it = Told()
    for _ in range(100):
        it.picture.see(XID)
    assert len(it.told) == TOLD_MAX
    stamps = [sighting.observed_us for sighting in it.told[-1].sightings]
    assert stamps == sorted(set(stamps))
    it.picture.acknowledge(it.told[-2])
    it.now_us += WINDOW_US
    it.picture.see(XID)
    assert len(it.told[-1].sightings) == 2


def laid_out(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def signals(conditions: tuple[Condition, ...]) -> list[Signal]:
    return [condition.signal for condition in conditions]


def test_a_port_is_down_while_it_is_down_and_flaps_if_that_comes_again(tmp_path: Path) -> None:
    state = "sys/class/infiniband/mlx5_0/ports/1/state"
    checks = HostChecks(HealthSettings(disks=(), ports=("mlx5_0/1", "eth0")), tmp_path)
    up, down = {state: "4: ACTIVE\n"}, {state: "1: DOWN\n"}
    laid_out(tmp_path, {**up, "sys/class/net/eth0/operstate": "up\n"})
    assert signals(checks.look(0)) == []
    laid_out(tmp_path, down)
    assert signals(checks.look(10)) == [Signal.PORT_DOWN]
    laid_out(tmp_path, up)
    assert signals(checks.look(20)) == []
    laid_out(tmp_path, down)
    assert signals(checks.look(30)) == [Signal.PORT_DOWN, Signal.PORT_FLAPPING]
    laid_out(tmp_path, up)
    assert signals(checks.look(40)) == [Signal.PORT_FLAPPING]
    assert signals(checks.look(400)) == []
    laid_out(tmp_path, {"sys/class/net/eth0/operstate": "down\n"})
    assert signals(checks.look(410)) == [Signal.PORT_DOWN]


def test_a_process_is_stuck_after_a_minute_in_state_d(tmp_path: Path) -> None:
    def stat(state: str, start: int = 77, flags: int = 0) -> dict[str, str]:
        return {"proc/12/stat": f"12 (a (b) c) {state} 1 1 1 0 0 {flags} {'0 ' * 12}{start} 0"}

    checks = HostChecks(HealthSettings(disks=()), tmp_path)
    laid_out(tmp_path, stat("D"))
    assert signals(checks.look(0)) == []
    (stuck,) = checks.look(61)
    assert stuck.signal is Signal.STUCK_PROCESSES
    assert "a (b) c (12)" in stuck.detail
    laid_out(tmp_path, stat("D", start=78))  # the number was given to another
    assert signals(checks.look(62)) == []
    laid_out(tmp_path, stat("D", flags=0x0020_0000))  # a kernel thread may wait as it likes
    assert signals(checks.look(200)) == []
    assert signals(checks.look(300)) == []


def test_what_is_no_mount_point_is_missing(tmp_path: Path) -> None:
    checks = HostChecks(HealthSettings(disks=(), mounts=(Path("/proc"), tmp_path, tmp_path / "gone")))
    missing = checks.look(0)
    assert signals(missing) == [Signal.MOUNT_MISSING] * 2
    assert f"{tmp_path} is not mounted" in missing[0].detail


def test_a_path_that_does_not_answer_is_asked_once_and_holds_up_nobody_else() -> None:
    gate, asked = threading.Event(), []

    def ask(path: Path) -> bool:
        asked.append(path)
        return gate.wait(30) if path == Path("/dead") else True

    asker = Asker(ask, wait_s=0.1)
    for _ in range(3):
        answers = asker.answers((Path("/dead"), Path("/well")))
        assert answers[Path("/well")] is True
        assert isinstance(answers[Path("/dead")], Failed)
    assert asked.count(Path("/dead")) == 1
    gate.set()


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**8), st.integers(0, 10**8))
def test_a_skew_is_never_more_than_the_clocks_are_apart(offset_us: int, there_us: int, back_us: int) -> None:
    sent_us = 10**12
    head_us = sent_us + there_us + offset_us
    found_s = certain_skew_s(head_us, sent_us, sent_us + there_us + back_us)
    assert 0 <= found_s <= abs(offset_us) / 1e6 + 1e-6
    assert found_s >= abs(offset_us) / 1e6 - (there_us + back_us) / 1e6 - 1e-6


def test_a_clock_that_was_set_back_meanwhile_tells_nothing() -> None:
    assert certain_skew_s(10**12, 10**12 + 5, 10**12) == 0
