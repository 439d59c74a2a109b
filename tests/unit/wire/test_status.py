"""Every error has one code and comes back as itself; what is not ours is still made sense of."""

from __future__ import annotations

import grpc
import pytest

from gpusched.domain import errors
from gpusched.domain.errors import GpuschedError, InvalidSpec, Violation
from gpusched.wire.status import CODES, DETAILS_KEY, FAMILIES, from_status, to_status


def classes(root: type[GpuschedError]) -> set[type[GpuschedError]]:
    ours = {kind for kind in root.__subclasses__() if kind.__module__ == errors.__name__}
    return {root}.union(*map(classes, ours))


def test_every_error_has_exactly_one_code():
    leaves = {kind for kind in classes(GpuschedError) if classes(kind) == {kind}}
    assert set(CODES) == leaves
    assert set(FAMILIES) == classes(GpuschedError) - leaves
    assert grpc.StatusCode.OK not in CODES.values()


def test_only_what_a_retry_can_mend_is_unavailable():
    unavailable = {kind for kind, code in CODES.items() if code is grpc.StatusCode.UNAVAILABLE}
    assert unavailable == {errors.StoreUnavailable, errors.HeadUnavailable, errors.NotLeading}


@pytest.mark.parametrize("leader", [None, "b:7460"])
def test_a_head_that_does_not_lead_names_the_one_that_does(leader):
    status = to_status(errors.NotLeading("stands by", leader=leader))
    error = from_status(
        grpc.StatusCode.UNAVAILABLE, status.message, ((DETAILS_KEY, status.SerializeToString()),)
    )
    assert isinstance(error, errors.NotLeading)
    assert error.leader == leader


def test_a_class_of_ones_own_travels_as_its_parent():
    class OverQuota(errors.OverLimit):
        pass

    status = to_status(OverQuota("8 of 4"))
    trailers = ((DETAILS_KEY, status.SerializeToString()),)
    error = from_status(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message, trailers)
    assert (type(error), str(error)) == (errors.OverLimit, "8 of 4")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.HeadUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.HeadUnavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.OverLimit),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Broken),
        (grpc.StatusCode.UNKNOWN, errors.Broken),
    ],
)
@pytest.mark.parametrize(
    "trailers",
    [(), ((DETAILS_KEY, b"\xff\xff not a status"),), (("x-proxy", "1"),)],
    ids=["none", "broken", "other"],
)
def test_a_status_without_our_details_is_understood_by_its_code(code, kind, trailers):
    error = from_status(code, "said gRPC", trailers)
    assert type(error) is kind
    assert "said gRPC" in str(error)


@pytest.mark.parametrize("count", [1, 20, 5_000])
@pytest.mark.parametrize("text", ["x" * 5_000, "漢" * 5_000], ids=["ascii", "wide"])
def test_a_status_fits_into_grpc_s_trailers(count, text):
    violations = tuple(Violation(f"env.{text}{number}", text) for number in range(count))
    status = to_status(InvalidSpec(violations))
    in_header = len(status.message.encode()) * 3  # percent-encoded
    in_details = len(status.SerializeToString()) * 4 / 3  # base64
    assert in_header + in_details < 8_192


def test_what_is_not_unicode_does_not_stop_the_error():
    status = to_status(errors.NotFound("no file \udcff"))
    assert status.message.startswith("no file")
