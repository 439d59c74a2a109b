"""What a payload could have done to the database, to a terminal and to a log."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import sqlite3
import subprocess
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from gpusched_cli import COMMAND, gpusched

from benchmarks.cluster import Head

LOG_LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (head|agent \S+) (DEBUG|INFO|WARNING|ERROR|CRITICAL) "
)
STEERING = {"Cc", "Cf", "Zl", "Zp"}  # control and format characters, and what breaks lines


def shape_of(home: Path) -> str:
    """A digest of all tables, indices, views and triggers of the head's database."""
    with closing(_database(home)) as database:
        rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
        return hashlib.sha256(repr(rows.fetchall()).encode()).hexdigest()


def what_is_kept(home: Path, shape: str, jobs: int) -> list[str]:
    """What is wrong with the database; nothing, as it should be."""
    faults = [] if shape_of(home) == shape else ["its tables or indices have changed"]
    with closing(_database(home)) as database:
        (check,) = database.execute("PRAGMA integrity_check").fetchone()
        (count, last) = database.execute("SELECT count(*), max(seq) FROM events").fetchone()
        (kept,) = database.execute("SELECT count(*) FROM jobs").fetchone()
    if check != "ok":
        faults.append(f"integrity: {check}")
    if count != last:
        faults.append(f"{count} events up to number {last}")
    if kept != jobs:
        faults.append(f"{kept} jobs, of {jobs} that were acknowledged")
    return faults


def steering(head: Head, job_ids: Sequence[int], nodes: int) -> list[str]:
    """Lines of the command line's output, in a pipe and on a terminal, that hold a control character."""
    commands = [
        ("ps", "--all", "--limit", "100000"),
        ("nodes",),
        ("topology", "show"),
        ("node", "topology"),
        ("report", "cost"),
        ("health", "list"),
        *(("job", verb, str(job_id)) for job_id in job_ids for verb in ("show", "explain")),
        *(("node", "show", f"n{number + 2}") for number in range(nodes)),
    ]
    found = []
    for words in commands:
        piped = gpusched(*words, home=head.home)
        for text in (piped.out, piped.err, _on_a_terminal(head, words).replace("\r\n", "\n")):
            found += [f"{' '.join(words)}: {line!a}" for line in text.split("\n") if _steers(line)]
    return found


def bad_log_lines(home: Path) -> list[str]:
    """Lines of the logs of head and agents that begin as no entry does, or hold a control character."""
    logs = sorted(home.glob("*.log"))
    lines = [line for log in logs for line in log.read_text(errors="replace").split("\n") if line]
    return [ascii(line[:200]) for line in lines if LOG_LINE.match(line) is None or _steers(line)]


def _steers(line: str) -> bool:
    return any(unicodedata.category(char) in STEERING for char in line)


def _on_a_terminal(head: Head, words: Sequence[str]) -> str:
    """What a command shows on a terminal without colours."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "GPUSCHED_HOME": str(head.home), "TERM": "dumb"}
    with subprocess.Popen([*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        shown = b"".join(_all_of(ours))
    os.close(ours)
    return shown.decode(errors="replace")


def _all_of(terminal: int) -> Iterator[bytes]:
    try:
        while data := os.read(terminal, 65_536):
            yield data
    except OSError:  # EIO: nobody has it open any more
        return


def _database(home: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{home / 'gpusched.db'}?mode=ro", uri=True)
