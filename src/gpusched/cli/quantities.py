"""Times, sizes, counts and signals as people write them. Wrong text raises ``ValueError`` with the remedy."""

from __future__ import annotations

import re
import signal
from datetime import UTC, datetime

from gpusched.domain.job_spec import Segment, WarningSignal

COUNT_MAX = 1_000_000
MEMORY_MAX_BYTES = 1 << 50  # 1 PiB: no node has more; a slip of the unit does
DURATION_MAX_S = 10 * 365 * 86_400

_SIZE = re.compile(r"(\d{1,15})(?:([KMGTP])(?:i?B)?)?", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_SLURM_TIME = re.compile(r"(?:(\d{1,6})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?", re.ASCII)
_UNIT_TIME = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,7})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)
_SEGMENT = re.compile(r"(\d{1,7})\s+within\s+(\S+)", re.ASCII)
_SHARE = re.compile(r"([01])?(?:\.(\d{1,3})0*)?", re.ASCII)
_COUNTED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})(?::(\d{1,7}))?", re.ASCII)
_RANKS = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?", re.ASCII)

TIME_FORMS = "M, M:S, H:M:S, D-H, D-H:M, D-H:M:S, or with units such as 90m, 2h, 1d12h"


def parse_count(text: str, *, at_least: int = 1) -> int:
    """Read a whole number between ``at_least`` and 1,000,000."""
    if not re.fullmatch(r"[+-]?\d{1,18}", text.strip(), re.ASCII):
        raise ValueError(f"must be a whole number, not {text!r}")
    number = int(text)
    if not at_least <= number <= COUNT_MAX:
        raise ValueError(f"must be between {at_least} and {COUNT_MAX}, not {number}")
    return number


def parse_milli(text: str) -> int:
    """Read a share such as ``0.5`` in thousandths, exactly.

    Raises:
        ValueError: It is no share, or no whole number of thousandths.
    """
    match = _SHARE.fullmatch(text.strip())
    milli = 0 if match is None else int(match[1] or 0) * 1000 + int((match[2] or "").ljust(3, "0"))
    if not 1 <= milli <= 1000:
        raise ValueError(f"must be a share from 0.001 to 1 in steps of 0.001, such as 0.5; not {text!r}")
    return milli


def parse_counts(text: str) -> tuple[tuple[str, int], ...]:
    """Read ``a:2,b`` as (("a", 2), ("b", 1)), as Slurm does.

    Raises:
        ValueError: It is nothing like that.
    """
    counts: dict[str, int] = {}
    for part in text.split(","):
        match = _COUNTED.fullmatch(part.strip())
        if match is None or match[1] in counts:
            raise ValueError(f"must be NAME[:COUNT] with commas between and each name once, not {text!r}")
        counts[match[1]] = int(match[2] or 1)
    return tuple(counts.items())


def parse_size(text: str) -> int:
    """Read a size in bytes: ``80G``, ``80GiB``; powers of 1024, and a bare number is MiB, as in Slurm."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a size such as 80G or 512M, not {text!r}")
    size = int(match[1]) * _SIZE_UNITS[(match[2] or "M").upper()]
    if size == 0:
        raise ValueError("must be more than 0; leave it out to ask for none in particular")
    if size > MEMORY_MAX_BYTES:
        raise ValueError(f"is more than 1 PiB ({text!r}); check the unit")
    return size


def parse_duration(text: str) -> int:
    """Read a duration in seconds: Slurm's forms (a bare number is minutes) or ``30m``, ``2h``, ``1d12h``."""
    text = text.strip()
    seconds = _slurm_seconds(text)
    if seconds is None:
        seconds = _unit_seconds(text)
    if seconds is None:
        raise ValueError(f"must be a time such as {TIME_FORMS}; not {text!r}")
    if seconds == 0:
        raise ValueError("must be more than 0; leave it out for no limit")
    if seconds > DURATION_MAX_S:
        raise ValueError(f"is more than 10 years ({text!r}); check the unit")
    return seconds


def parse_time_limit(text: str) -> int | None:
    """Read a time limit; Slurm's words ``UNLIMITED`` and ``INFINITE`` mean none."""
    return None if text.strip().upper() in {"UNLIMITED", "INFINITE"} else parse_duration(text)


