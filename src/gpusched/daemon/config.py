"""One TOML file into frozen settings. Unknown keys are errors; keys carry their unit.

Everything has a default, so an embedded cluster needs no file. ``docs/reference/config.md``
lists the keys.
"""

from __future__ import annotations

import re
import stat
import tomllib
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from gpusched.daemon.slurm_topology import read_slurm_topology
from gpusched.daemon.tables import STRICT, first_problem
from gpusched.daemon.xid_table import ALONE, read_xids
from gpusched.domain.errors import ConfigInvalid, InvalidSpec
from gpusched.domain.health import Breaker, HealthRules, Signal
from gpusched.domain.hostlist import expand_hostlist
from gpusched.domain.ids import NodeName
from gpusched.domain.partition import Partition, Partitions
from gpusched.domain.spec_limits import COUNT_MAX
from gpusched.domain.topology import (
    Topology,
    TopologyDomain,
    TopologyLevel,
    build_topology,
    topology_by_labels,
)
from gpusched.domain.usage import Rate, RateBook
from gpusched.engine.core import EngineSettings
from gpusched.engine.state import MASTER_PORTS
from gpusched.policy.order import Order, OrderSettings
from gpusched.policy.quota import Quotas

CONFIG_BYTES_MAX = 1 << 20
W = TypeVar("W", bound=StrEnum)
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]

PAGE = "docs/reference/config.md"


class _Table(BaseModel):
    model_config = STRICT


class ListenTable(_Table):
    """``[listen]``: where the head answers."""

    unix: str = "head.sock"  # relative to the home
    tcp: str = "127.0.0.1:7460"  # "" listens on the unix socket alone
    tls_cert: Path | None = Field(default=None, strict=False)  # PEM; needed for any address but loopback
    tls_key: Path | None = Field(default=None, strict=False)
    agents: str = ""  # for agents of other machines, which show a certificate of the cluster's CA
    names: list[str] = []  # more host names and addresses of this head, for its certificate


class StoreTable(_Table):
    """``[store]``: the database."""

    url: str = "sqlite:///gpusched.db"  # a relative SQLite path is under the home


class IdentityTable(_Table):
    """``[identity]``: what members hold."""

    certificate_lifetime_s: int = Field(default=14 * 86_400, ge=10, le=365 * 86_400)  # of a node


class LimitsTable(_Table):
    """``[limits]``: what one subject may ask of the head."""

    requests_per_s: float = Field(default=2_000.0, gt=0, le=1_000_000)  # of each user, of each node
    request_burst: int = Field(default=10_000, ge=1, le=10_000_000)


class LeaderTable(_Table):
    """``[leader]``: how several heads on one PostgreSQL take turns."""

    lease_s: float = Field(default=6.0, ge=1, le=60)
    address: str | None = None  # where clients and agents find this head when it leads


class EngineTable(_Table):
    """``[engine]``: pace and limits."""

    heartbeat_interval_s: float = Field(default=1.0, gt=0, le=60)
    silence_max_s: float = Field(default=15.0, gt=0, le=3600)
    cycle_depth_max: int = Field(default=10_000, ge=1, le=1_000_000)


PORTS_AT_LEAST = 1_000
"""More than the attempts that one node leads at once: each holds a CPU."""


class LaunchTable(_Table):
    """``[launch]``: what ranks are given."""

    master_ports: str = f"{MASTER_PORTS.start}-{MASTER_PORTS.stop - 1}"  # first and last

    @field_validator("master_ports")
    @classmethod
    def _is_range(cls, text: str) -> str:
        ends = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
        if ends is None:
            raise ValueError(f"{text!r} is no range of ports: write the first and the last, as 23000-27999")
        first, last = int(ends[1]), int(ends[2])
        if first < 1_024 or last > 65_535 or last - first + 1 < PORTS_AT_LEAST:
            raise ValueError(f"{text}: give at least {PORTS_AT_LEAST} ports between 1024 and 65535")
        return text

    @property
    def port_range(self) -> range:
        """As the engine knows it."""
        first, last = self.master_ports.split("-")
        return range(int(first), int(last) + 1)


class PartitionTable(_Table):
    """``[[partition]]``: a named set of nodes; the first is the default."""

    name: Name
    nodes: list[str] = ["*"]
    time_limit_max_s: int | None = Field(default=None, ge=1)
    spares: str = ""

    @field_validator("spares")
    @classmethod
    def _names_nodes(cls, text: str) -> str:
        try:
            if text:
                expand_hostlist(text)
        except InvalidSpec as error:
            raise ValueError("; ".join(violation.message for violation in error.violations)) from None
        return text

    @property
    def spare_nodes(self) -> tuple[NodeName, ...]:
        """The names in ``spares``."""
        return expand_hostlist(self.spares) if self.spares else ()


