"""Job traces of other systems, read into one form.

Seven forms: our own as CSV or Parquet, the Standard Workload Format, Slurm's ``sacct --parsable2``, and the
published traces of Philly, ITP (Microsoft's ElasticFlow collection) and Muri. A file may be gzipped. A row
that cannot be read is refused with its line and field, and then nothing of the file is used.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from io import TextIOWrapper
from math import isfinite
from pathlib import Path

from gpusched.domain.errors import InvalidSpec, Violation

MURI_STRETCH = 1.015
"""Muri's simulator makes every job 1.5 % longer than its iterations (Zhao et al., SIGCOMM 2022, artifact)."""


class TraceFormat(StrEnum):
    """Whose form a trace file has."""

    CSV = "csv"
    PARQUET = "parquet"
    SWF = "swf"
    SACCT = "sacct"
    PHILLY = "philly"
    ITP = "itp"
    MURI = "muri"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceJob:
    """One job of a trace: when it came, what it asked for, and how long it ran once started."""

    name: str
    submit_s: float
    duration_s: float
    gpus: int
    nodes: int | None = None  # None: the trace does not say
    cpus: int | None = None  # over all nodes
    memory_bytes: int | None = None  # over all nodes
    time_limit_s: int | None = None
    user: str | None = None
    account: str | None = None
    workload: tuple[str, ...] = ()  # what it runs, as far as the trace tells: model, batch size


def read_trace(path: Path, format_: TraceFormat) -> tuple[TraceJob, ...]:
    """Read a trace, oldest submission first; jobs of one instant stay in the order of the file.

    Submissions count from the first one, but for Muri, whose times start at 0 already.

    Raises:
        InvalidSpec: A row or the header is wrong; the field names file, line and column.
    """
    jobs = [job for row in _rows(path, format_) if (job := _READERS[format_](row)) is not None]
    if not jobs:
        raise InvalidSpec((Violation(str(path), "holds no job that ran: give another trace"),))
    jobs.sort(key=lambda job: job.submit_s)
    if format_ is TraceFormat.MURI:
        return tuple(jobs)
    first_s = jobs[0].submit_s
    return tuple(replace(job, submit_s=job.submit_s - first_s) for job in jobs)


@dataclass(frozen=True, slots=True)
class _Row:
    """The fields of one line, and where they stand."""

    where: str  # "trace.csv:7"
    fields: Mapping[str, str]

    def text(self, name: str) -> str:
        return self.fields[name].strip()

    def number(self, name: str, *, least: float = 0.0) -> float:
        """A finite number not below ``least``."""
        text = self.text(name)
        try:
            value = float(text)
        except ValueError:
            raise self.wrong(name, f"{text!r} is not a number") from None
        if not isfinite(value) or value < least:
            raise self.wrong(name, f"{text} is out of range: give a number of at least {least:g}")
        return value

    def count(self, name: str, *, least: int = 0) -> int:
        """A whole number not below ``least``."""
        value = self.number(name, least=least)
        if value != int(value):
            raise self.wrong(name, f"{self.text(name)} is not a whole number")
        return int(value)

    def optional(self, name: str) -> str | None:
        """The text of a column that may be absent or empty."""
        return (self.fields.get(name) or "").strip() or None

    def moment(self, name: str) -> float:
        """Seconds of an ISO date and time; without a zone it is taken as UTC."""
        text = self.text(name)
        try:
            return (datetime.fromisoformat(text).replace(tzinfo=None) - _EPOCH).total_seconds()
        except ValueError:
            raise self.wrong(name, f"{text!r} is not a date and time like 2026-01-31T13:00:00") from None

    def wrong(self, name: str, message: str) -> InvalidSpec:
        return InvalidSpec((Violation(f"{self.where}: {name}", message),))


_EPOCH = datetime(1970, 1, 1)

