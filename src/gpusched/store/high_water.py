"""How far this head has seen its database, in a small file of its home: the database may be restored."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from gpusched.domain.errors import ConfigInvalid, LogCorrupt
from gpusched.domain.history import Mark
from gpusched.store.codec import Codec, encode

BYTES = 256  # one write within one page: it is there whole or not at all, however the head is killed
_MARK: Codec[Mark] = Codec(Mark, "mark")


class HighWater:
    """Keeps the newest mark. Survives the head, and a crash of the machine but for its last seconds.

    Args:
        path: The file; made with the first mark.

    Raises:
        ConfigInvalid: It can be neither made nor written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigInvalid(f"{path}: {error.strerror}: let this user write it") from error
        text = os.pread(self._file, BYTES, 0).decode(errors="replace").strip()
        try:
            self.mark = _MARK.decode(text) if text else None
        except LogCorrupt as error:
            raise ConfigInvalid(f"{path} is damaged: remove it to begin without a memory") from error

    def keep(self, mark: Mark) -> None:
        """Replace the mark."""
        self.mark = mark
        os.pwrite(self._file, encode(mark).ljust(BYTES).encode(), 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def __enter__(self) -> HighWater:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
