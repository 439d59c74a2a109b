"""Marks of how far a node has seen, signed by the head that gave them.

A mark that a database does not know stops all assignments (``domain/history.py``), so no node may make one
up: one stolen certificate would stop the cluster. What is signed stands behind the term's token, after a
dot; agents keep it as they get it.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import replace

from cryptography.exceptions import InvalidSignature

from gpusched.api.token_keys import KeyRing, TokenKeys
from gpusched.domain.history import Mark

PURPOSE = "gpusched mark"
"""Begins what is signed: no token of a person begins so, and they are signed by the same key."""


class MarkSeals:
    """Signs marks, and takes those that it or another head of this cluster signed.

    Args:
        keys: The token keys, which the heads of one cluster share.
    """

    def __init__(self, keys: TokenKeys) -> None:
        self._keys = keys
        self._last: tuple[KeyRing, Mark, Mark] | None = None

    def sealed(self, mark: Mark) -> Mark:
        """The mark as nodes are given it. All nodes get the same, so the newest is remembered."""
        ring = self._keys.ring()
        if self._last is None or self._last[0] is not ring or self._last[1] != mark:
            seal = base64.urlsafe_b64encode(ring.signing.sign(_signed(mark))).decode()
            self._last = (ring, mark, replace(mark, token=f"{mark.token}.{seal}"))
        return self._last[2]

    def opened(self, mark: Mark) -> Mark | None:
        """The mark that a head signed; None if none did, or with a forgotten key: it may be anybody's."""
        token, _, seal = mark.token.partition(".")
        plain = replace(mark, token=token)
        for key in self._keys.ring().verifying.values():
            try:
                key.verify(base64.urlsafe_b64decode(seal), _signed(plain))
            except (InvalidSignature, binascii.Error, ValueError):
                continue
            return plain
        return None


def _signed(mark: Mark) -> bytes:
    return json.dumps([PURPOSE, mark.epoch, mark.token, mark.seq, mark.next_job_id]).encode()
