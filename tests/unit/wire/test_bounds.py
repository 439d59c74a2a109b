"""Lists longer than any that can be meant are refused before anything is made of them."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError, Message

from gpusched.domain import spec_limits
from gpusched.domain.errors import InvalidSpec
from gpusched.v1 import agent_service_pb2, job_pb2, job_service_pb2
from gpusched.wire.bounds import LIST_MAX, REQUEST_BYTES_MAX, require_short_lists


def check(request: Message) -> None:
    require_short_lists(type(request), request.SerializeToString())


def submit(nodes: int) -> job_service_pb2.SubmitJobRequest:
    return job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(nodelist=["n"] * nodes))


def test_a_list_is_refused_by_its_name_only_if_it_is_longer_than_can_be_meant() -> None:
    check(submit(LIST_MAX))
    with pytest.raises(InvalidSpec, match=r"spec\.nodelist.*65537 elements, the limit is 65536"):
        check(submit(LIST_MAX + 1))


def test_numbers_that_are_packed_into_one_field_are_counted() -> None:
    check(job_service_pb2.StreamLogsRequest(ranks=[1_000] * LIST_MAX))
    with pytest.raises(InvalidSpec, match=r"ranks: has 65537 elements"):
        check(job_service_pb2.StreamLogsRequest(ranks=[1_000] * (LIST_MAX + 1)))


def test_a_list_of_empty_messages_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="specs"):
        check(job_service_pb2.SubmitJobsRequest(specs=[job_pb2.JobSpec()] * (LIST_MAX + 1)))


def test_lists_within_lists_are_bounded_in_all() -> None:
    component = job_pb2.JobSpec(components=[job_pb2.Component()] * 1_000)
    check(job_service_pb2.SubmitJobsRequest(specs=[component] * 200))
    with pytest.raises(InvalidSpec, match="more than 262144 elements in all"):
        check(job_service_pb2.SubmitJobsRequest(specs=[component] * 300))


def test_an_agents_lists_are_bounded_too() -> None:
    hello = agent_service_pb2.ConnectRequest()
    hello.hello.facts.devices.add().cpu_ids.extend([1] * (LIST_MAX + 1))
    with pytest.raises(InvalidSpec, match=r"hello\.facts\.devices\.cpu_ids"):
        check(hello)


def test_a_message_that_is_sent_in_parts_is_counted_as_what_it_becomes() -> None:
    part = submit(LIST_MAX).SerializeToString()
    kind = job_service_pb2.SubmitJobRequest
    require_short_lists(kind, part * 3)
    with pytest.raises(InvalidSpec, match="more than 262144 elements in all"):
        require_short_lists(kind, part * 4)


def test_what_is_no_message_is_said_to_be_none() -> None:
    with pytest.raises(DecodeError):
        require_short_lists(job_service_pb2.GetJobRequest, b"\xff" * (LIST_MAX + 1))


def test_the_largest_job_and_the_largest_batch_of_small_jobs_pass() -> None:
    name = "n" * 1_000
    value = "v" * (spec_limits.STRING_BYTES_MAX - len(name) - 2)
    variables = spec_limits.ENV_BYTES_MAX // spec_limits.STRING_BYTES_MAX
    largest = job_pb2.JobSpec(
        command=["c" * spec_limits.STRING_BYTES_MAX] * 4,
        script="s" * spec_limits.SCRIPT_BYTES_MAX,
        setup=["s" * spec_limits.SETUP_BYTES_MAX],
        env=[job_pb2.EnvVar(name=name, value=value)] * variables,
    )
    request = job_service_pb2.SubmitJobRequest(spec=largest)
    assert request.ByteSize() < REQUEST_BYTES_MAX
    check(request)
    small = job_pb2.JobSpec(command=["python", "train.py"], env=[job_pb2.EnvVar(name="A", value="b")] * 20)
    batch = job_service_pb2.SubmitJobsRequest(specs=[small] * 10_000)
    assert batch.ByteSize() < REQUEST_BYTES_MAX
    check(batch)
