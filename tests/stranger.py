"""Another user of the machine: who is neither root nor the one that the head runs as."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gpusched.api.auth import TokenAuthority
from gpusched.api.token_keys import TokenKeys
from gpusched.daemon.clock import SystemClock
from gpusched.domain.errors import NotPermitted
from gpusched.domain.ids import NodeName
from gpusched.wire.address import TOKEN_SOCKET

UID = GID = 65_534
"""``nobody``: the one uid that is nobody's everywhere (user_namespaces(7), overflowuid)."""

# Imports come before the change of user: the interpreter may lie where others may not look.
_ASK = """
import os, sys
from pathlib import Path
from gpusched.domain.errors import NotPermitted
from gpusched.wire.token_socket import fetch_token
os.setgroups([]); os.setgid({gid}); os.setuid({uid})
try:
    print(fetch_token(Path(sys.argv[1]), sys.argv[2] or None))
except NotPermitted as refusal:
    sys.exit(str(refusal))
"""


def stranger_token(home: Path, node: NodeName | None = None, *, cluster: str = "gpusched") -> str:
    """The token that the head in ``home`` gives a stranger.

    As root we become the stranger and ask. Otherwise nobody may: then the head's own code signs it,
    with the head's own key, which tests that run as the head's user may read.

    Raises:
        NotPermitted: It gives none, for ``node``.
    """
    if os.geteuid() != 0:
        authority = TokenAuthority(TokenKeys(home / "token.key"), cluster, frozenset(), SystemClock())
        return authority.issue(UID, GID, node=node).token
    program = _ASK.format(uid=UID, gid=GID)
    words = [sys.executable, "-c", program, str(home / TOKEN_SOCKET), node or ""]
    asked = subprocess.run(words, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise NotPermitted(asked.stderr)
    return asked.stdout.strip()