class PolicyTable(_Table):
    """``[policy]``: in which order waiting jobs go."""

    order: Order = Field(default=Order.FIFO, strict=False)
    ageing_s: int = Field(default=86_400, ge=1, le=31_536_000)  # who has waited longer goes by age
    half_life_s: int = Field(default=604_800, ge=60, le=31_536_000)  # of an account's use, for fair_share


class QuotaTable(_Table):
    """``[[quota]]``: the most GPUs that the running jobs of an account may hold together."""

    account: str = Field(min_length=1, max_length=200)
    gpus_max: int = Field(ge=0, le=100_000_000)


class LevelTable(_Table):
    """``[[topology.level]]``: one level of the fabric, widest first."""

    name: Name
    label: str | None = None  # the node label that names a node's domain; on all levels or on none
    bandwidth_mb_s: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=False)


class DomainTable(_Table):
    """``[[topology.domain]]``: one switch, rack or NVLink domain."""

    name: str = Field(min_length=1, max_length=200)
    level: Name
    parent: str | None = None
    nodes: str = ""  # a host list, of the nodes right below it


class TopologyTable(_Table):
    """``[topology]``: how nodes hang together; from a file of Slurm's, from labels, or written here."""

    slurm: Path | None = Field(default=None, strict=False)  # topology.conf or topology.yaml
    level: list[LevelTable] = []
    domain: list[DomainTable] = []

    def read(self) -> Topology:
        """Build the tree, reading Slurm's file if one is named.

        Raises:
            ConfigInvalid: What is described is no tree, or in two ways at once.
        """
        levels = [TopologyLevel(level.name, level.bandwidth_mb_s) for level in self.level]
        labels = [level.label for level in self.level if level.label is not None]
        ways = [self.slurm is not None, bool(labels), bool(self.domain)]
        if sum(ways) > 1:
            raise ConfigInvalid("topology: slurm, labels and domains exclude each other: keep one of them")
        if self.slurm is not None:
            speeds = {
                level.name: level.bandwidth_mb_s for level in levels if level.bandwidth_mb_s is not None
            }
            return read_slurm_topology(self.slurm, speeds)
        if labels:
            return topology_by_labels(levels, labels)
        return build_topology(levels, map(_domain, self.domain))


class PriceTable(_Table):
    """``[[rates.price]]``: what an hour of one GPU costs from a date on (UTC)."""

    model: str = Field(min_length=1, max_length=200)
    per_gpu_hour: Decimal = Field(ge=0, le=1_000_000, strict=False)
    effective_from: date


class RatesTable(_Table):
    """``[rates]``: the rate book."""

    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$")
    price: list[PriceTable] = []


class HealthTable(_Table):
    """``[health]``: what is done about sick nodes and devices."""

    xid_overrides: Path | None = Field(default=None, strict=False)  # rows for xid_actions.csv
    unknown_xid: str = "notify"
    signals: dict[str, str] = {}  # "DiskFull" -> "notify"
    breaker_nodes: int = Field(default=2, ge=1, le=1_000_000)
    breaker_share: float = Field(default=0.2, ge=0, le=1, strict=False)
    breaker_window_s: int = Field(default=300, ge=1, le=86_400)

    def read(self) -> HealthRules:
        """The rules, the table of Xids included.

        Raises:
            ConfigInvalid: A word or a row of the overrides is unknown.
        """
        return HealthRules(
            xids=read_xids(self.xid_overrides),
            unknown_xid=_word(self.unknown_xid, ALONE, "health.unknown_xid"),
            signals={
                _word(name, frozenset(Signal) - {Signal.XID}, "health.signals"): _word(
                    action, ALONE, f"health.signals.{name}"
                )
                for name, action in self.signals.items()
            },
            breaker=Breaker(
                nodes=self.breaker_nodes, share=self.breaker_share, window_s=self.breaker_window_s
            ),
        )


