"""Whatever is read, a parser gives a value or its one kind of error: no other exception, no hang."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

# Words of each grammar among anything else, so that more than the first check is reached.
WORDS = (
    *("n", "[", "]", "-", ",", "01", "999999999", "node[1-3]", "\0", "\n", "\udc80", "🦙", " ", "=", ":"),
    *("SwitchName=s", "Nodes=", "Switches=", "BlockName=b", "LinkSpeed=", "#SBATCH ", "#GPUSCHED ", "--"),
    *(
        "nodes",
        "gpus",
        "time",
        "'",
        '"',
        "\\",
        "$(id)",
        "{",
        "}",
        "- ",
        "&a",
        "*a",
        "!!python/object:os.system [",
    ),
    *("job_id", "submit_time", "timestamp", "num_gpus", "\t", "e", ".", "1e999", "nan", "unix:///", "7460"),
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=30).map("".join))
DATA = st.one_of(st.binary(max_size=200), TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))


def in_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    def read_data(data: bytes) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            return read(path)

    return read_data


def authority() -> Callable[[str], Any]:
    with tempfile.TemporaryDirectory() as folder:
        keys = TokenKeys(Path(folder) / "token.key")
        return TokenAuthority(keys, "c", frozenset(), SystemClock()).authenticate


OF_TEXT: dict[str, tuple[Callable[[str], Any], type[GpuschedError]]] = {
    "host list": (expand_hostlist, InvalidSpec),
    "directives": (lambda text: read_directives(f"#!/bin/sh\n#SBATCH {text}\n", "s"), InvalidSpec),
    "token": (authority(), Unauthenticated),
    "token of three parts": (lambda text: CHECK(f"eyJhbGciOiJFZERTQSJ9.{text}.e30"), Unauthenticated),
    "addresses": (parse_addresses, ConfigInvalid),
}
CHECK = OF_TEXT["token"][0]
OF_DATA: dict[str, tuple[Callable[[bytes], Any], type[GpuschedError]]] = {
    "job file": (lambda data: read_drafts(data, "job.yaml"), InvalidSpec),
    "topology.conf": (in_file("topology.conf", lambda path: read_slurm_topology(path, {})), ConfigInvalid),
    "topology.yaml": (in_file("topology.yaml", lambda path: read_slurm_topology(path, {})), ConfigInvalid),
    **{
        f"trace of {each}": (
            in_file("trace.csv", lambda path, each=each: read_trace(path, each)),
            InvalidSpec,
        )
        for each in TraceFormat
    },
}


@pytest.mark.parametrize("what", OF_TEXT)
@given(text=TEXTS)
@settings(max_examples=150)
def test_any_text_is_a_value_or_refused(what: str, text: str) -> None:
    parse, refusal = OF_TEXT[what]
    try:
        assert parse(text) is not None
    except refusal as error:
        assert str(error)


@pytest.mark.parametrize("what", OF_DATA)
@given(data=DATA)
@settings(max_examples=100)
def test_any_file_is_a_value_or_refused(what: str, data: bytes) -> None:
    parse, refusal = OF_DATA[what]
    try:
        assert parse(data) is not None
    except refusal as error:
        assert str(error)
