"""A codec refuses declarations that do not match, and names the field of whatever it cannot translate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

import pytest

from gpusched.domain.errors import InvalidSpec
from gpusched.domain.identity import Identity
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.usage import GroupBy
from gpusched.v1 import agent_service_pb2, event_pb2, job_pb2, node_pb2
from gpusched.v1 import report_service_pb2 as report_pb
from gpusched.wire import convert
from gpusched.wire.codec import Codec
from gpusched.wire.codec_field import CodecMismatch
from gpusched.wire.convert import CODECS, JOB_SPEC


def fields_of(raised) -> list[str]:
    return [violation.field for violation in raised.value.violations]


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.domain.__name__)
def test_every_message_field_has_its_domain_field(codec):
    codec.build()
    descriptor = codec.message.DESCRIPTOR
    assert codec.field_names() <= set(descriptor.fields_by_name)


class TestMismatchesAreFoundWhenTheCodecIsBuilt:
    def build(self, domain, message, **options):
        with pytest.raises(CodecMismatch) as raised:
            Codec(domain, message, known={}, **options).build()
        return str(raised.value)

    def test_a_field_that_only_the_message_has(self):
        @dataclass
        class Nameless:
            uid: int
            gid: int

        assert "user" in self.build(Nameless, job_pb2.Identity)

    def test_a_field_that_only_the_domain_has(self):
        @dataclass
        class Titled:
            user: str
            uid: int
            gid: int
            title: str

        assert "title" in self.build(Titled, job_pb2.Identity)

    def test_none_where_the_message_cannot_tell_absent_from_zero(self):
        @dataclass
        class Unsure:
            user: str
            uid: int | None
            gid: int

        assert "optional" in self.build(Unsure, job_pb2.Identity)

    def test_an_enum_with_a_member_too_many(self):
        class Kind(StrEnum):
            VENV = "venv"
            CONDA = "conda"
            UV = "uv"
            NIX = "nix"

        @dataclass
        class Wider:
            kind: Kind
            target: str

        Wider.__annotations__["kind"] = Kind
        assert "different members" in self.build(Wider, job_pb2.Activation)


def test_an_unspecified_enum_is_refused_by_name():
    message = JOB_SPEC.to_proto(JobSpec(name="x"))
    message.launcher = job_pb2.LAUNCHER_UNSPECIFIED
    with pytest.raises(InvalidSpec, match="direct, torchrun") as raised:
        JOB_SPEC.from_proto(message)
    assert fields_of(raised) == ["launcher"]


def test_an_enum_value_of_a_later_version_is_refused_by_name():
    with pytest.raises(InvalidSpec, match="unknown value 99") as raised:
        convert.COST_QUERY.from_proto(report_pb.GetCostRequest(group_by=99))
    assert fields_of(raised) == ["group_by"]


def test_a_missing_message_is_refused_by_name():
    with pytest.raises(InvalidSpec, match="signal: is required"):
        JOB_SPEC.from_proto(job_pb2.JobSpec(name="x", launcher=job_pb2.LAUNCHER_DIRECT))


def test_an_empty_oneof_is_refused_by_name():
    with pytest.raises(InvalidSpec) as raised:
        convert.RECORDED.from_proto(event_pb2.Event(seq=1, at_us=1))
    assert fields_of(raised) == ["fact"]


def test_the_path_of_a_wrong_field_goes_through_lists_and_messages():
    facts = node_pb2.NodeFacts(
        devices=[node_pb2.Device(), node_pb2.Device(peers=[node_pb2.PeerLink(ancestor=77)])]
    )
    hello = agent_service_pb2.ConnectRequest(hello=agent_service_pb2.Hello(facts=facts))
    with pytest.raises(InvalidSpec) as raised:
        convert.FROM_AGENT.from_proto(hello)
    assert fields_of(raised) == ["hello.facts.devices[1].peers[0].ancestor"]


def test_the_wrong_one_of_many_messages_is_named():
    good, bad = JOB_SPEC.to_proto(JobSpec(name="x")), job_pb2.JobSpec()
    with pytest.raises(InvalidSpec) as raised:
        JOB_SPEC.from_protos("specs", [good, bad])
    assert fields_of(raised)[0].startswith("specs[1].")


def test_an_amount_that_is_no_number_is_refused_by_name():
    line = report_pb.ChargeLine(usage_class=report_pb.USAGE_CLASS_LOST, cost="1,50", billed_cost="1")
    with pytest.raises(InvalidSpec, match="'1,50' is not a decimal number") as raised:
        convert.CHARGE_LINE.from_proto(line)
    assert fields_of(raised) == ["cost"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"nodes": 2**63}, "nodes"),
        ({"nodes": "2"}, "nodes"),
        ({"memory_bytes": 1.5}, "memory_bytes"),
        ({"name": "\udcff"}, "name"),
        ({"command": ("python", 3)}, "command"),
        ({"env": (("PATH", "\udcff"),)}, "env"),
        ({"env": {"PATH": "/bin"}}, "env"),
        ({"launcher": "mpirun"}, "launcher"),
        ({"signal": "SIGUSR1"}, "signal"),
    ],
    ids=str,
)
def test_a_value_that_cannot_travel_is_the_callers_error_by_name(change, field):
    with pytest.raises(InvalidSpec) as raised:
        JOB_SPEC.to_proto(replace(JobSpec(name="x"), **change))
    assert fields_of(raised)[0].startswith(field)


def test_zero_and_absent_stay_apart():
    absent, zero = JobSpec(name="x"), JobSpec(name="x", time_limit_s=0, comment="")
    assert JOB_SPEC.from_proto(JOB_SPEC.to_proto(absent)).time_limit_s is None
    assert JOB_SPEC.from_proto(JOB_SPEC.to_proto(zero)).time_limit_s == 0
    assert JOB_SPEC.from_proto(JOB_SPEC.to_proto(zero)).comment == ""


def test_an_amount_keeps_its_digits():
    line = convert.CHARGE_LINE.from_proto(
        report_pb.ChargeLine(usage_class=report_pb.USAGE_CLASS_LOST, cost="0.100", billed_cost="0.10")
    )
    assert str(line.cost) == "0.100"
    assert line.billed_cost == Decimal("0.10")


def test_names_are_translated_by_rule_and_numbers_by_the_proto():
    query = convert.CostQuery(GroupBy.MODEL, start_us=None, end_us=None)
    assert convert.COST_QUERY.to_proto(query).group_by == report_pb.GROUP_BY_MODEL
    assert convert.IDENTITY.to_proto(Identity("ada", 0, 7)) == job_pb2.Identity(user="ada", gid=7)
