"""A PostgreSQL server for the tests: in a folder of its own, on a free loopback port, ended with the session."""

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

ENDS_WITH_PARENT = 1
"""Linux's `PR_SET_PDEATHSIG`."""


@dataclass(frozen=True)
class Server:
    port: int
    password: str
    """Of the user `postgres`."""

    def url(self, database: str) -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str) -> None:
        """One statement outside any transaction, in the database `postgres`."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


def find_programs() -> Path | None:
    """The folder of the newest `initdb`: Debian's, or that of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    programs = find_programs()
    if programs is None:
        missing = "no initdb: install PostgreSQL (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with running_server(programs) as server:
        yield server


@pytest.fixture(scope="session")
def new_database(postgresql_server: Server) -> Callable[..., str]:
    """Makes an empty database and gives its URL."""
    numbers = count()

    def make(options: str = "") -> str:
        name = f"test_{os.getpid()}_{next(numbers)}"
        postgresql_server.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        return postgresql_server.url(name)

    return make


@pytest.fixture
def postgresql_url(new_database: Callable[..., str]) -> str:
    return new_database()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that is not there yet, in each of the databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/.bench/results.db"
    return str(request.getfixturevalue("postgresql_url"))


@contextmanager
def running_server(programs: Path) -> Iterator[Server]:
    """A server whose default collation is not that of bytes, so that a query that forgets to say what it means is found out."""
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="gemmeter-postgres-"))
    password = secrets.token_hex()
    try:
        (folder / "password").write_text(password)
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
        locale = ("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
        files = (f"--pgdata={folder}/data", f"--pwfile={folder}/password")
        options = ("--username=postgres", "--encoding=UTF8", "--auth=scram-sha-256", "--no-sync")
        subprocess.run([programs / "initdb", *files, *options, *locale], user=user, cwd="/", check=True, capture_output=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
        command = [programs / "postgres", "-D", folder / "data", *(f"--{key}={value}" for key, value in settings.items())]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, user=user, cwd="/", stderr=log, stdout=log, preexec_fn=end_with_parent  # noqa: PLW1509 no threads yet
            )  # fmt: skip
        try:
            server = Server(port, password)
            wait_until_it_answers(server, process, folder / "log")
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end_with_parent() -> None:
    """Linux only; elsewhere a session that is killed leaves its server."""
    if hasattr(library := ctypes.CDLL(None), "prctl"):
        library.prctl(ENDS_WITH_PARENT, signal.SIGINT)


def wait_until_it_answers(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not answer: {log.read_text()}") from error
            time.sleep(0.05)
        else:
            return
