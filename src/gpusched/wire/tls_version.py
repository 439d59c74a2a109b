"""The oldest TLS that a head speaks: 1.3 (RFC 8446).

gRPC for Python has no setting for it. Its list of cipher suites concerns TLS 1.2 alone, so one with which
no TLS 1.2 handshake can end (a pre-shared key, which nobody has) leaves TLS 1.3;
``docs/adr/0005-tls-1.3-only.md`` has the measurement.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "GRPC_SSL_CIPHER_SUITES"
NO_TLS_1_2 = "ECDHE-PSK-AES256-CBC-SHA"


def require_tls_1_3() -> None:
    """Make this process serve TLS 1.3 alone. gRPC reads the list when it is imported: call this before."""
    if os.environ.get(VARIABLE) != NO_TLS_1_2 and "grpc" in sys.modules:
        raise RuntimeError("gRPC has read its list of cipher suites already")
    os.environ[VARIABLE] = NO_TLS_1_2
