"""Every parser of what people and machines write, with the one kind of error by which it refuses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpusched.agent.health.kmsg import parse_xid
from gpusched.api.auth import TokenAuthority
from gpusched.api.token_keys import TokenKeys
from gpusched.cli.directives import read_directives
from gpusched.cli.yamlfile import read_drafts
from gpusched.daemon.clock import SystemClock
from gpusched.daemon.slurm_topology import read_slurm_topology
from gpusched.daemon.traces import TraceFormat, read_trace
from gpusched.domain.errors import ConfigInvalid, GpuschedError, InvalidSpec, Unauthenticated
from gpusched.domain.hostlist import expand_hostlist
from gpusched.wire.address import parse_addresses

# Words of each grammar, so that more than the first check is reached.
WORDS = (
    *("n", "[", "]", "-", ",", "01", "999999999", "node[1-3]", "\0", "\n", "\udc80", "🦙", " ", "=", ":"),
    *("SwitchName=s", "Nodes=", "Switches=", "BlockName=b", "LinkSpeed=", "#SBATCH ", "#GPUSCHED ", "--"),
    *("nodes", "gpus", "time", "'", '"', "\\", "$(id)", "{", "}", "- ", "&a", "*a"),
    *("!!python/object:os.system [", "NVRM: Xid (PCI:0000:3b:00): 79, "),
    *("job_id", "submit_time", "timestamp", "num_gpus", "\t", "e", ".", "1e999", "nan", "unix:///", "7460"),
)


@dataclass(frozen=True, slots=True)
class Parser:
    """Reads data into something, or refuses it."""

    read: Callable[[bytes], Any]
    refusal: type[GpuschedError]

    def takes(self, data: bytes) -> bool:
        """Whether ``data`` is a value; whatever else than the refusal is raised comes out."""
        try:
            self.read(data)
        except self.refusal as error:
            assert str(error)
            return False
        return True


def of_text(read: Callable[[str], Any], refusal: type[GpuschedError]) -> Parser:
    """One that is given text, as Python has it of a command line: any bytes at all."""
    return Parser(lambda data: read(data.decode("utf-8", "surrogateescape")), refusal)


def of_file(name: str, read: Callable[[Path], Any], refusal: type[GpuschedError]) -> Parser:
    """One that is given a file."""

    def read_data(data: bytes) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            return read(path)

    return Parser(read_data, refusal)


def _authority() -> TokenAuthority:
    with tempfile.TemporaryDirectory() as folder:
        return TokenAuthority(TokenKeys(Path(folder) / "token.key"), "c", frozenset(), SystemClock())


_authenticate = _authority().authenticate

PARSERS: dict[str, Parser] = {
    "host list": of_text(expand_hostlist, InvalidSpec),
    "directives": of_text(lambda text: read_directives(f"#!/bin/sh\n#SBATCH {text}\n", "s"), InvalidSpec),
    "token": of_text(_authenticate, Unauthenticated),
    "token of three parts": of_text(
        lambda text: _authenticate(f"eyJhbGciOiJFZERTQSJ9.{text}.e30"), Unauthenticated
    ),
    "addresses": of_text(parse_addresses, ConfigInvalid),
    "kernel line": of_text(lambda text: parse_xid(text) or text, GpuschedError),
    "job file": Parser(lambda data: read_drafts(data, "job.yaml"), InvalidSpec),
    "topology.conf": of_file("topology.conf", lambda path: read_slurm_topology(path, {}), ConfigInvalid),
    "topology.yaml": of_file("topology.yaml", lambda path: read_slurm_topology(path, {}), ConfigInvalid),
    **{
        f"trace of {each}": of_file("trace.csv", lambda path, each=each: read_trace(path, each), InvalidSpec)
        for each in TraceFormat
    },
}
