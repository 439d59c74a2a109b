from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetTrustRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetTrustResponse(_message.Message):
    __slots__ = ("cluster", "trusted", "agents_port")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_FIELD_NUMBER: _ClassVar[int]
    AGENTS_PORT_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    trusted: bytes
    agents_port: int
    def __init__(self, cluster: _Optional[str] = ..., trusted: _Optional[bytes] = ..., agents_port: _Optional[int] = ...) -> None: ...

class CreateJoinTokenRequest(_message.Message):
    __slots__ = ("digest", "node", "lifetime_s")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_S_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    node: str
    lifetime_s: int
    def __init__(self, digest: _Optional[bytes] = ..., node: _Optional[str] = ..., lifetime_s: _Optional[int] = ...) -> None: ...

class CreateJoinTokenResponse(_message.Message):
    __slots__ = ("ca_fingerprint", "expires_at_us")
    CA_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_US_FIELD_NUMBER: _ClassVar[int]
    ca_fingerprint: str
    expires_at_us: int
    def __init__(self, ca_fingerprint: _Optional[str] = ..., expires_at_us: _Optional[int] = ...) -> None: ...

class JoinNodeRequest(_message.Message):
    __slots__ = ("token", "node", "signing_request")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    SIGNING_REQUEST_FIELD_NUMBER: _ClassVar[int]
    token: str
    node: str
    signing_request: bytes
    def __init__(self, token: _Optional[str] = ..., node: _Optional[str] = ..., signing_request: _Optional[bytes] = ...) -> None: ...

class JoinNodeResponse(_message.Message):
    __slots__ = ("certificate", "trusted")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    trusted: bytes
    def __init__(self, certificate: _Optional[bytes] = ..., trusted: _Optional[bytes] = ...) -> None: ...

class RevokeNodeRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class RevokeNodeResponse(_message.Message):
    __slots__ = ("revoked",)
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    revoked: int
    def __init__(self, revoked: _Optional[int] = ...) -> None: ...
