"""A scheduler and training launcher for GPU clusters.

    >>> from gpusched import Client, JobSpec
    >>> with Client() as client:
    ...     job_id = client.jobs.submit(JobSpec(name="train", command=("python", "train.py")))

The public names are loaded when first used, so importing this package costs nothing. To read the
code, begin with ``domain/events.py`` and ``domain/commands.py``: the system's vocabulary.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpusched.domain.errors import Broken as Broken
    from gpusched.domain.errors import GpuschedError as GpuschedError
    from gpusched.domain.errors import HeadUnavailable as HeadUnavailable
    from gpusched.domain.errors import InfeasibleRequest as InfeasibleRequest
    from gpusched.domain.errors import InvalidSpec as InvalidSpec
    from gpusched.domain.errors import NotFound as NotFound
    from gpusched.domain.errors import Rejected as Rejected
    from gpusched.domain.errors import Unavailable as Unavailable
    from gpusched.domain.ids import JobId as JobId
    from gpusched.domain.ids import NodeName as NodeName
    from gpusched.domain.job import JobFilter as JobFilter
    from gpusched.domain.job_spec import JobSpec as JobSpec
    from gpusched.wire.async_client import AsyncClient as AsyncClient
    from gpusched.wire.client import Client as Client

    __version__: str

_HOME_OF = {
    "AsyncClient": "gpusched.wire.async_client",
    "Broken": "gpusched.domain.errors",
    "Client": "gpusched.wire.client",
    "GpuschedError": "gpusched.domain.errors",
    "HeadUnavailable": "gpusched.domain.errors",
    "InfeasibleRequest": "gpusched.domain.errors",
    "InvalidSpec": "gpusched.domain.errors",
    "JobFilter": "gpusched.domain.job",
    "JobId": "gpusched.domain.ids",
    "JobSpec": "gpusched.domain.job_spec",
    "NodeName": "gpusched.domain.ids",
    "NotFound": "gpusched.domain.errors",
    "Rejected": "gpusched.domain.errors",
    "Unavailable": "gpusched.domain.errors",
}

__all__ = sorted([*_HOME_OF, "__version__"])  # noqa: PLE0605 - the names of _HOME_OF, said once


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("gpusched")
        except PackageNotFoundError:  # run from a checkout that is not installed
            return "0+unknown"
    if name not in _HOME_OF:
        raise AttributeError(f"module 'gpusched' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
