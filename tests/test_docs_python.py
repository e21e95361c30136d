"""The programs of docs/python.md work as they are written: what each ``print`` shows stands beside it, as a comment."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import running, write_shipped_events
from tests.test_docs import blocks, read

PAGE = "docs/python.md"


def test_the_programs_print_what_stands_beside_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    programs = blocks(read(PAGE), "python")
    assert len(programs) >= 5
    write_shipped_events(tmp_path)
    with running(tmp_path) as daemon:
        # One program after the other, as somebody would type them. Everybody pays.
        names: dict[str, Any] = {"paid": bool}
        for program in programs:
            exec(re.sub(r"Client\(\)", f"Client(port={daemon.port})", program), names)
            assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", program), program
        names["client"].close()
