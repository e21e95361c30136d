"""The commands of docs/operating.md that give out tokens work: a daemon, an office, a shop, a door and a dashboard.

They run here as if each prompt (``box$``) were a machine of its own, with a folder of its own. ``tickets.example`` is
``localhost`` here, and the address of the daemon is 127.0.0.1.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import environment
from tests.daemon import Daemon
from tests.test_docs import blocks, normal, programs, read
from ticketd import access_file

PAGE = "docs/operating.md"
NAME, ADDRESS = "tickets.example", "10.0.0.5"
SECONDS_MAX = 60.0
# Copies files to the folder of another machine, as scp does.
SCP = """#!/bin/sh
for last in "$@"; do :; done
mkdir -p "../${last%:}"
while [ $# -gt 1 ]; do [ "$1" = -p ] || cp -p "$1" "../${last%:}/"; shift; done
"""


def commands() -> Iterator[tuple[str, str, str]]:
    """Yield the machine, the command and the output of each command that follows the name of a machine."""
    for block in blocks(read(PAGE), "console"):
        parts = re.split(r"^(\w+)\$ ", block, flags=re.MULTILINE)
        for machine, text in zip(parts[1::2], parts[2::2], strict=True):
            command, _, output = text.partition("\n")
            # That one has a test of its own.
            if machine != "sale":
                yield machine, command, output


class Machines:
    """The machines of the page, each with its folder and its environment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = environment(**programs(folder))
        scp = folder / "bin" / "scp"
        scp.write_text(SCP)
        scp.chmod(0o755)
        self._exported: dict[str, dict[str, str]] = {}
        self.daemon: Daemon | None = None

    def run(self, machine: str, command: str, lines: int) -> str:
        """Run a command to its end, and return what it printed; ``watch`` has printed enough after so many lines."""
        if command.startswith("ticketd --host"):
            return self._serve(machine, shlex.split(command)[1:])
        if command == "systemctl reload ticketd":
            return self._reload()
        if command.startswith("export "):
            assignments = (word.split("=", 1) for word in command.replace(NAME, "localhost").split()[1:])
            self._exported.setdefault(machine, {}).update(dict(assignments))
            return ""
        environment = {**self._environment, **self._exported.get(machine, {})}
        if self.daemon:
            environment["TICKETD_PORT"] = str(self.daemon.port)
        running = subprocess.Popen(
            ["/bin/sh", "-c", command.replace(NAME, "localhost")],
            cwd=self._of(machine),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if "ticketctl watch" not in command:
            return running.communicate(timeout=SECONDS_MAX)[0].replace("localhost", NAME)
        with running:
            assert running.stdout
            shown = "".join(running.stdout.readline() for _ in range(lines))
            os.killpg(running.pid, signal.SIGINT)
        return shown

    def _serve(self, machine: str, arguments: Sequence[str]) -> str:
        assert arguments[:2] == ["--host", ADDRESS]
        self.daemon = Daemon("--port", "0", *arguments[2:], cwd=self._of(machine))
        self.daemon.wait_ready()
        return self.daemon.wait_line("^ready ")

    def _reload(self) -> str:
        assert self.daemon
        seen = len(self.daemon.lines)
        self.daemon.process.send_signal(signal.SIGHUP)
        self.daemon.wait_line_after(seen, "the certificate .* again")
        return ""

    def _of(self, machine: str) -> Path:
        folder = self._folder / machine
        folder.mkdir(exist_ok=True)
        return folder


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    machines = Machines(tmp_path)
    yield machines
    if machines.daemon:
        machines.daemon.kill()


def as_written(written: str, output: str) -> bool:
    """Whether this is the output that is written; ``…`` is any text."""
    pattern = re.escape(normal(written)).replace("…", ".*")
    return bool(re.fullmatch(pattern, normal(output), re.DOTALL))


def test_the_access_file_that_is_shown_is_one(tmp_path: Path) -> None:
    [shown] = [block for block in blocks(read(PAGE), "json") if '"tokens"' in block]
    file = tmp_path / "access.json"
    file.touch(0o600)
    file.write_text(shown)
    access = access_file.read(file)
    assert access.anonymous == "reader"
    assert access.users == {"www-data": "seller", "root": "admin"}


def test_each_command_with_a_machine_does_what_is_written(machines: Machines) -> None:
    roles = set()
    for machine, command, written in commands():
        output = machines.run(machine, command, len(written.splitlines()))
        assert as_written(written, output), f"{machine}$ {command}\n{output}"
        roles.update(re.findall("access add .* --role ([a-z]+)", command))
    assert roles == {"manager", "seller", "door", "reader"}
