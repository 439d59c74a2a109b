"""What is done about a sick node or device: a pure function of what was observed and of the rules.

The defaults follow what large fleets do: severe faults take the device or node out at once and end
the jobs on it, mild ones let them finish (Kokolis et al., "Revisiting Reliability in Large-Scale
Machine Learning Research Clusters", arXiv 2410.21680); Xids as in NVIDIA's catalog, by a table that
sites can override. docs/operations/health.md is written from this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from gpusched.domain.health import (
    Condition,
    Cure,
    Finding,
    HealthAction,
    HealthRules,
    Outage,
    Signal,
    XidRule,
)
from gpusched.domain.node import Node

CORRELATION_US = 10_000_000
"""How long a finding whose meaning depends on others waits for them, and looks back."""
USERS_MAX = 1
"""The same application error from more users than this within a day is the node's fault, not theirs."""


class Reach(Enum):
    """How far a response goes."""

    DEVICE = auto()  # what the condition names; the node if it names none
    NODE = auto()


@dataclass(frozen=True, slots=True)
class Response:
    """What an action means. None: nothing is taken out, no job is ended."""

    takes_out: Reach | None = None
    ends: Reach | None = None
    cure: Cure = Cure.CLEAR


RESPONSES: dict[HealthAction, Response] = {
    HealthAction.IGNORE: Response(),
    HealthAction.WATCH: Response(),
    HealthAction.NOTIFY: Response(),
    HealthAction.NOTIFY_ONCE: Response(),
    HealthAction.RESTART_APP: Response(),
    HealthAction.HOLD_DEVICE: Response(takes_out=Reach.DEVICE),
    HealthAction.DRAIN: Response(takes_out=Reach.NODE),
    HealthAction.DRAIN_THEN_RESET: Response(takes_out=Reach.DEVICE, cure=Cure.RESET),
    HealthAction.RESET: Response(takes_out=Reach.DEVICE, ends=Reach.DEVICE, cure=Cure.RESET),
    HealthAction.EVICT: Response(takes_out=Reach.NODE, ends=Reach.NODE),
    HealthAction.CORDON: Response(takes_out=Reach.NODE, cure=Cure.OPERATOR),
    HealthAction.REBOOT: Response(takes_out=Reach.NODE, ends=Reach.NODE, cure=Cure.REBOOT),
}
"""Every action that a judgement can end in."""

SIGNAL_ACTIONS: dict[Signal, HealthAction] = {
    Signal.GPU_LOST: HealthAction.REBOOT,
    Signal.NVML_SILENT: HealthAction.DRAIN,
    Signal.ECC_UNCORRECTED: HealthAction.RESET,
    Signal.REMAP_FAILED: HealthAction.RESET,
    Signal.REMAP_PENDING: HealthAction.DRAIN_THEN_RESET,
    Signal.NVLINK_INACTIVE: HealthAction.RESET,
    Signal.NVLINK_ERRORS: HealthAction.WATCH,
    Signal.THERMAL_SLOWDOWN: HealthAction.DRAIN,
    Signal.POWER_BRAKE: HealthAction.DRAIN,
    Signal.DEVICE_HELD: HealthAction.HOLD_DEVICE,
    Signal.MOUNT_MISSING: HealthAction.EVICT,
    Signal.PORT_DOWN: HealthAction.DRAIN,
    Signal.PORT_FLAPPING: HealthAction.EVICT,
    Signal.DISK_FULL: HealthAction.DRAIN,
    Signal.INODES_FULL: HealthAction.DRAIN,
    Signal.CLOCK_SKEW: HealthAction.DRAIN,
    Signal.STUCK_PROCESSES: HealthAction.DRAIN,
    Signal.CHECK_FAILED: HealthAction.DRAIN,
    Signal.PROLOG_FAILED: HealthAction.CORDON,
    Signal.EPILOG_FAILED: HealthAction.CORDON,
}
"""The defaults for everything but Xids and NVML's own verdict."""

RECOVERY_ACTIONS: dict[int, HealthAction] = {
    0: HealthAction.IGNORE,  # NONE
    1: HealthAction.RESET,  # GPU_RESET
    2: HealthAction.REBOOT,  # NODE_REBOOT
    3: HealthAction.DRAIN,  # DRAIN_P2P
    4: HealthAction.DRAIN_THEN_RESET,  # DRAIN_AND_RESET
    5: HealthAction.CORDON,  # RECOVER_IMEX_DOMAIN
    6: HealthAction.REBOOT,  # BUS_RESET
    7: HealthAction.REBOOT,  # SYSTEM_REBOOT
}
"""NVML's ``nvmlDeviceGpuRecoveryAction_t``; a number it does not have yet asks for an operator."""

