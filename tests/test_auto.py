"""ticketctl auto: one command many times, and what came of it."""

import re
from typing import Any

import msgspec
import pytest

from tests.conftest import BREAK, SILENCE, answer, booked, ctl, ended, interrupt, lying, nobody, start_ctl, terminal
from tests.daemon import Daemon

SUMMARY = (
    r"(?P<requests>\d+) of (?P<wanted>\d+) requests in [0-9.]+ s: (?P<done>\d+) done, refused: (?P<refused>.*), "
    r"outcome unknown: (?P<unknown>\d+), tickets: (?P<tickets>\d+); [0-9.e+]+ requests/s, "
    r"p50 (?P<p50>[0-9.]+) ms, p99 (?P<p99>[0-9.]+) ms\n"
)


def summary(text: str) -> dict[str, str]:
    match = re.fullmatch(SUMMARY, text)
    assert match, text
    return match.groupdict()


def event_with(daemon: Daemon, capacity: int) -> str:
    with daemon.connect() as connection:
        event: str = connection.ask(f"create Event 2027-03-11T20:00:00Z {capacity}")["id"]
        return event


def show(daemon: Daemon, event: str) -> dict[str, Any]:
    with daemon.connect() as connection:
        return connection.ask(f"show {event}")


def test_more_bookings_than_tickets_sell_every_ticket_and_count_the_refused(daemon: Daemon) -> None:
    event = event_with(daemon, 50)
    done = ctl("auto", "book", event, "1", "60", "0", port=daemon.port)
    assert (done.returncode, done.stderr) == (1, "")
    told = summary(done.stdout)
    assert (told["requests"], told["done"], told["refused"], told["tickets"]) == ("60", "50", "10 sold_out", "50")
    assert 0 < float(told["p50"]) <= float(told["p99"])
    left = show(daemon, event)
    assert (left["available"], left["sold"]) == (0, 50)


def test_tickets_are_counted_not_bookings(daemon: Daemon) -> None:
    event = event_with(daemon, 10)
    told = summary(ctl("auto", "book", event, "3", "3", "0", port=daemon.port).stdout)
    assert (told["done"], told["refused"], told["tickets"]) == ("3", "none", "9")


def test_a_booking_that_was_there_before_is_not_counted_again(daemon: Daemon) -> None:
    event = event_with(daemon, 10)
    told = summary(ctl("auto", "book", event, "3", "--booking", "once", "4", "0", port=daemon.port).stdout)
    assert (told["done"], told["tickets"]) == ("4", "3")
    assert show(daemon, event)["sold"] == 3