_COLUMNS: dict[TraceFormat, tuple[str, ...]] = {
    TraceFormat.CSV: ("job_id", "submit_s", "duration_s", "gpus"),
    TraceFormat.PARQUET: ("job_id", "submit_s", "duration_s", "gpus"),
    TraceFormat.SACCT: ("JobID", "Submit", "Start", "End", "AllocTRES"),
    TraceFormat.PHILLY: ("job_id", "timestamp", "duration", "num_gpus"),
    TraceFormat.ITP: ("job_id", "submission_time", "duration", "num_gpu"),
    TraceFormat.MURI: ("job_id", "num_gpu", "submit_time", "iterations", "iteration_time"),
}
_SWF_FIELDS = (
    *("job", "submit", "wait", "run_time", "processors", "cpu_time", "memory_used"),
    *("processors_requested", "time_requested", "memory_requested", "status", "user", "group"),
    *("executable", "queue", "partition", "preceding_job", "think_time"),
)
"""The 18 fields of the Standard Workload Format v2.2 (Chapin et al. 1999; Parallel Workloads Archive)."""


def _rows(path: Path, format_: TraceFormat) -> Iterator[_Row]:
    if format_ is TraceFormat.PARQUET:
        yield from _parquet_rows(path)
        return
    opener = gzip.open if path.suffix == ".gz" else Path.open
    try:
        with opener(path, "rb") as raw, TextIOWrapper(raw, encoding="utf-8", newline="") as text:
            rows = _swf_rows if format_ is TraceFormat.SWF else partial(_table_rows, format_=format_)
            yield from rows(path, text)
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError, csv.Error) as error:
        raise InvalidSpec((Violation(str(path), f"is no {format_} trace: {error}"),)) from None


def _parquet_rows(path: Path) -> Iterator[_Row]:
    """The columns of our own CSV, in Parquet. pyarrow is looked for only here."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        message = "needs pyarrow: install it with `pip install 'gpusched[parquet]'`"
        raise InvalidSpec((Violation("format parquet", message),)) from None
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise InvalidSpec((Violation(str(path), f"is no parquet trace: {error}"),)) from None
    _check_header(f"{path}", table.column_names, TraceFormat.PARQUET)
    for number, row in enumerate(table.to_pylist(), start=1):
        fields = {name: "" if value is None else str(value) for name, value in row.items()}
        yield _Row(f"{path}: row {number}", fields)


def _check_header(where: str, header: Sequence[str], format_: TraceFormat) -> None:
    missing = [name for name in _COLUMNS[format_] if name not in header]
    if missing:
        raise InvalidSpec((Violation(where, f"lacks the column {', '.join(missing)}"),))


def _swf_rows(path: Path, text: TextIOWrapper) -> Iterator[_Row]:
    for line, content in enumerate(text, start=1):
        words = content.split()
        if not words or words[0].startswith(";"):
            continue
        where = f"{path}:{line}"
        if len(words) != len(_SWF_FIELDS):
            message = f"has {len(words)} fields, the Standard Workload Format has {len(_SWF_FIELDS)}"
            raise InvalidSpec((Violation(where, message),))
        yield _Row(where, dict(zip(_SWF_FIELDS, words, strict=True)))


def _table_rows(path: Path, text: TextIOWrapper, format_: TraceFormat) -> Iterator[_Row]:
    reader = csv.reader(text, delimiter="|" if format_ is TraceFormat.SACCT else ",")
    header: Sequence[str] = [name.strip() for name in next(reader, [])]
    _check_header(f"{path}:1", header, format_)
    for cells in reader:
        where = f"{path}:{reader.line_num}"
        if not cells:
            continue
        if len(cells) != len(header):
            raise InvalidSpec((Violation(where, f"has {len(cells)} fields, the header {len(header)}"),))
        yield _Row(where, dict(zip(header, cells, strict=True)))


def _own(row: _Row) -> TraceJob:
    limit = row.optional("time_limit_s")
    workload = row.optional("workload")
    return TraceJob(
        name=row.text("job_id"),
        submit_s=row.number("submit_s"),
        duration_s=row.number("duration_s"),
        gpus=row.count("gpus"),
        nodes=None if row.optional("nodes") is None else row.count("nodes", least=1),
        cpus=None if row.optional("cpus") is None else row.count("cpus", least=1),
        memory_bytes=None if row.optional("memory_bytes") is None else row.count("memory_bytes"),
        time_limit_s=None if limit is None else row.count("time_limit_s", least=1),
        user=row.optional("user"),
        account=row.optional("account"),
        workload=() if workload is None else (workload,),
    )


def _itp(row: _Row) -> TraceJob:
    return TraceJob(
        name=row.text("job_id"),
        submit_s=row.number("submission_time"),
        duration_s=row.number("duration"),
        gpus=row.count("num_gpu", least=1),
    )


def _philly(row: _Row) -> TraceJob:
    return TraceJob(
        name=row.text("job_id"),
        submit_s=row.moment("timestamp"),
        duration_s=row.number("duration"),
        gpus=row.count("num_gpus", least=1),
    )


def _muri(row: _Row) -> TraceJob:
    work_ms = row.number("iterations") * row.number("iteration_time") * MURI_STRETCH
    return TraceJob(
        name=row.text("job_id"),
        submit_s=row.number("submit_time") / 1000,
        duration_s=work_ms / 1000,
        gpus=row.count("num_gpu", least=1),
        workload=tuple(
            word for name in ("model_name", "batch_size") if (word := row.optional(name)) is not None
        ),
    )


def _swf(row: _Row) -> TraceJob | None:
    """A processor counts as a GPU. -1 is the format's own mark for "not known"; such jobs never ran."""
    run_s = row.number("run_time", least=-1)
    granted, asked = row.count("processors", least=-1), row.count("processors_requested", least=-1)
    processors = granted if granted > 0 else asked
    if run_s < 0 or processors <= 0:
        return None
    limit_s = row.number("time_requested", least=-1)
    return TraceJob(
        name=row.text("job"),
        submit_s=row.number("submit"),
        duration_s=run_s,
        gpus=processors,
        time_limit_s=int(limit_s) if limit_s > 0 else None,
        user=None if row.text("user") == "-1" else row.text("user"),
        account=None if row.text("group") == "-1" else row.text("group"),
        workload=() if row.text("executable") == "-1" else (row.text("executable"),),
    )


