"""The methods of the clients are those of the Structs, and people who check types see what they return."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SECONDS_MAX
from tests.test_docs import blocks, read
from tests.typed_methods import ASYNC, BLOCKING, FOLDER, module

PROGRAM = """
from contextlib import aclosing, closing
from typing import assert_type

from ticketctl import AsyncClient, Client, Tls, read_token
from ticketd.wire.replies import BookingReply, EventReply, TicketReply

client = Client("tickets.example", 8080, tls=Tls(), token=read_token("token"))
assert_type(client.book("jazz", 2, booking="anna"), BookingReply)
assert_type(client.show("anna", kind="booking"), BookingReply)
assert_type([change for change in client.watch("jazz")], list[EventReply])
with closing(client.watch("jazz")) as changes:
    assert_type(next(changes), EventReply)
assert_type(client.wait("jazz", 2, seconds=60, booking="ben", buyer="ben@example.org"), BookingReply)
assert_type([change for change in client.watch(booking="anna")], list[BookingReply])
client.watch("jazz", booking="anna")  # type: ignore[call-overload]
client.book("jazz", "2")  # type: ignore[arg-type]
client.book("jazz")  # type: ignore[call-arg]
client.hold("jazz", 2, second=5)  # type: ignore[call-arg]

async def main() -> None:
    async with AsyncClient() as client:
        assert_type(await client.redeem("anna.9f86d081884c"), TicketReply | BookingReply)
        async for change in client.watch():
            assert_type(change, EventReply)
        async for news in client.watch(booking="anna"):
            assert_type(news, BookingReply)
        async with aclosing(client.watch()) as changes:
            assert_type(await anext(changes), EventReply)
"""


@pytest.mark.parametrize("file", [BLOCKING, ASYNC])
def test_each_command_has_its_method(file: str) -> None:
    assert (FOLDER / file).read_text() == module(file), "run: python -m tests.typed_methods"


def test_programs_that_use_the_library_are_typed(tmp_path: Path) -> None:
    """Takes a few seconds without mypy's cache of this folder."""
    paid = "def paid(order: str) -> bool:\n    return bool(order)"
    page = "\n".join([paid, *blocks(read("docs/python.md"), "python")])
    files = {"program.py": PROGRAM, "page.py": page}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    # Not in this process: mypy raises its recursion limit for good.
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        *(str(tmp_path / name) for name in files),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("", "", 0)
