"""The commands of docs/operating.md that make a backup and put one back work. They have the prompt ``sale$``."""

import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SECONDS_MAX, environment
from tests.daemon import Daemon
from tests.test_docs import programs, read
from tests.test_docs_access import as_written

PAGE = "docs/operating.md"


def commands() -> Iterator[tuple[str, str]]:
    """Yield each command and its output."""
    for _, block in re.findall(r"^( *)```console\n(.*?)^\1```$", read(PAGE), re.MULTILINE | re.DOTALL):
        for part in re.split(r"^sale\$ ", textwrap.dedent(block), flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


class Sale:
    """A folder with a sale, and the daemon that serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "sale"
        self.folder.mkdir()
        self._environment = environment(**programs(folder))
        self.daemon: Daemon | None = None

    def run(self, command: str) -> str:
        """Run a command, and return what it printed."""
        if re.fullmatch("ticketd( --[a-z-]+)?", command):
            self.daemon = Daemon("--port", "0", *command.split()[1:], cwd=self.folder)
            self.daemon.wait_ready()
            return "\n".join(self.daemon.lines)
        if command == "kill $PID":
            assert self.daemon
            assert self.daemon.end() == 0
            return ""
        return self.shell(command).stdout

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder."""
        port = str(self.daemon.port) if self.daemon else "0"
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env={**self._environment, "TICKETD_PORT": port},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
        )


@pytest.fixture
def sale(tmp_path: Path) -> Iterator[Sale]:
    sale = Sale(tmp_path)
    yield sale
    if sale.daemon:
        sale.daemon.kill()


def without_figures(output: str) -> str:
    return re.sub(r"^(bytes|seconds)\t[\d.]+$", r"\1", output, flags=re.MULTILINE)


def test_a_backup_is_made_and_put_back_as_it_is_written(sale: Sale) -> None:
    """It starts three daemons and some ten programs, so it takes some seconds."""
    ran = 0
    for command, written in commands():
        output = sale.run(command)
        assert as_written(without_figures(written), without_figures(output)), f"{command}\n{output}"
        ran += 1
    assert ran > 10


def test_the_line_for_cron_makes_a_backup_and_checks_it(sale: Sale) -> None:
    [line] = re.findall(r"^0 4 \* \* \*  (.*)$", read(PAGE), re.MULTILINE)
    sale.run("ticketd")
    old = sale.folder / "backups" / "night-2020-01-01.db"
    old.parent.mkdir()
    old.touch()
    assert sale.shell("touch -d 2020-01-01 backups/*").returncode == 0
    done = sale.shell(line.replace("\\%", "%").replace("/srv/sale", "."))
    assert (done.returncode, done.stdout) == (0, "")
    assert [re.sub(r"[\d-]+", "-", file.name) for file in sorted(old.parent.iterdir())] == [
        "night-.db",
        "night-.db-seal",
    ]
