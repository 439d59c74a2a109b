"""Who is asking, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpusched.domain.ids import Epoch, JobId, NodeName


class Role(StrEnum):
    """What a subject may do. Roles do not contain one another; a principal lists all it has."""

    USER = "user"  # submit, and act on one's own jobs; read all
    OPERATOR = "operator"  # act on every job and on nodes
    NODE = "node"  # an agent: hold the stream of its own node, nothing else
    RANK = "rank"  # a running rank: look at its own job and report on it while its attempt lasts


@dataclass(frozen=True, slots=True)
class Identity:
    """A unix user as the kernel or the server's own lookup named it, never as a request claims."""

    user: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class RankRef:
    """One rank of one attempt, on the node where it runs."""

    job_id: JobId
    epoch: Epoch
    node: NodeName
    global_rank: int


@dataclass(frozen=True, slots=True)
class CertificateRef:
    """The certificate by which somebody is known."""

    serial: str
    expires_at_us: int


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated subject."""

    identity: Identity
    roles: frozenset[Role]
    node: NodeName | None = None  # set exactly when Role.NODE is held
    rank: RankRef | None = None  # set exactly when Role.RANK is held; ``identity`` is the job's owner then
    certificate: CertificateRef | None = None  # of a node on another machine


ANONYMOUS = Principal(Identity("anonymous", 65_534, 65_534), frozenset())
"""Who calls what needs no credentials."""
