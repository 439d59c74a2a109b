"""The lease file: what the agent writes and the shims believe."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpusched.agent.shim.lease import Lease, boot_time_us, read_lease

HOUR_US = 3_600_000_000


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    return Lease(tmp_path / "lease")


def expire(lease: Lease) -> None:
    state = read_lease(lease.path)
    lease.path.write_bytes(_packed(state.term, boot_time_us() - 1))


def _packed(term: int, deadline_us: int) -> bytes:
    return term.to_bytes(8, "little", signed=True) + deadline_us.to_bytes(8, "little", signed=True)


def test_there_is_no_lease_before_the_first_is_granted(lease: Lease) -> None:
    assert lease.term is None


def test_a_running_lease_is_extended_within_its_term(lease: Lease) -> None:
    lease.renew(boot_time_us() + HOUR_US)
    first = lease.term
    lease.renew(boot_time_us() + 2 * HOUR_US)
    assert lease.term == first
    assert read_lease(lease.path).left_us(first or 0, boot_time_us()) > HOUR_US


def test_an_answer_out_of_order_never_shortens_a_lease(lease: Lease) -> None:
    lease.renew(boot_time_us() + 2 * HOUR_US)
    before = read_lease(lease.path)
    lease.renew(boot_time_us() + HOUR_US)
    assert read_lease(lease.path) == before


def test_a_lease_that_ran_out_never_comes_back(lease: Lease) -> None:
    lease.renew(boot_time_us() + HOUR_US)
    first = lease.term
    expire(lease)
    assert lease.term is None
    lease.renew(boot_time_us() + HOUR_US)
    assert lease.term not in (None, first)
    assert read_lease(lease.path).left_us(first or 0, boot_time_us()) <= 0


def test_a_grant_that_is_over_before_it_is_heard_of_gives_nothing(lease: Lease) -> None:
    lease.renew(boot_time_us() - 1)
    assert lease.term is None


def test_a_new_agent_goes_on_with_the_lease_of_the_one_before(lease: Lease) -> None:
    lease.renew(boot_time_us() + HOUR_US)
    assert Lease(lease.path).term == lease.term


def test_a_file_that_cannot_be_read_is_a_lease_that_nobody_holds(tmp_path: Path) -> None:
    assert read_lease(tmp_path / "none").left_us(0, boot_time_us()) <= 0
    (tmp_path / "short").write_bytes(b"abc")
    assert read_lease(tmp_path / "short").left_us(0, boot_time_us()) <= 0


def test_a_term_is_never_named_as_one_of_a_file_that_was_lost(lease: Lease) -> None:
    lease.renew(boot_time_us() + HOUR_US)
    first = lease.term
    lease.path.unlink()
    again = Lease(lease.path)
    again.renew(boot_time_us() + HOUR_US)
    assert again.term not in (None, first)