def _slurm_seconds(text: str) -> int | None:
    match = _SLURM_TIME.fullmatch(text)
    if match is None:
        return None
    days, *given = match.groups()
    parts = [int(part) for part in given if part is not None]
    # sbatch(1), --time: with days the fields are H[:M[:S]], without days M, M:S or H:M:S.
    if days is not None:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, minutes, seconds = 0, *(*parts, 0)[:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _unit_seconds(text: str) -> int | None:
    match = _UNIT_TIME.fullmatch(text) if text else None
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_stall_time(text: str) -> int | None:
    """Seconds, at least one; None for ``never``.

    Raises:
        ValueError: Neither that nor a time.
    """
    return None if text.strip().lower() == "never" else parse_duration(text)


def parse_percent(text: str) -> int | None:
    """Whole percent, at least one, with or without the sign; None for ``never``.

    Raises:
        ValueError: Neither.
    """
    word = text.strip().lower()
    return None if word == "never" else parse_count(word.removesuffix("%").rstrip())


def parse_signal(text: str) -> WarningSignal:
    """Read ``[R:|B:]NAME[@SECONDS]`` as sbatch does; the name may be a number or lack its SIG."""
    body = text.strip().upper()
    if body.startswith("B:"):
        raise ValueError("'B:' (signal the shell alone) is not supported: every rank is signalled; drop it")
    word, at, lead = body.removeprefix("R:").partition("@")
    name = _signal_name(word)
    if name is None:
        raise ValueError(f"must be a signal such as USR1@60, not {text!r}")
    lead_s = parse_count(lead, at_least=0) if at else WarningSignal().lead_s
    return WarningSignal(name=name, lead_s=lead_s)


def _signal_name(word: str) -> str | None:
    if word.isascii() and word.isdigit():
        return next((member.name for member in signal.Signals if str(member.value) == word), None)
    name = word if word.startswith("SIG") else f"SIG{word}"
    return name if name in signal.Signals.__members__ else None


def parse_ranks(text: str) -> tuple[int, ...]:
    """Read ``0,3-5`` as (0, 3, 4, 5); repeats are taken once, order is ascending."""
    ranks: set[int] = set()
    for part in text.split(","):
        match = _RANKS.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last > COUNT_MAX:
            raise ValueError(f"must be ranks such as 0 or 0,3-5; not {text!r}")
        ranks.update(range(first, last + 1))
    return tuple(sorted(ranks))


def parse_instant(text: str, *, now_us: int) -> int:
    """Read an instant, in microseconds since the epoch: RFC 3339, a date, or ``10m`` for that long ago.

    A time without an offset is UTC; a date is its first moment.
    """
    ago_s = _unit_seconds(text.strip())
    if ago_s is not None:
        return now_us - ago_s * 1_000_000
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"must be 10m (that long ago) or a time such as 2026-01-31T08:00:00Z; not {text!r}"
        ) from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    since_epoch = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds


def rfc3339(at_us: int) -> str:
    """An instant as RFC 3339 in UTC with microseconds: ``2026-01-31T08:00:00.000000Z``."""
    seconds, micros = divmod(at_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def show_size(size_bytes: int) -> str:
    """A size for people: ``80 GiB``, ``1.5 TiB``, ``512 B``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


def show_duration(seconds: float) -> str:
    """A duration for people, its two largest units: ``0.4s``, ``45s``, ``12m 3s``, ``3h 20m``, ``2d 4h``."""
    if 0 < seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (secs, "s")]
    first = next((i for i, (value, _) in enumerate(parts) if value), 3)
    shown = [f"{value}{unit}" for value, unit in parts[first : first + 2] if value]
    return " ".join(shown) or "0s"


def show_ago(at_us: int, now_us: int) -> str:
    """An instant relative to now: ``12m 3s ago``, ``in 2h``, ``now``."""
    delta_s = (now_us - at_us) / 1_000_000
    if abs(delta_s) < 1:
        return "now"
    return f"{show_duration(delta_s)} ago" if delta_s > 0 else f"in {show_duration(-delta_s)}"


def parse_segment(text: str) -> Segment:
    """Read ``8 within rack``: every 8 consecutive ranks inside one rack.

    Raises:
        ValueError: It is nothing like that.
    """
    match = _SEGMENT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no segment; write like '8 within rack'")
    return Segment(int(match[1]), match[2])
