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
from gpusched.v1 import agent_service_pb2, job_service_pb2, node_service_pb2, report_service_pb2

SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service
    for file in (job_service_pb2, node_service_pb2, agent_service_pb2, report_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)

PEOPLE = frozenset({Role.USER, Role.OPERATOR})
OPERATORS = frozenset({Role.OPERATOR})
AGENTS = frozenset({Role.NODE})
ANYONE = frozenset(Role)

ROLES: dict[str, frozenset[Role]] = {
    # Whether a job is one's own is for the handlers to see; here is only what a role can never do.
    "/gpusched.v1.JobService/SubmitJob": PEOPLE,
    "/gpusched.v1.JobService/SubmitJobs": PEOPLE,
    "/gpusched.v1.JobService/PlanJob": PEOPLE,
    "/gpusched.v1.JobService/GetJob": PEOPLE,
    "/gpusched.v1.JobService/ListJobs": PEOPLE,
    "/gpusched.v1.JobService/CancelJob": PEOPLE,
    "/gpusched.v1.JobService/HoldJob": PEOPLE,
    "/gpusched.v1.JobService/ReleaseJob": PEOPLE,
    "/gpusched.v1.JobService/RequeueJob": PEOPLE,
    "/gpusched.v1.JobService/WatchJob": PEOPLE,
    "/gpusched.v1.JobService/StreamLogs": PEOPLE,
    "/gpusched.v1.JobService/ExplainJob": PEOPLE,
    "/gpusched.v1.NodeService/ListNodes": PEOPLE,
    "/gpusched.v1.NodeService/GetNode": PEOPLE,
    "/gpusched.v1.NodeService/GetTopology": PEOPLE,
    "/gpusched.v1.NodeService/GetFabric": PEOPLE,
    "/gpusched.v1.NodeService/CordonNode": OPERATORS,
    "/gpusched.v1.NodeService/DrainNode": OPERATORS,
    "/gpusched.v1.NodeService/ResumeNode": OPERATORS,
    "/gpusched.v1.AgentService/Connect": AGENTS,
    "/gpusched.v1.ReportService/GetUsage": PEOPLE,
    "/gpusched.v1.ReportService/GetCost": PEOPLE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANYONE,
}
"""Who may call what: holding one of the roles is enough."""

PUBLIC = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})
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


def require_roles(methods: Mapping[str, Any], roles: Mapping[str, frozenset[Role]]) -> None:
    """Refuse an RPC of which nobody said who may call it.

    Raises:
        ConfigInvalid: Naming every RPC without roles.
    """
    missing = sorted(path for path in methods if not roles.get(path))
    if missing:
        raise ConfigInvalid(f"no roles are declared for {', '.join(missing)}: add them to wire/methods.py")
