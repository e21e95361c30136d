"""The commands of docs/postgresql.md work: a primary, a standby and three daemons, from nothing through a failover.

They run here as if each prompt (``db1$``) were a machine of its own. Hosts become ports of 127.0.0.1. For a password,
the server trusts this machine.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, until
from tests.postgres import USER, Postgres, free_port
from tests.test_docs import blocks, normal, programs, read

PAGE = "docs/postgresql.md"
SECONDS_MAX = 60.0


def commands() -> Iterator[tuple[str, str, str]]:
    """Yield the machine, the command and the output of each command; ``> `` begins a further line of a command."""
    for block in blocks(read(PAGE), "console"):
        parts = re.split(r"^(\w+)\$ ", block, flags=re.MULTILINE)
        assert parts.pop(0) == ""
        for machine, text in zip(parts[::2], parts[1::2], strict=True):
            lines = text.splitlines()
            more = [line[2:] for line in lines[1:] if line.startswith("> ")]
            yield machine, "\n".join([lines[0], *more]), "\n".join(lines[1 + len(more) :])


class Machines:
    """The machines of the page. ``primary`` is the server that runs on db1 already; ``folder`` is for all daemons."""

    def __init__(self, primary: Postgres, folder: Path) -> None:
        self._ports = {"db1": primary.port, "db2": free_port()}
        self._servers = {"db1": primary.log.parent, "db2": primary.log.parent / "db2"}
        self._servers["db2"].mkdir()
        if USER:
            shutil.chown(self._servers["db2"], USER)
        self._folder = folder
        environment = programs(folder)
        self._environment = {**environment, "PATH": f"{primary.programs}:{environment['PATH']}"}
        self._daemons: dict[str, Daemon] = {}

    def run(self, machine: str, command: str) -> str:
        """Run a command to its end, and return what it printed."""
        folder, user, environment = self._folder, None, self._environment
        if machine in self._servers:
            folder, user = self._servers[machine], USER
            port = str(self._ports[machine])
            environment = {**environment, "PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "postgres"}
            # One server is a copy of the other, with its port. Only here they cannot have the same.
            command = command.replace("pg_ctl start", f"pg_ctl start -o '-p {port}'")
        if machine in self._daemons:
            environment = {**environment, "TICKETD_PORT": str(self._daemons[machine].port)}
        ran = subprocess.run(
            ["/bin/sh", "-c", self._with_ports(re.sub(r"(?<=ticketctl )--host \S+ ", "", command))],
            cwd=folder,
            user=user,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
        )
        return self._with_names(ran.stdout)

    def serve(self, machine: str, command: str) -> str:
        """Start a daemon, and return its ready line."""
        arguments = self._with_ports(re.sub(r"--host \S+", "--host 127.0.0.1 --port 0", command)).split()[1:]
        self._daemons[machine] = daemon = Daemon(*arguments, cwd=self._folder)
        daemon.wait_ready()
        return self._with_names(daemon.wait_line("^ready "))

    def close(self) -> None:
        """End all that was started."""
        for daemon in self._daemons.values():
            daemon.kill()
        self.run("db2", "pg_ctl stop -s -D data -m immediate")

    def _with_ports(self, command: str) -> str:
        for name, port in self._ports.items():
            command = command.replace(f"host={name}", f"host=127.0.0.1 port={port}")
            command = re.sub(rf"(?<=[@,]){name}\b", f"127.0.0.1:{port}", command)
        return command

    def _with_names(self, output: str) -> str:
        for name, port in self._ports.items():
            output = output.replace(f"127.0.0.1:{port}", name)
        return output


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with Postgres() as primary:
        machines = Machines(primary, tmp_path)
        yield machines
        machines.close()


def as_written(written: str, output: str) -> bool:
    """Whether this is the output that is written; ``…`` is any text, and addresses of daemons may differ."""
    pattern = re.escape(re.sub(r"listen=\S+", "listen=", normal(written))).replace("…", ".*")
    return bool(re.fullmatch(pattern, re.sub(r"listen=\S+", "listen=", normal(output)), re.DOTALL))


# It takes more than 5 s, since it copies a server twice, and starts three daemons.
def test_each_command_of_the_page_does_what_is_written(machines: Machines) -> None:
    for machine, command, written in commands():
        if command.startswith("ticketd --host"):
            output = machines.serve(machine, command)
            assert as_written(written, output), output
        elif "pg_stat_replication" in command:
            # A standby connects after its start has returned.
            until(lambda: as_written(written, machines.run(machine, command)))  # noqa: B023
        else:
            output = machines.run(machine, command)
            assert as_written(written, output), f"{command}\n{output}"