_WORDED = (  # most specific first; the driver's numbers are not NVML's, so the words decide
    (re.compile(r"\bdrain and reset\b", re.IGNORECASE), HealthAction.DRAIN_THEN_RESET),
    (re.compile(r"\bdrain p2p\b", re.IGNORECASE), HealthAction.DRAIN),
    (re.compile(r"\b(node|system) reboot\b|\bbus reset\b", re.IGNORECASE), HealthAction.REBOOT),
    (re.compile(r"\breset\b", re.IGNORECASE), HealthAction.RESET),
    (re.compile(r"\bnone\b", re.IGNORECASE), HealthAction.IGNORE),
)
_CHANGED_TO = re.compile(r"\bto\b(?P<now>.*)$", re.IGNORECASE | re.DOTALL)


def judge(
    finding: Finding, others: Iterable[Finding], rules: HealthRules, now_us: int
) -> HealthAction | None:
    """Say what a finding calls for; None: wait, as something seen within ten seconds may say more.

    Args:
        finding: What was observed.
        others: What else is known of the node.
        rules: The table, and what the site overrides.
        now_us: The time now, on the clock of ``Finding.since_us``.
    """
    rule = _rule(finding.condition, rules)
    match rule.action:
        case HealthAction.CORRELATE:
            return _correlated(finding, others, rule, now_us)
        case HealthAction.AS_WORDED:
            # NVML's events carry no words; its own verdict (``Signal.RECOVERY``) comes beside them.
            words = finding.condition.detail
            return worded_action(words) if words else HealthAction.NOTIFY
        case HealthAction.RESTART_APP if len(finding.users) > USERS_MAX:
            return HealthAction.DRAIN
        case action:
            return action


def _rule(condition: Condition, rules: HealthRules) -> XidRule:
    override = rules.signals.get(condition.signal)
    if override is not None:
        return XidRule(action=override)
    if condition.signal is Signal.XID:
        found = None if condition.code is None else rules.xids.get(condition.code)
        return XidRule(action=rules.unknown_xid) if found is None else found
    if condition.signal is Signal.RECOVERY:
        wanted = None if condition.code is None else RECOVERY_ACTIONS.get(condition.code)
        return XidRule(action=HealthAction.CORDON if wanted is None else wanted)
    return XidRule(action=SIGNAL_ACTIONS[condition.signal])


def _correlated(
    finding: Finding, others: Iterable[Finding], rule: XidRule, now_us: int
) -> HealthAction | None:
    """Another Xid of the same device within the window decides; alone, the rule's second column does."""
    for other in others:
        if (
            other.condition.signal is Signal.XID
            and other.condition.code != finding.condition.code
            and other.condition.devices == finding.condition.devices
            and other.action is not None
            and abs(other.since_us - finding.since_us) <= CORRELATION_US
        ):
            return HealthAction.IGNORE
    if now_us - finding.since_us < CORRELATION_US:
        return None
    return rule.alone or HealthAction.NOTIFY


def worded_action(detail: str) -> HealthAction:
    """Read the remedy out of the driver's words (Xid 154); unknown words ask for an operator."""
    changed = _CHANGED_TO.search(detail)
    words = detail if changed is None else changed["now"]
    return next((action for pattern, action in _WORDED if pattern.search(words)), HealthAction.CORDON)


def outage_of(condition: Condition, action: HealthAction) -> Outage | None:
    """What an action takes out of service; None: nothing."""
    response = RESPONSES[action]
    if response.takes_out is None:
        return None
    devices = condition.devices if response.takes_out is Reach.DEVICE else ()
    return Outage(condition=condition, action=action, cure=response.cure, devices=devices)


def describe(condition: Condition) -> str:
    """The condition as the reason that people are shown."""
    name = condition.signal.value if condition.code is None else f"{condition.signal} {condition.code}"
    where = f" on {', '.join(condition.devices)}" if condition.devices else ""
    return f"{name}{where}: {condition.detail}" if condition.detail else f"{name}{where}"


def breaker_trips(node: Node, nodes: Iterable[Node], rules: HealthRules, now_us: int) -> str | None:
    """Why policy must not take this node, or a device of it, out now; None if it may."""
    everyone = list(nodes)
    if any(other.health.breaker_at_us is not None for other in everyone):
        return "the breaker has tripped: an operator must look and then run `gpusched health reset-breaker`"
    breaker = rules.breaker
    since_us = now_us - breaker.window_s * 1_000_000
    taken_out = sum(
        other.health.taken_out_at_us is not None and other.health.taken_out_at_us > since_us
        for other in everyone
        if other.name != node.name
    )
    allowed = max(breaker.nodes, int(breaker.share * len(everyone)))
    if taken_out + 1 <= allowed:
        return None
    return (
        f"{taken_out} nodes were taken out within {breaker.window_s} s and at most {allowed} may be: "
        "look whether it is really the nodes, then run `gpusched health reset-breaker`"
    )
