"""Every RPC, read from the descriptors, and who may call it. What is not in the table cannot be called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gpusched.domain.errors import ConfigInvalid
from gpusched.domain.identity import Role
from gpusched.v1 import (
    agent_service_pb2,
    job_service_pb2,
    member_service_pb2,
    node_service_pb2,
    report_service_pb2,
)

SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service
    for file in (
        job_service_pb2,
        node_service_pb2,
        agent_service_pb2,
        report_service_pb2,
        member_service_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
)

PEOPLE = frozenset({Role.USER, Role.OPERATOR})
OPERATORS = frozenset({Role.OPERATOR})
AGENTS = frozenset({Role.NODE})
RANKS = frozenset({Role.RANK})

ROLES: dict[str, frozenset[Role]] = {
    # Whether a job is one's own is for the handlers to see; here is only what a role can never do.
    # That a rank names no other job than its own is seen to before the handlers (``rpc_handlers.py``).
    "/gpusched.v1.JobService/SubmitJob": PEOPLE,
    "/gpusched.v1.JobService/SubmitJobs": PEOPLE,
    "/gpusched.v1.JobService/PlanJob": PEOPLE,
    "/gpusched.v1.JobService/GetJob": PEOPLE | RANKS,
    "/gpusched.v1.JobService/ListJobs": PEOPLE,
    "/gpusched.v1.JobService/CancelJob": PEOPLE,
    "/gpusched.v1.JobService/HoldJob": PEOPLE,
    "/gpusched.v1.JobService/ReleaseJob": PEOPLE,
    "/gpusched.v1.JobService/RequeueJob": PEOPLE,
    "/gpusched.v1.JobService/WatchJob": PEOPLE,
    "/gpusched.v1.JobService/StreamLogs": PEOPLE,
    "/gpusched.v1.JobService/ExplainJob": PEOPLE,
    "/gpusched.v1.JobService/PlanDefrag": PEOPLE,
    "/gpusched.v1.NodeService/ListNodes": PEOPLE,
    "/gpusched.v1.NodeService/GetNode": PEOPLE,
    "/gpusched.v1.NodeService/GetTopology": PEOPLE,
    "/gpusched.v1.NodeService/GetFabric": PEOPLE,
    "/gpusched.v1.NodeService/CordonNode": OPERATORS,
    "/gpusched.v1.NodeService/DrainNode": OPERATORS,
    "/gpusched.v1.NodeService/ResumeNode": OPERATORS,
    "/gpusched.v1.NodeService/ResetBreaker": OPERATORS,
    "/gpusched.v1.NodeService/ListNodeEvents": OPERATORS,
    "/gpusched.v1.AgentService/Connect": AGENTS,
    "/gpusched.v1.MemberService/CreateJoinToken": OPERATORS,
    "/gpusched.v1.MemberService/RevokeNode": OPERATORS,
    "/gpusched.v1.ReportService/GetUsage": PEOPLE,
    "/gpusched.v1.ReportService/GetCost": PEOPLE,
    "/gpusched.v1.ReportService/GetFailures": PEOPLE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": PEOPLE,
}
"""Who may call what: holding one of the roles is enough."""

JOB_FIELD = "job_id"

PUBLIC = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/gpusched.v1.MemberService/GetTrust",
        "/gpusched.v1.MemberService/JoinNode",  # the join token in its request is the credential
    }
)
"""What needs no credentials."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC. ``path`` is its name on the wire."""

    path: str
    name: str
    request: type[Message]
    reply: type[Message]
    takes_stream: bool
    gives_stream: bool


def methods_of(service: ServiceDescriptor) -> tuple[Method, ...]:
    """The RPCs of one service."""
    return tuple(
        Method(
            path=f"/{service.full_name}/{method.name}",
            name=method.name,
            request=GetMessageClass(method.input_type),
            reply=GetMessageClass(method.output_type),
            takes_stream=method.client_streaming,
            gives_stream=method.server_streaming,
        )
        for method in service.methods
    )


METHODS: dict[str, Method] = {method.path: method for service in SERVICES for method in methods_of(service)}
"""Every RPC of gpusched by its path."""


def is_of_one_job(method: Method) -> bool:
    """Whether its request names exactly the one job that it is about: what a rank may call at all."""
    return not method.takes_stream and JOB_FIELD in method.request.DESCRIPTOR.fields_by_name


def require_roles(methods: Mapping[str, Any], roles: Mapping[str, frozenset[Role]]) -> None:
    """Refuse an RPC of which nobody said who may call it, or that ranks may call about any job.

    Raises:
        ConfigInvalid: Naming every such RPC.
    """
    missing = sorted(path for path in methods if not roles.get(path) and path not in PUBLIC)
    if missing:
        raise ConfigInvalid(f"no roles are declared for {', '.join(missing)}: add them to wire/methods.py")
    unscoped = sorted(
        path
        for path in roles
        if Role.RANK in roles[path] and not (path in METHODS and is_of_one_job(METHODS[path]))
    )
    if unscoped:
        raise ConfigInvalid(
            f"ranks may call {', '.join(unscoped)}, whose request has no {JOB_FIELD}: take RANKS away there"
        )
