"""How far this node has seen its cluster's history, as the head told it: shown to the next head."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

from gpusched.domain.history import Mark
from gpusched.domain.ids import JobId

log = logging.getLogger(__name__)


class Seen:
    """The newest mark, in a file. It need not be durable: an older one only notices less."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.mark = _read(path)

    def keep(self, mark: Mark | None) -> None:
        """Replace it; a head that gives none leaves it as it is."""
        if mark is None or mark == self.mark:
            return
        self.mark = mark
        new = self._path.with_suffix(".new")
        try:
            new.write_text(json.dumps(asdict(mark)))
            new.replace(self._path)
        except OSError as error:  # a full disk: this agent still knows
            log.warning("%s cannot be written: %s", self._path, error)


def _read(path: Path) -> Mark | None:
    try:
        found = json.loads(path.read_text())
        return Mark(
            int(found["epoch"]), str(found["token"]), int(found["seq"]), JobId(int(found["next_job_id"]))
        )
    except (OSError, ValueError, KeyError, TypeError):  # never told, or cut short with the machine
        return None
