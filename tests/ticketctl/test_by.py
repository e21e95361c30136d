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
    """A daemon with a booking that was held, confirmed, used, annulled and cancelled, and one that was let in."""
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
        one = done("box-1", "book", "1", "2", "--booking", "c").split("\t")[6].split(",")[0]
        done("entrance", "redeem", one)
        done("boss", "redeem", "c")
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


def test_a_terminal_tells_managers_who_let_in(daemon: Daemon, folder: Path) -> None:
    booking = shown(daemon, folder, "boss", "show", "c")
    tickets = re.findall(rf"(?m)^  ticket (\S+), redeemed at {TIME} by (\w+)$", booking)
    assert [name for _, name in tickets] == ["entrance", "boss"]
    ticket = shown(daemon, folder, "boss", "show", tickets[0][0])
    assert re.fullmatch(rf"ticket \S+: event 1, booking c, redeemed at {TIME} by entrance\n", ticket)
    for id_ in ("c", tickets[0][0]):
        assert " by " not in shown(daemon, folder, "entrance", "show", id_)


def test_a_pipe_tells_managers_who_let_in(daemon: Daemon, folder: Path) -> None:
    booking = ctl(*by(folder, "boss"), "show", "c", port=daemon.port).stdout.rstrip("\n").split("\t")
    assert (booking[-4], booking[-2]) == ("box-1", "entrance,boss")
    ticket = booking[6].split(",")[0]
    assert ctl(*by(folder, "boss"), "show", ticket, port=daemon.port).stdout.split("\t")[7:] == ["entrance\n"]
    assert len(ctl(*by(folder, "entrance"), "show", ticket, port=daemon.port).stdout.split("\t")) == 5


def test_a_list_of_bookings_has_their_sellers(daemon: Daemon, folder: Path) -> None:
    head, *rows = shown(daemon, folder, "boss", "bookings").splitlines()
    assert head.split()[-1] == "BY"
    assert [row.split()[-1] for row in rows] == ["box-1", "box-1"]
    lines = ctl(*by(folder, "boss"), "bookings", port=daemon.port).stdout.splitlines()
    assert [line.split("\t")[15] for line in lines] == ["box-1", "box-1"]


def export(daemon: Daemon, folder: Path, *words: str) -> list[str]:
    return ctl(*by(folder, "boss"), "export", *words, port=daemon.port).stdout.splitlines()


def test_reports_have_the_name_of_each_seller_and_change(daemon: Daemon, folder: Path) -> None:
    head, *rows = csv.reader(export(daemon, folder, "bookings", "--csv"))
    assert head[-2:] == ["by", "redeemed_by"]
    assert [row[-2:] for row in rows] == [["box-1", ""], ["box-1", "entrance boss"]]
    booking, other = map(msgspec.json.decode, export(daemon, folder, "bookings"))
    assert (booking["by"], [change["by"] for change in booking["changes"]]) == ("box-1", ["box-1", "box-1", "boss"])
    assert other["redeemed_by"] == ["entrance", "boss"]


def test_reports_have_who_let_each_ticket_in(daemon: Daemon, folder: Path) -> None:
    head, *rows = csv.reader(export(daemon, folder, "tickets", "--csv"))
    assert head[-1] == "by"
    assert [row[-1] for row in rows] == ["", "", "entrance", "boss"]
    assert [msgspec.json.decode(line).get("by") for line in export(daemon, folder, "tickets")] == [
        *(None, None, "entrance", "boss")
    ]
