"""Who did what, as ticketctl shows it to those who may know: on a terminal, in a pipe and in reports."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.conftest import ctl, ended, terminal
from tests.daemon import Daemon, running, write_events
from ticketd import access_file
from ticketd.wire.roles import Role

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
PEOPLE: dict[str, Role] = {"box-1": "seller", "entrance": "door", "boss": "manager"}


def by(folder: Path, name: str) -> tuple[str, str]:
    return "--token-file", str(folder / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the token of each person, and the access file."""
    folder = tmp_path_factory.mktemp("daemon")
    for name, role in PEOPLE.items():
        (folder / name).touch(0o600)
        (folder / name).write_text(access_file.add(folder / "access.json", name, role))
    return folder


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Daemon]:
    """A daemon on which a booking was held, confirmed, used, annulled and cancelled."""
    write_events(folder, 100)
    with running(folder, "--access", str(folder / "access.json")) as daemon:

        def done(name: str, *words: str) -> str:
            ran = ctl(*by(folder, name), *words, port=daemon.port)
            assert ran.returncode == 0, ran.stderr
            return ran.stdout

        done("box-1", "hold", "1", "2", "--booking", "b", "--seconds", "60")
        done("box-1", "extend", "b", "600")
        first, _ = done("box-1", "confirm", "b").split("\t")[6].split(",")
        done("entrance", "redeem", first, "--scan", "s")
        done("entrance", "annul", first, "--reason", "a mistake")
        done("boss", "cancel", "b", "--tickets", first)
        yield daemon


def shown(daemon: Daemon, folder: Path, name: str, *words: str) -> str:
    with terminal(*by(folder, name), *words, port=daemon.port) as screen:
        status, text = ended(screen)
    assert status == 0
    return text


def test_a_terminal_tells_managers_who_did_what(daemon: Daemon, folder: Path) -> None:
    booking = shown(daemon, folder, "boss", "show", "b")
    assert re.search(
        rf"\n  made at {TIME} by box-1\n  extended at {TIME} by box-1, until {TIME}\n  confirmed at {TIME} by box-1\n"
        rf"  cancelled at {TIME} by boss: b\.\w+\n$",
        booking,
    )
    ticket = re.findall(r"ticket (\S+), cancelled", booking)[0]
    assert re.search(
        rf"\n  redeemed at {TIME} by entrance\n  annulled at {TIME} by entrance: a mistake\n$",
        shown(daemon, folder, "boss", "show", ticket),
    )


def test_a_terminal_tells_a_seller_what_was_done_but_not_by_whom(daemon: Daemon, folder: Path) -> None:
    booking = shown(daemon, folder, "box-1", "show", "b")
    assert re.search(rf"\n  made at {TIME}\n  extended at {TIME}, until {TIME}\n", booking)
    assert not any(f"by {name}" in booking for name in PEOPLE)


def test_a_list_of_bookings_has_their_sellers_in_its_last_column(daemon: Daemon, folder: Path) -> None:
    head, row = shown(daemon, folder, "boss", "bookings").splitlines()
    assert (head.split()[-1], row.split()[-1]) == ("BY", "box-1")
    assert ctl(*by(folder, "boss"), "bookings", port=daemon.port).stdout.endswith("\tbox-1\n")


def test_reports_have_the_name_of_each_seller_and_change(daemon: Daemon, folder: Path) -> None:
    head, row = csv.reader(
        ctl(*by(folder, "boss"), "export", "bookings", "--csv", port=daemon.port).stdout.splitlines()
    )
    assert (head[-1], row[-1]) == ("by", "box-1")
    [booking] = map(
        msgspec.json.decode, ctl(*by(folder, "boss"), "export", "bookings", port=daemon.port).stdout.splitlines()
    )
    assert (booking["by"], [change["by"] for change in booking["changes"]]) == ("box-1", ["box-1", "box-1", "boss"])
