"""What ranks show when they call the head: one file each, which its owner alone can read.

``<agent home>.ranks/<job>.<epoch>.<rank>``, mode 0400; others may pass through the folder and list nothing,
as a job's user cannot enter the agent's home. ``ca.pem`` beside them says whom to trust.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path

from gpusched.agent.attempt_dir import parse_attempt_id
from gpusched.agent.shim.files import write_all
from gpusched.agent.shim.order import Callback
from gpusched.domain.ids import AttemptId
from gpusched.domain.link import RankTokens

log = logging.getLogger(__name__)
FOLDER_MODE = 0o711
PRIVATE, PUBLIC = 0o400, 0o444
CA_FILE = "ca.pem"


class RankTokenFiles:
    """The files of one agent's ranks. That one cannot be written is logged: jobs run without, too.

    Args:
        home: The agent's.
        address: Of the head, or of several, as ranks are to dial it.
    """

    def __init__(self, home: Path, address: str) -> None:
        self.folder = home.with_name(home.name + ".ranks")
        self._address = address

    def callback(self, attempt_id: AttemptId) -> Callback:
        """How the attempt's ranks reach the head."""
        ca_file = self.folder / CA_FILE
        return Callback(
            address=self._address,
            token_prefix=str(self.folder / str(attempt_id)),
            ca_file=str(ca_file) if ca_file.exists() else None,
        )

    def trust(self, trusted: bytes) -> None:
        """Tell ranks whom to trust (PEM)."""
        self._write(CA_FILE, trusted, PUBLIC, None)

    def put(self, given: RankTokens, living: Collection[AttemptId]) -> None:
        """Write an attempt's tokens; remove those of attempts that are neither ``living`` nor this one."""
        attempt_id = AttemptId(given.job_id, given.epoch)
        self._remove_all_but({*living, attempt_id})
        owner = (given.owner.uid, given.owner.gid)
        for each in given.tokens:
            self._write(f"{attempt_id}.{each.global_rank}", each.token.encode() + b"\n", PRIVATE, owner)

    def _write(self, name: str, data: bytes, mode: int, owner: tuple[int, int] | None) -> None:
        new = self.folder / f".{name}"
        try:
            self.folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            new.unlink(missing_ok=True)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
            try:
                write_all(fd, data)
                if owner is not None and os.getuid() == 0:
                    os.fchown(fd, *owner)
            finally:
                os.close(fd)
            new.rename(self.folder / name)
        except OSError as error:
            log.error("%s cannot be written: %s", self.folder / name, error.strerror)

    def _remove_all_but(self, living: Collection[AttemptId]) -> None:
        for path in self.folder.glob("*.*.*"):
            attempt_id = parse_attempt_id(path.name.rpartition(".")[0])
            if attempt_id is not None and attempt_id not in living:
                path.unlink(missing_ok=True)
