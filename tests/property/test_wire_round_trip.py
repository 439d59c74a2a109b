"""Whatever travels arrives as it was sent: every domain type, through bytes, zeros and absences included."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.domain import events, link
from gpusched.domain.commands import LaunchTasks
from gpusched.domain.launch_plan import NodeLaunch
from gpusched.domain.logs import LogQuery
from gpusched.wire.convert import CODECS, FROM_AGENT, FROM_HEAD

SCALARS = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=8),
    bytes: st.binary(max_size=8),
    bool: st.booleans(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Every value of a type hint, as far as it can travel."""
    hint = getattr(hint, "__supertype__", hint)
    origin, parts = get_origin(hint), get_args(hint)
    if hint is types.NoneType:
        return st.none()
    if origin in (Union, types.UnionType):
        return st.one_of([values(part) for part in parts])
    if origin is frozenset:
        return st.frozensets(values(parts[0]), max_size=2)
    if origin is tuple and parts[-1] is Ellipsis:
        return st.lists(values(parts[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, parts))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    if is_dataclass(hint):
        return SPECIAL[hint] if hint in SPECIAL else members(hint)
    return SCALARS[hint]


def members(cls: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    return st.deferred(
        lambda: st.builds(cls, **{field.name: values(hints[field.name]) for field in fields(cls)})
    )


SPECIAL: dict[type, st.SearchStrategy[Any]] = {
    # A launch says which job, epoch and node it is for; the command repeats it.
    LaunchTasks: members(NodeLaunch).map(
        lambda launch: LaunchTasks(job_id=launch.job_id, epoch=launch.epoch, node=launch.node, launch=launch)
    ),
    # "Of no rank" cannot be asked: no rank named means all of them.
    LogQuery: st.deferred(
        lambda: st.builds(
            LogQuery,
            **{name: values(hint) for name, hint in get_type_hints(LogQuery).items() if name != "ranks"},
            ranks=st.none() | st.lists(SCALARS[int], min_size=1, max_size=2).map(tuple),
        )
    ),
}


@pytest.mark.parametrize("domain", CODECS, ids=lambda domain: domain.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_a_value_arrives_as_it_was_sent(domain, data):
    value = data.draw(values(domain))
    codec = CODECS[domain]
    arrived = codec.message.FromString(codec.to_proto(value).SerializeToString())
    assert codec.from_proto(arrived) == value


@pytest.mark.parametrize(
    ("codec", "union"), [(FROM_AGENT, link.FromAgent), (FROM_HEAD, link.FromHead)], ids=["up", "down"]
)
@settings(max_examples=30)
@given(data=st.data())
def test_a_message_of_the_agents_stream_arrives_as_it_was_sent(codec, union, data):
    value = data.draw(values(union))
    assert codec.from_proto(codec.to_proto(value)) == value


def test_every_event_has_a_message():
    travelling = set(get_args(get_type_hints(events.Recorded)["event"]))
    assert travelling == set(get_args(events.Event))
    assert travelling <= set(CODECS)
