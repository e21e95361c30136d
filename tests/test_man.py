"""The manual pages: those in man/ are the ones that the programs describe, and the wheel installs them."""

import re
import shutil
import subprocess
import tomllib

import pytest

from tests.man import FOLDER, pages
from ticketctl.commands import known


@pytest.mark.parametrize("name", ["ticketctl.1", "ticketd.8"])
def test_a_manual_page_is_as_the_program_describes_itself(name: str) -> None:
    assert (FOLDER / name).read_text() == pages()[name], "python -m tests.man writes it anew"


def test_the_wheel_installs_every_manual_page() -> None:
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())
    installed = project["tool"]["setuptools"]["data-files"]
    assert installed == {f"share/man/man{name[-1]}": [f"man/{name}"] for name in sorted(pages())}


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("name", ["ticketctl.1", "ticketd.8"])
def test_a_manual_page_can_be_read(name: str, columns: int) -> None:
    if not shutil.which("groff"):
        pytest.skip("there is no groff")
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", f"-rLL={columns}n", "-P-cbou"],
        input=(FOLDER / name).read_bytes(),
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == b""
    text = done.stdout.decode()
    assert max(map(len, text.splitlines())) <= columns
    # A hyphen that is not typed must not stand in what is.
    assert not re.search(r"[A-Za-z]-$", text, re.MULTILINE)
    shown = " ".join(text.split())
    if name == "ticketctl.1":
        assert [command.name for command in known().values() if command.usage not in shown.replace("- ", "-")] == []
    else:
        assert "--events-max N" in shown
    assert "\\" not in shown
