"""One command at a time: what it prints, and its exit status."""

import re

import msgspec
import pytest

from tests.conftest import ctl
from tests.daemon import Daemon

TIME = r"\d{4}-\d\d-\d\dT[\d:.]+Z"


def test_list_prints_one_tab_separated_line_for_each_event(daemon: Daemon) -> None:
    done = ctl("list", "--after", "1", port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "2\tEvent 2\t2027-03-02T20:00:00Z\t200\t200\t0\t0\t0\t\t\tfalse\t\t0\n"
        "3\tEvent 3\t2027-03-03T20:00:00Z\t300\t300\t0\t0\t0\t\t\tfalse\t\t0\n"
    )  # fmt: skip


def test_a_booking_prints_one_line_and_show_finds_its_tickets(daemon: Daemon) -> None:
    done = ctl("book", "1", "2", port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    booking, event, quantity, state, _, _, tickets, *rest = done.stdout.rstrip("\n").split("\t")
    assert (event, quantity, state, tickets.count(","), rest[:5], rest[6:]) == (
        *("1", "2", "confirmed", 1),
        [""] * 5,
        [""] * 6,
    )
    assert re.fullmatch(TIME, rest[5])
    assert ctl("show", booking, port=daemon.port).stdout == done.stdout
    for ticket in tickets.split(","):
        assert ctl("show", ticket, port=daemon.port).stdout == f"{ticket}\t1\t{booking}\tvalid\n"


def test_a_booking_has_the_same_columns_in_every_command(daemon: Daemon) -> None:
    held = ctl("hold", "1", "3", "--booking", "0", "--seconds", "60", "--buyer", "Anna", port=daemon.port).stdout.split(
        "\t"
    )
    assert held[3] == "held"
    assert re.fullmatch(TIME, held[7])
    booked_at = held[12]
    assert re.fullmatch(TIME, booked_at)
    first, second, _ = ctl("confirm", "0", port=daemon.port).stdout.split("\t")[6].split(",")
    *ticket, at = ctl("redeem", first, port=daemon.port).stdout.rstrip("\n").split("\t")
    assert ticket == [first, "1", "0", "redeemed"]
    cancelled = ctl("cancel", "0", "--tickets", second, port=daemon.port).stdout
    assert cancelled.rstrip("\n").split("\t")[7:] == ["", second, "", "", "", booked_at, "Anna", "", "", "", "", ""]
    shown = ctl("show", "0", port=daemon.port).stdout
    *columns, changes, by, admitted, redeemed_by, position = shown.rstrip("\n").split("\t")
    assert columns[7:] == ["", second, first, at, "", booked_at, "Anna"]
    # Nobody has a token here.
    assert (by, admitted, redeemed_by, position) == ("", "", "", "")
    assert [(each["what"], each.get("tickets")) for each in msgspec.json.decode(changes)] == [
        ("confirm", None),
        ("cancel", [second]),
    ]
    assert ctl("bookings", "--limit", "1", port=daemon.port).stdout == shown


def test_a_second_release_is_replayed_and_a_confirm_is_refused(daemon: Daemon) -> None:
    ctl("hold", "1", "1", "--booking", "back", port=daemon.port)
    released = ctl("release", "back", port=daemon.port)
    again = ctl("release", "back", port=daemon.port)
    crossed = ctl("confirm", "back", port=daemon.port)
    assert (released.returncode, again.returncode) == (0, 0)
    columns = released.stdout.split("\t")
    assert again.stdout.split("\t") == [*columns[:11], "replayed", *columns[12:]]
    assert (crossed.returncode, crossed.stdout) == (1, "")
    assert crossed.stderr.startswith("ticketctl: already_released: ")


def test_stats_ping_and_ready_answer(daemon: Daemon) -> None:
    assert ctl("ping", port=daemon.port).stdout == "pong\n"
    ready = ctl("ready", port=daemon.port)
    assert (ready.returncode, ready.stdout) == (0, "ready\n")
    stats = dict(line.split("\t") for line in ctl("stats", port=daemon.port).stdout.splitlines())
    assert int(stats["events"]) >= 3
    assert stats["ready"] == "true"


def test_ticketctl_keeps_event_names_byte_for_byte(daemon: Daemon) -> None:
    name = "Fête à Zürich – 東京 🎟️ \U0001f468‍\U0001f469‍\U0001f467"
    created = ctl("create", name, "2027-03-11T20:00:00Z", "5", port=daemon.port)
    assert created.returncode == 0
    event = created.stdout.split("\t")[0]
    assert ctl("show", event, port=daemon.port).stdout.split("\t")[1] == name
    assert msgspec.json.decode(ctl("show", event, "--json", port=daemon.port).stdout)["name"] == name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["book", "nope", "1"], "event_not_found: "),
        (["show", "nope"], "not_found: "),
        (["book", "2", "999"], "sold_out: event 2 has 200 left"),
    ],
)
def test_a_refusal_exits_with_status_1_and_its_code_on_stderr(daemon: Daemon, words: list[str], said: str) -> None:
    done = ctl(*words, port=daemon.port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ticketctl: {said}")


def test_show_says_what_else_has_the_same_id(daemon: Daemon) -> None:
    ctl("create", "Two", "2027-03-01T20:00:00Z", "5", "--id", "two", port=daemon.port)
    ticket = ctl("book", "two", "1", "--booking", "two", port=daemon.port).stdout.split("\t")[6]
    ctl("book", "two", "1", "--booking", ticket, port=daemon.port)

    def said(kind: str, id: str) -> str:
        command = f"ticketctl --port {daemon.port} show {id} --kind {kind}"
        return f"ticketctl: a {kind} has this id too; this shows it:\n  {command}\n"

    event = ctl("show", "two", port=daemon.port)
    assert (event.stdout.split("\t")[1], event.stderr) == ("Two", said("booking", "two"))
    booking = ctl("show", ticket, port=daemon.port)
    assert (booking.stdout.split("\t")[1], booking.stderr) == ("two", said("ticket", ticket))
    assert ctl("show", ticket, "--kind", "ticket", port=daemon.port).stderr == ""
