"""Every domain value that the store keeps is read back as it was written."""

from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpusched.domain.allocation import Allocation
from gpusched.domain.commands import Command
from gpusched.domain.events import Event
from gpusched.domain.job import Job
from gpusched.domain.node import Node
from gpusched.domain.telemetry import DeviceUse, NodeUse
from gpusched.store.codec import ALLOCATION, COMMANDS, EVENTS, JOB, NODE, NODE_USE, encode, kind_of

seconds = st.none() | st.floats(allow_nan=False, allow_infinity=False)
device_uses = st.builds(DeviceUse, busy_s=seconds, energy_j=seconds)
node_uses = st.builds(
    NodeUse,
    wall_s=st.floats(allow_nan=False, allow_infinity=False),
    cpu_s=seconds,
    devices=st.lists(device_uses, max_size=3).map(tuple),
)
generous = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def values(kind):
    given_uses = {"use": node_uses} if kind.__name__ == "TasksEnded" else {}
    return st.builds(kind, **given_uses) if given_uses else st.from_type(kind)


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
@generous
@given(data=st.data())
def test_every_event_round_trips(kind, data):
    event = data.draw(values(kind))
    assert EVENTS.decode(kind_of(event), encode(event)) == event


@pytest.mark.parametrize("kind", get_args(Command), ids=lambda kind: kind.__name__)
@generous
@given(data=st.data())
def test_every_command_round_trips(kind, data):
    command = data.draw(values(kind))
    assert COMMANDS.decode(kind_of(command), encode(command)) == command


@pytest.mark.parametrize(
    ("codec", "kind"),
    [(JOB, Job), (NODE, Node), (ALLOCATION, Allocation)],
    ids=["Job", "Node", "Allocation"],
)
@generous
@given(data=st.data())
def test_every_projection_round_trips(codec, kind, data):
    value = data.draw(values(kind))
    assert codec.decode(encode(value)) == value


@generous
@given(use=node_uses)
def test_every_measurement_round_trips_with_zero_and_none_apart(use):
    assert NODE_USE.decode(encode(use)) == use
