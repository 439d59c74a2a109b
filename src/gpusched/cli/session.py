"""What a command is given: a client (as a protocol), a clock, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

if TYPE_CHECKING:
    from gpusched.domain.checkpoints import FailureHistory
    from gpusched.domain.defrag import DefragPlan
    from gpusched.domain.diagnosis import Diagnosis
    from gpusched.domain.events import Recorded
    from gpusched.domain.ids import Epoch, JobId, NodeName
    from gpusched.domain.job import JobFilter
    from gpusched.domain.job_spec import JobSpec
    from gpusched.domain.logs import LogChunk
    from gpusched.domain.membership import JoinTokenMade
    from gpusched.domain.node import NodeFacts
    from gpusched.domain.topology import Topology
    from gpusched.domain.usage import CostReport, DeviceInterval, GroupBy
    from gpusched.wire.handlers import JobView, NodeView, PlanPreview


class JobsLike(Protocol):
    """``wire.client.Client.jobs``, as far as commands use it. Any call may raise any ``GpuschedError``."""

    def submit(self, spec: JobSpec) -> JobId: ...
    def submit_many(self, specs: Sequence[JobSpec]) -> Sequence[JobId]: ...
    def plan(self, spec: JobSpec) -> PlanPreview: ...
    def get(self, job_id: JobId) -> JobView: ...
    def list(self, where: JobFilter = ...) -> Iterable[JobView]: ...
    def cancel(self, job_id: JobId) -> None: ...
    def hold(self, job_id: JobId) -> None: ...
    def release(self, job_id: JobId) -> None: ...
    def requeue(self, job_id: JobId, *, hold: bool = ...) -> None: ...
    def watch(self, job_ids: Sequence[JobId], after_seq: int = ...) -> Iterator[Recorded]: ...
    def logs(
        self,
        job_id: JobId,
        *,
        epoch: Epoch | None = ...,
        ranks: tuple[int, ...] | None = ...,
        since_us: int | None = ...,
        tail_lines: int | None = ...,
        follow: bool = ...,
    ) -> Iterator[LogChunk]: ...
    def stacks(
        self, job_id: JobId, *, epoch: Epoch | None = ..., ranks: tuple[int, ...] | None = ...
    ) -> Iterator[LogChunk]: ...
    def explain(self, job_id: JobId) -> Diagnosis: ...
    def plan_defrag(self, gang: JobId | JobSpec) -> DefragPlan: ...


class NodesLike(Protocol):
    """``Client.nodes``."""

    def list(self) -> Iterable[NodeView]: ...
    def get(self, node: NodeName) -> NodeView: ...
    def cordon(self, node: NodeName, reason: str) -> None: ...
    def drain(self, node: NodeName, reason: str, deadline_s: int | None = ...) -> None: ...
    def resume(self, node: NodeName) -> None: ...
    def reset_breaker(self) -> None: ...
    def events(self, node: NodeName, limit: int = ...) -> Sequence[Recorded]: ...
    def topology(self, node: NodeName | None = ...) -> Iterable[NodeFacts]: ...
    def fabric(self) -> Topology: ...


class ReportsLike(Protocol):
    """``Client.reports``."""

    def usage(self, start_us: int | None = ..., end_us: int | None = ...) -> Iterable[DeviceInterval]: ...
    def failures(self) -> FailureHistory: ...
    def cost(self, group_by: GroupBy, start_us: int | None = ..., end_us: int | None = ...) -> CostReport: ...


class MembersLike(Protocol):
    """``Client.members``."""

    def create_join_token(self, digest: bytes, node: NodeName | None, lifetime_s: int) -> JoinTokenMade: ...
    def revoke(self, node: NodeName) -> int: ...


class ClientLike(Protocol):
    """What commands need of a client."""

    @property
    def jobs(self) -> JobsLike: ...
    @property
    def nodes(self) -> NodesLike: ...
    @property
    def reports(self) -> ReportsLike: ...
    @property
    def members(self) -> MembersLike: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Session:
    """One run of ``gpusched``. The client is opened on first use, so bad input never reaches a head."""

    connect: Callable[[], ClientLike]
    now_us: Callable[[], int]
    cwd: Callable[[], Path] = Path.cwd
    is_interactive: Callable[[], bool] = lambda: False
    _client: ClientLike | None = field(default=None, init=False)

    @property
    def client(self) -> ClientLike:
        """The client, connected once."""
        if self._client is None:
            self._client = self.connect()
        return self._client

    def close(self) -> None:
        """Close the client if there is one."""
        if self._client is not None:
            self._client.close()


pass_session = click.make_pass_decorator(Session)

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """``--json``: every read has it."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


class Parsed(click.ParamType[Any]):
    """An option read by a function that raises ``ValueError`` with the remedy."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The parsed value; a usage error (exit code 2) if it does not parse."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_job_id(text: str) -> int:
    """Read a job's id: a whole number from 1."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise ValueError(f"a job's id is a number such as 17, not {text!r}")
    return int(text)


JOB_ID = Parsed("JOB", parse_job_id)
