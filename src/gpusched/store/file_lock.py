"""A lock that the kernel gives up with its process, however it dies: an exclusive ``flock`` on a file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from gpusched.domain.errors import StoreUnavailable


class FileLock:
    """Holds a file until closed.

    Args:
        path: The file; made if it is not there.
        what: What it guards, for the message.

    Attributes:
        identity: Names the file among all of this machine since it was started: boot, device, inode.

    Raises:
        StoreUnavailable: Another process holds it, or it cannot be made.
    """

    def __init__(self, path: Path, what: str) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(
                f"{path} cannot be opened ({error.strerror}); let this user write its directory"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StoreUnavailable(
                f"{what} is in use by another head (pid {holder}, lock {path}); "
                "stop that one first, or give this one another home"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        found = os.fstat(self._descriptor)
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self.identity = f"{boot_id}:{found.st_dev:x}:{found.st_ino:x}"

    def close(self) -> None:
        """Let the next head in. The file stays: removing it would race with one that waits."""
        os.close(self._descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
