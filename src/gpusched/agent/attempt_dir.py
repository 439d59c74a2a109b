"""The agent's side of an attempt's directory: made before a shim starts, read while it runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypeVar

import msgspec

from gpusched.agent.shim.files import AttemptDir, sync_folder, write_durably
from gpusched.agent.shim.order import Order, StopOrder
from gpusched.agent.shim.record import Record
from gpusched.domain.errors import LogCorrupt
from gpusched.domain.ids import AttemptId, Epoch, JobId

T = TypeVar("T")

FOLDER_MODE = 0o700
SCRIPT_MODE = 0o700


def attempts_folder(home: Path) -> Path:
    """Where all attempts of an agent lie."""
    return home / "attempts"


def attempt_dir(home: Path, attempt_id: AttemptId) -> AttemptDir:
    """Where one attempt lies, or would."""
    return AttemptDir(attempts_folder(home) / str(attempt_id))


def parse_attempt_id(name: str) -> AttemptId | None:
    """The attempt whose folder has that name; None for any other name."""
    job, dot, epoch = name.partition(".")
    if not (dot and job.isdecimal() and epoch.isdecimal()):
        return None
    return AttemptId(JobId(int(job)), Epoch(int(epoch)))


def write_order(files: AttemptDir, order: Order) -> None:
    """Make the launch durable. Once ``launch.json`` exists it will be carried out.

    Raises:
        OSError: It could not be written; without ``launch.json`` the folder means nothing.
    """
    files.path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if order.launch.script is not None:
        write_durably(files.script, order.launch.script.encode())
        files.script.chmod(SCRIPT_MODE)
    write_durably(files.order, msgspec.json.encode(order))
    sync_folder(files.path.parent)


def write_stop_order(files: AttemptDir, order: StopOrder) -> None:
    """Make the stop durable; the shim still has to be woken.

    Raises:
        OSError: It could not be written.
    """
    write_durably(files.stop_order, msgspec.json.encode(order))


def read_order(files: AttemptDir) -> Order | None:
    """The launch; None if there is none.

    Raises:
        LogCorrupt: The file is damaged.
    """
    return _read(files.order, Order)


def read_record(files: AttemptDir) -> Record | None:
    """The newest record; None before there is one.

    Raises:
        LogCorrupt: The file is damaged.
    """
    return _read(files.record, Record)


def discard(files: AttemptDir, trash: Path) -> None:
    """Delete an attempt's folder. It is renamed first, so that no half of it is ever taken for an attempt."""
    trash.mkdir(mode=FOLDER_MODE, exist_ok=True)
    doomed = trash / files.path.name
    shutil.rmtree(doomed, ignore_errors=True)
    files.path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise LogCorrupt(f"{path} is damaged ({error}); the attempt it belongs to is given up") from error
