"""Lists longer than any that can be meant are refused before values are made of them."""

from __future__ import annotations

import pytest

from gpusched.domain.errors import InvalidSpec
from gpusched.v1 import job_pb2, job_service_pb2
from gpusched.wire.bounds import LIST_MAX, require_short_lists


def submit(nodes: int) -> job_service_pb2.SubmitJobRequest:
    return job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(nodelist=["n"] * nodes))


def test_a_list_is_refused_by_its_name_only_if_it_is_longer_than_can_be_meant() -> None:
    require_short_lists(submit(LIST_MAX))
    with pytest.raises(InvalidSpec, match=r"spec\.nodelist.*65537 elements, the limit is 65536"):
        require_short_lists(submit(LIST_MAX + 1))
    with pytest.raises(InvalidSpec, match="ranks"):
        require_short_lists(job_service_pb2.StreamLogsRequest(ranks=[1] * (LIST_MAX + 1)))
