"""What the policy makes of signals: the table of Xids, row by row, and the default for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.daemon.xid_table import default_xids, parse_xids
from gpusched.domain.errors import ConfigInvalid
from gpusched.domain.health import Condition, Cure, Finding, HealthAction, HealthRules, Signal, XidRule
from gpusched.domain.ids import DeviceUuid
from gpusched.policy.health import (
    CORRELATION_US,
    RESPONSES,
    SIGNAL_ACTIONS,
    Reach,
    describe,
    judge,
    outage_of,
    worded_action,
)

A = HealthAction
GPU = (DeviceUuid("GPU-0"),)
RULES = HealthRules(xids=default_xids())
NOW_US = 1_000_000_000

# NVIDIA's catalog by its "immediate action", as an independent list: a slip in the table shows here.
RESTART = [8, 11, 13, 25, 31, 32, 39, 40, 41, 60, *range(68, 73), *range(75, 78), 80, *range(82, 87), 88, 89]
RESTART += [94, *range(96, 106), *range(126, 136), 139]
IGNORED = [14, 37, 38, 43, 44, 66, 67, 93, *range(106, 109), 121, 137, 141, 152, 153, 157, 160, 161]
RESET = [46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158]
UNUSED = [*range(1, 8), 9, 10, 12, *range(15, 25), *range(26, 31), *range(33, 37), 42, 47, *range(49, 54)]
UNUSED += [*range(55, 60), 61, 65, 73, 81, 87, 90, 91, *range(111, 119), *range(122, 126), 138]
CORRELATED = [45, 48, 74, *range(144, 151)]
EXPECTED: dict[int, HealthAction] = {
    **dict.fromkeys(RESTART, A.RESTART_APP),
    **dict.fromkeys(IGNORED, A.IGNORE),
    **dict.fromkeys(RESET, A.RESET),
    **dict.fromkeys(UNUSED, A.NOTIFY_ONCE),
    **dict.fromkeys([54, 151, 167, 168, 169], A.CORDON),
    **dict.fromkeys([78, 142, 159, 162, 163, 164, 165, 166, 170, 171, 172], A.NOTIFY),
    **dict.fromkeys(CORRELATED, A.DRAIN_THEN_RESET),  # with nothing else seen beside it
    45: A.NOTIFY,
    63: A.DRAIN_THEN_RESET,
    79: A.REBOOT,
    92: A.WATCH,
    154: A.NOTIFY,  # without words
}


def xid(code: int, detail: str = "", since_us: int = NOW_US, **changes: object) -> Finding:
    condition = Condition(signal=Signal.XID, code=code, devices=GPU, detail=detail)
    return Finding(condition=condition, since_us=since_us, **changes)  # type: ignore[arg-type]


def test_the_table_has_a_row_for_each_of_the_172_codes() -> None:
    assert sorted(RULES.xids) == sorted(EXPECTED) == list(range(1, 173))


@pytest.mark.parametrize("code", range(1, 173))
def test_every_xid_gives_its_tabled_action(code: int) -> None:
    assert judge(xid(code), (), RULES, NOW_US + CORRELATION_US) is EXPECTED[code]


@pytest.mark.parametrize("code", CORRELATED)
def test_a_workflow_xid_waits_for_others_and_follows_them(code: int) -> None:
    finding = xid(code)
    assert judge(finding, (finding,), RULES, NOW_US + CORRELATION_US - 1) is None
    other = xid(95, action=A.RESET, since_us=NOW_US + 3_000_000)
    assert judge(finding, (finding, other), RULES, NOW_US + 3_000_000) is A.IGNORE
    late = xid(95, action=A.RESET, since_us=NOW_US + CORRELATION_US + 1)
    assert judge(finding, (finding, late), RULES, NOW_US + 2 * CORRELATION_US) is EXPECTED[code]


def test_an_unknown_xid_is_told_and_takes_nothing_out() -> None:
    assert judge(xid(4711), (), RULES, NOW_US) is A.NOTIFY
    assert judge(xid(4711), (), HealthRules(unknown_xid=A.CORDON), NOW_US) is A.CORDON


@pytest.mark.parametrize(
    ("words", "action"),
    [
        ("GPU recovery action changed from 0x0 (None) to 0x1 (Node Reboot Required)", A.REBOOT),
        ("GPU recovery action changed from 0x0 (None) to 0x2 (GPU Reset Required)", A.RESET),
        ("GPU recovery action changed from 0x2 (GPU Reset Required) to 0x0 (None)", A.IGNORE),
        ("GPU recovery action changed from 0x0 (None) to 0x3 (Drain P2P)", A.DRAIN),
        ("GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)", A.DRAIN_THEN_RESET),
        ("GPU recovery action changed from 0x0 (None) to 0x9 (Sacrifice A Goat)", A.CORDON),
    ],
)
def test_xid_154_is_read_by_its_words_and_not_by_its_number(words: str, action: HealthAction) -> None:
    assert worded_action(words) is action
    assert judge(xid(154, words), (), RULES, NOW_US) is action


def test_the_same_application_error_of_two_users_is_the_nodes_fault() -> None:
    assert judge(xid(13, users=("alice",)), (), RULES, NOW_US) is A.RESTART_APP
    assert judge(xid(13, users=("alice", "bob")), (), RULES, NOW_US) is A.DRAIN


SEVERE = {Signal.GPU_LOST, Signal.ECC_UNCORRECTED, Signal.REMAP_FAILED, Signal.NVLINK_INACTIVE}
SEVERE |= {Signal.MOUNT_MISSING, Signal.PORT_FLAPPING}
MILD = {Signal.REMAP_PENDING, Signal.THERMAL_SLOWDOWN, Signal.POWER_BRAKE, Signal.DISK_FULL}
MILD |= {Signal.INODES_FULL, Signal.CLOCK_SKEW, Signal.STUCK_PROCESSES, Signal.PORT_DOWN, Signal.DEVICE_HELD}
MILD |= {Signal.CHECK_FAILED, Signal.PROLOG_FAILED, Signal.EPILOG_FAILED, Signal.NVML_SILENT}


@pytest.mark.parametrize("signal", sorted(SEVERE))
def test_a_severe_signal_ends_the_jobs_it_touches(signal: Signal) -> None:
    assert RESPONSES[SIGNAL_ACTIONS[signal]].ends is not None


@pytest.mark.parametrize("signal", sorted(MILD))
def test_a_mild_signal_takes_out_what_is_sick_and_lets_jobs_finish(signal: Signal) -> None:
    response = RESPONSES[SIGNAL_ACTIONS[signal]]
    assert response.takes_out is not None
    assert response.ends is None


def test_every_signal_but_two_has_a_default() -> None:
    assert set(Signal) - set(SIGNAL_ACTIONS) == {Signal.XID, Signal.RECOVERY}


def test_a_site_can_override_signals_and_rows() -> None:
    disk = Finding(condition=Condition(signal=Signal.DISK_FULL, detail="/"), since_us=NOW_US)
    assert judge(disk, (), HealthRules(signals={Signal.DISK_FULL: A.NOTIFY}), NOW_US) is A.NOTIFY
    rows = parse_xids("xid,action\n109,restart_app\n", "site.csv")
    assert judge(xid(109), (), HealthRules(xids=RULES.xids | rows), NOW_US) is A.RESTART_APP


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("xid;action\n1;ignore\n", "first row must name the columns"),
        ("xid,action\nsix,ignore\n", "site.csv:2: 'six' is no Xid"),
        ("# ours\nxid,action\n1,ignore\n1,notify\n", "site.csv:4: Xid 1 has a row already"),
        ("xid,action\n1,explode\n", "site.csv:2: 'explode' is no action"),
        ("xid,action,alone\n1,ignore,notify\n", "'alone' is for Xids to correlate"),
        ("xid,action,alone\n48,correlate,correlate\n", "'correlate' is no action"),
    ],
)
def test_a_table_that_is_wrong_is_refused_by_line(text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said.replace("'", ".")):
        parse_xids(text, "site.csv")


ACTIONS = st.sampled_from(sorted(HealthAction))
FINDINGS = st.builds(
    lambda signal, code, devices, detail, since_us, users, action: Finding(
        condition=Condition(signal=signal, code=code, devices=devices, detail=detail),
        since_us=since_us,
        users=users,
        action=action,
    ),
    signal=st.sampled_from(sorted(Signal)),
    code=st.none() | st.integers(0, 300),
    devices=st.sampled_from([(), GPU, (DeviceUuid("GPU-1"),)]),
    detail=st.sampled_from(["", "to 0x1 (GPU Reset Required)", "none"]) | st.text(max_size=30),
    since_us=st.integers(NOW_US - 20_000_000, NOW_US),
    users=st.sampled_from([(), ("a",), ("a", "b")]),
    action=st.none() | ACTIONS,
)


@given(finding=FINDINGS, others=st.lists(FINDINGS, max_size=5))
def test_after_the_window_every_finding_has_an_action_that_means_something(
    finding: Finding, others: list[Finding]
) -> None:
    action = judge(finding, others, RULES, finding.since_us + CORRELATION_US)
    assert action in RESPONSES
    assert judge(finding, others, RULES, finding.since_us + CORRELATION_US) is action
    assert describe(finding.condition)


@given(finding=FINDINGS)
def test_what_ends_jobs_takes_out_at_least_as_much(finding: Finding) -> None:
    action = judge(finding, (), RULES, finding.since_us + CORRELATION_US)
    assert action is not None
    response, outage = RESPONSES[action], outage_of(finding.condition, action)
    assert (outage is None) == (response.takes_out is None)
    if outage is None:
        assert response.ends is None
    elif response.ends is Reach.NODE:
        assert outage.devices == ()
    else:
        assert outage.devices in ((), finding.condition.devices)
    if outage is not None and outage.cure is Cure.RESET:
        assert response.takes_out is Reach.DEVICE


def test_correlation_needs_the_same_device() -> None:
    finding = xid(48)
    elsewhere = Finding(
        condition=Condition(signal=Signal.XID, code=95, devices=(DeviceUuid("GPU-9"),), detail=""),
        since_us=NOW_US,
        action=A.RESET,
    )
    assert judge(finding, (elsewhere,), RULES, NOW_US + CORRELATION_US) is A.DRAIN_THEN_RESET


def test_a_rule_without_an_alone_column_is_told() -> None:
    rules = HealthRules(xids={48: XidRule(action=A.CORRELATE)})
    assert judge(xid(48), (), rules, NOW_US + CORRELATION_US) is A.NOTIFY
