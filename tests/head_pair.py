"""Two heads on one database, each with its own home, and what finds the one that leads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.cluster import Head, running_head, temporary_home, until
from gpusched.api.token_keys import load_or_create_key
from gpusched.daemon.head import TOKEN_KEY
from gpusched.wire.client import Client

LEASE_S = 2.0


class HeadPair:
    """Stands for one head where agents and clients are started.

    Attributes:
        home: For the agents.
        address: Of both.
    """

    def __init__(self, home: Path, first: Head, second: Head) -> None:
        self.home, self.heads = home, (first, second)
        self.address = f"{first.address},{second.address}"

    def client(self) -> Client:
        """A client of both."""
        return Client(self.address)

    def leader(self) -> Head:
        """The one that serves, once one does."""
        until(lambda: any(map(is_serving, self.heads)), "a head to lead", 30)
        return next(head for head in self.heads if is_serving(head))

    def other(self, head: Head) -> Head:
        """The one that is not ``head``."""
        return next(each for each in self.heads if each is not head)


def is_serving(head: Head) -> bool:
    """Whether its health says so; a head that is stopped or gone does not."""
    with grpc.insecure_channel(head.address.replace("unix://", "unix:")) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def running_pair(
    url: str, *, lease_s: float = LEASE_S, more: str = "", at_once: bool = False
) -> Iterator[HeadPair]:
    """Two heads, started one after the other: the first leads. ``at_once``: nobody knows who."""
    config = f'[store]\nurl = "{url}"\n[leader]\nlease_s = {lease_s}\n{more}'
    with ExitStack() as stack:
        homes = [stack.enter_context(temporary_home()) for _ in range(3)]
        load_or_create_key(homes[0] / TOKEN_KEY)
        shutil.copy(homes[0] / TOKEN_KEY, homes[1])  # as the page on failover has it; modes are kept
        heads = [Head(home, config) for home in homes[:2]]
        if at_once:
            with ThreadPoolExecutor(len(heads)) as pool:
                list(pool.map(stack.enter_context, map(running_head, heads)))
        else:
            for head in heads:
                stack.enter_context(running_head(head))
        yield HeadPair(homes[2], *heads)