def _sacct(row: _Row) -> TraceJob | None:
    """One row of ``sacct --parsable2``; steps and jobs that never started or still run are left out."""
    if "." in row.text("JobID") or row.text("Start") in _NEVER or row.text("End") in _NEVER:
        return None
    duration_s = row.moment("End") - row.moment("Start")
    if duration_s < 0:
        raise row.wrong("End", f"{row.text('End')} is before Start {row.text('Start')}")
    tres = dict(part.split("=", 1) for part in row.text("AllocTRES").split(",") if "=" in part)
    limit = row.optional("Timelimit")
    return TraceJob(
        name=row.text("JobID"),
        submit_s=row.moment("Submit"),
        duration_s=duration_s,
        gpus=_tres_count(row, tres.get("gres/gpu")) or 0,
        nodes=_tres_count(row, tres.get("node")),
        cpus=_tres_count(row, tres.get("cpu")),
        time_limit_s=None if limit is None else _slurm_seconds(row, limit),
        user=row.optional("User"),
        account=row.optional("Account"),
        workload=() if row.optional("JobName") is None else (row.text("JobName"),),
    )


_NEVER = frozenset({"Unknown", "None", ""})


def _tres_count(row: _Row, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise row.wrong("AllocTRES", f"{text!r} is not a count")
    return int(text)


def _slurm_seconds(row: _Row, text: str) -> int | None:
    """Seconds of Slurm's ``[days-]hours:minutes:seconds``; None for no limit."""
    if text in ("UNLIMITED", "Partition_Limit"):
        return None
    days, _, clock = text.rpartition("-")
    try:
        hours, minutes, seconds = (int(part) for part in clock.split(":"))
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    except ValueError:
        raise row.wrong("Timelimit", f"{text!r} is not a time like 1-12:00:00") from None


_READERS: Mapping[TraceFormat, Callable[[_Row], TraceJob | None]] = {
    TraceFormat.CSV: _own,
    TraceFormat.PARQUET: _own,
    TraceFormat.SWF: _swf,
    TraceFormat.SACCT: _sacct,
    TraceFormat.PHILLY: _philly,
    TraceFormat.ITP: _itp,
    TraceFormat.MURI: _muri,
}