class HeadConfig(_Table):
    """The whole file."""

    cluster: Name = "gpusched"
    operators: list[str] = []  # users who act on every job and node, besides root and the head's own
    listen: ListenTable = ListenTable()
    store: StoreTable = StoreTable()
    identity: IdentityTable = IdentityTable()
    limits: LimitsTable = LimitsTable()
    engine: EngineTable = EngineTable()
    launch: LaunchTable = LaunchTable()
    leader: LeaderTable = LeaderTable()
    partition: list[PartitionTable] = [PartitionTable(name="main")]
    policy: PolicyTable = PolicyTable()
    quota: list[QuotaTable] = []
    rates: RatesTable = RatesTable()
    topology: TopologyTable = TopologyTable()
    licenses: dict[Name, Annotated[int, Field(ge=0, le=COUNT_MAX)]] = {}  # how many the cluster has of each
    health: HealthTable = HealthTable()

    @property
    def partitions(self) -> Partitions:
        """As the engine knows them."""
        return Partitions(
            tuple(
                Partition(
                    name=p.name,
                    nodes=tuple(p.nodes),
                    time_limit_max_s=p.time_limit_max_s,
                    spares=p.spare_nodes,
                )
                for p in self.partition
            )
        )

    @property
    def quotas(self) -> Quotas:
        """As the engine knows them."""
        return Quotas({quota.account: quota.gpus_max for quota in self.quota})

    @property
    def rate_book(self) -> RateBook:
        """As accounting knows it."""
        return RateBook(
            self.rates.currency,
            tuple(
                Rate(price.model, price.per_gpu_hour, _midnight_us(price.effective_from))
                for price in self.rates.price
            ),
        )

    def engine_settings(self) -> EngineSettings:
        """What the engine is to keep to, in the daemon and in a simulation of its past.

        Raises:
            ConfigInvalid: The topology or the rules of health can't be read.
        """
        policy = self.policy
        return EngineSettings(
            cluster=self.cluster,
            partitions=self.partitions,
            topology=self.topology.read(),
            health=self.health.read(),
            cycle_depth_max=self.engine.cycle_depth_max,
            ordering=OrderSettings(
                order=policy.order, ageing_s=policy.ageing_s, half_life_s=policy.half_life_s
            ),
            quotas=self.quotas,
            licenses=tuple(sorted(self.licenses.items())),
            master_ports=self.launch.port_range,
        )

    def store_url(self, home: Path) -> str:
        """The database's URL, a relative SQLite path taken from the home."""
        relative = re.fullmatch(r"sqlite:///(?!/)(.+)", self.store.url)
        return self.store.url if relative is None else f"sqlite:///{home / relative[1]}"


PASSWORD = re.compile(r"^[^:]+://[^:/@?]*:[^@]+@|[?&]password=")  # in a database URL


def load_config(path: Path | None) -> HeadConfig:
    """Read a head's configuration; the defaults for None.

    Raises:
        ConfigInvalid: The file can't be read, is no TOML, or a key is unknown or wrong; or it holds a
            password and everybody may read it.
    """
    if path is None:
        return HeadConfig()
    try:
        data = path.read_bytes()
        if len(data) > CONFIG_BYTES_MAX:
            raise ConfigInvalid(f"{path}: {len(data)} bytes; a configuration has at most {CONFIG_BYTES_MAX}")
        is_public = bool(path.stat().st_mode & stat.S_IROTH)
        tables = tomllib.loads(data.decode(), parse_float=Decimal)
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}: name a readable file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path}: not TOML: {error}") from error
    try:
        config = HeadConfig.model_validate(_floats(tables))
    except ValidationError as error:
        raise ConfigInvalid(f"{path}: {first_problem(error, page=PAGE)}") from error
    if not config.partition or len({p.name for p in config.partition}) < len(config.partition):
        raise ConfigInvalid(f"{path}: partition: give at least one, each with its own name")
    if len(config.quotas.gpus_max) < len(config.quota):
        raise ConfigInvalid(f"{path}: quota: give each account one quota at most")
    if is_public and PASSWORD.search(config.store.url):
        raise ConfigInvalid(
            f"{path}: store.url holds a password and everybody may read the file: chmod o= {path}, or put "
            "the password in ~/.pgpass"
        )
    return config


def _word(text: str, allowed: frozenset[W], key: str) -> W:
    for word in allowed:
        if word == text:
            return word
    raise ConfigInvalid(f"{key}: {text!r}: give one of {', '.join(sorted(allowed))}")


def _domain(table: DomainTable) -> TopologyDomain:
    try:
        nodes = expand_hostlist(table.nodes)
    except InvalidSpec as error:
        raise ConfigInvalid(f"topology: domain {table.name}: {error}") from error
    return TopologyDomain(table.name, table.level, table.parent, nodes)


def _floats(tables: object) -> object:
    """Durations are floats; money stays the Decimal that the file spelled."""
    if not isinstance(tables, dict):
        return tables
    timed = {
        name: {k: float(v) if isinstance(v, Decimal) else v for k, v in tables[name].items()}
        for name in ("engine", "leader", "limits")
        if isinstance(tables.get(name), dict)
    }
    return {**tables, **timed}


def _midnight_us(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * 1_000_000


def find_config(home: Path, given: Path | None) -> HeadConfig:
    """The file that was named, else ``config.toml`` in the home, else the defaults."""
    beside = home / "config.toml"
    return load_config(given if given is not None else beside if beside.exists() else None)