def test_a_list_is_repeated_and_only_the_summary_is_shown(daemon: Daemon) -> None:
    done = ctl("auto", "list", "5", "0", port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    told = summary(done.stdout)
    assert (told["requests"], told["done"], told["refused"], told["tickets"]) == ("5", "5", "none", "0")


def test_json_tells_the_summary_as_one_object(daemon: Daemon) -> None:
    done = ctl("auto", "book", "nope", "1", "2", "0", "--json", port=daemon.port)
    assert (done.returncode, done.stderr) == (1, "")
    told = msgspec.json.decode(done.stdout)
    assert (told["reply"], told["requests"], told["done"]) == ("auto", 2, 0)
    assert told["refused"] == {"event_not_found": 2}
    assert {"tickets", "seconds", "requests_per_second", "p50_ms", "p99_ms"} < set(told)


def test_quiet_shows_no_summary(daemon: Daemon) -> None:
    done = ctl("-q", "auto", "ping", "2", "0", port=daemon.port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_booking_has_an_id_of_its_own_and_all_use_one_connection() -> None:
    with lying(booked(), booked(), booked()) as liar:
        ctl("auto", "book", "1", "1", "3", "0", port=liar.port)
        sent = [liar.asked()["booking"] for _ in range(3)]
        assert not liar.asked_more()
    assert len(set(sent)) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: auto"),
        (["list"], "usage: auto"),
        (["list", "5"], "usage: auto"),
        (["list", "0", "0"], "REQUESTS"),
        (["list", "-5", "0"], "REQUESTS"),
        (["list", "1_0", "0"], "REQUESTS"),
        (["list", "1000001", "0"], "REQUESTS"),
        (["list", "many", "0"], "REQUESTS"),
        (["list", "5", "-1"], "DELAY_MS"),
        (["list", "5", "0.5"], "DELAY_MS"),
        (["list", "5", "99999999999"], "DELAY_MS"),
        (["frob", "5", "0"], '"frob"'),
        (["watch", "5", "0"], "no end"),
        (["export", "events", "5", "0"], '"export"'),
        (["auto", "list", "5", "0", "5", "0"], '"auto"'),
        (["book", "1", "5", "0"], "quantity"),
        (["book", "1", "0", "5", "0"], "quantity must be"),
    ],
)
def test_numbers_and_commands_that_make_no_sense_are_status_2_and_nothing_is_asked(words: list[str], said: str) -> None:
    with nobody() as port:
        done = ctl("auto", *words, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_status_is_that_of_the_last_request_that_was_not_done() -> None:
    busy = answer("error", code="busy", message="full")
    with lying(busy, answer("pong")) as liar:
        done = ctl("auto", "ping", "2", "0", port=liar.port)
    assert done.returncode == 5
    told = summary(done.stdout)
    assert (told["done"], told["refused"]) == ("1", "1 busy")


def test_no_daemon_ends_it_with_status_3() -> None:
    with nobody() as port:
        done = ctl("auto", "ping", "5", "0", port=port)
    assert done.returncode == 3
    assert done.stderr == f"ticketctl: cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?\n"
    assert summary(done.stdout)["requests"] == "0"


def test_a_booking_whose_outcome_is_unknown_ends_it_with_status_4_and_the_command_that_settles_it() -> None:
    with lying(booked(), BREAK, BREAK) as liar:
        done = ctl("auto", "book", "1", "1", "5", "0", port=liar.port)
        liar.asked()
        unsettled = liar.asked()["booking"]
    assert done.returncode == 4
    assert done.stderr.endswith(f"\n  ticketctl --port {liar.port} book --booking {unsettled} 1 1\n")
    told = summary(done.stdout)
    assert (told["requests"], told["wanted"], told["done"], told["unknown"]) == ("1", "5", "1", "1")


def test_ctrl_c_ends_it_with_the_summary_so_far() -> None:
    with lying(answer("pong"), answer("pong"), SILENCE) as liar:
        process = start_ctl("auto", "ping", "5", "0", port=liar.port)
        for _ in range(3):
            liar.asked()
        status, out, err = interrupt(process)
    assert (status, err) == (130, "")
    told = summary(out)
    assert (told["requests"], told["wanted"], told["done"], told["unknown"]) == ("2", "5", "2", "0")


def test_ctrl_c_during_a_booking_says_how_to_settle_it_too() -> None:
    with lying(booked(quantity=2), SILENCE) as liar:
        process = start_ctl("auto", "book", "1", "2", "5", "0", port=liar.port)
        unsettled = [liar.asked()["booking"] for _ in range(2)][1]
        status, out, err = interrupt(process)
    assert status == 130
    assert err.endswith(f"\n  ticketctl --port {liar.port} book --booking {unsettled} 1 2\n")
    told = summary(out)
    assert (told["done"], told["unknown"], told["tickets"]) == ("1", "1", "2")


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_terminal_shows_how_far_it_is_and_then_the_summary(daemon: Daemon) -> None:
    with terminal("auto", "ping", "3", "0", port=daemon.port) as screen:
        screen.expect(r"\d+%")
        status, shown = ended(screen)
    assert status == 0
    assert "3 requests in" in shown
