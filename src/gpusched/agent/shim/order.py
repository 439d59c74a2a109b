"""The order that a shim carries out: the agent writes it, the shim reads it without msgspec."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpusched.domain.identity import Identity
from gpusched.domain.ids import DeviceUuid, Epoch, JobId, NodeName
from gpusched.domain.job_spec import OnDisconnect, WarningSignal
from gpusched.domain.launch_plan import NodeLaunch, TaskLaunch


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """``launch.json``: what to start, and how to find it again."""

    boot_id: str  # of the boot in which it was accepted: it is never started in another
    token: str  # secret, in the environment of every rank: what carries it belongs to the attempt
    cgroup_parent: str | None  # where to make the attempt's control group
    launch: NodeLaunch
    lease: LeaseTerm | None = None  # the ranks end with it; None: they outlive every lease
    callback: Callback | None = None  # how ranks reach the head

    @property
    def cgroup_name(self) -> str:
        """The name of the attempt's control group: no other attempt on this machine has it.

        Everybody reads it in ``/proc/<pid>/cgroup``, so it tells neither the token nor the folder below.
        """
        return f"gpusched-{_digest('cgroup ' + self.token)}"

    @property
    def notes(self) -> Path:
        """The folder in which its ranks leave word: nobody can guess its name, nor the token from it."""
        return Path(tempfile.gettempdir()) / f"gpusched-notes-{_digest(self.token)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Callback:
    """How ranks reach the head: its addresses, their tokens' files up to the rank, the CA's file."""

    address: str
    token_prefix: str
    ca_file: str | None

    def env(self, global_rank: int) -> dict[str, str]:
        """For one rank; the token itself stands in a file that only its owner reads."""
        found = {
            "GPUSCHED_ADDRESS": self.address,
            "GPUSCHED_RANK_TOKEN_FILE": f"{self.token_prefix}.{global_rank}",
        }
        return found if self.ca_file is None else {**found, "GPUSCHED_CA_FILE": self.ca_file}


@dataclass(frozen=True, slots=True)
class LeaseTerm:
    """The lease under which an attempt was launched: a file of the agent's, and the term in it."""

    path: str
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopOrder:
    """``stop.json``: end the ranks."""

    kill_wait_s: int
    reason: str


def read_order(path: Path) -> Order:
    """Read ``launch.json``.

    Raises:
        OSError: It cannot be read.
    """
    plain = json.loads(path.read_bytes())
    lease, callback = plain.get("lease"), plain.get("callback")
    return Order(
        **{
            **plain,
            "launch": _launch(plain["launch"]),
            "lease": None if lease is None else LeaseTerm(**lease),
            "callback": None if callback is None else Callback(**callback),
        }
    )


def read_stop_order(path: Path) -> StopOrder | None:
    """Read ``stop.json``; None if there is none."""
    try:
        return StopOrder(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None


def _launch(plain: dict[str, Any]) -> NodeLaunch:
    return NodeLaunch(
        **{
            **plain,
            "job_id": JobId(plain["job_id"]),
            "epoch": Epoch(plain["epoch"]),
            "node": NodeName(plain["node"]),
            "owner": Identity(**plain["owner"]),
            "tasks": tuple(map(_task, plain["tasks"])),
            "devices": tuple(map(DeviceUuid, plain["devices"])),
            "signal": WarningSignal(**plain["signal"]),
            "on_disconnect": OnDisconnect(plain["on_disconnect"]),
        }
    )


def _task(plain: dict[str, Any]) -> TaskLaunch:
    return TaskLaunch(
        **{
            **plain,
            "argv": tuple(plain["argv"]),
            "env": tuple((name, value) for name, value in plain["env"]),
            "cpu_ids": tuple(plain["cpu_ids"]),
            "devices": tuple(map(DeviceUuid, plain["devices"])),
        }
    )
