"""ticketctl bookings: all pages, whatever their number, unless a limit asks for one of them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import (
    BREAK,
    SECONDS_MAX,
    SILENCE,
    answer,
    booked,
    command_line,
    ctl,
    ended,
    environment,
    interrupt,
    lying,
    nobody,
    start_ctl,
    terminal,
)
from tests.daemon import Daemon, running, write_events
from ticketd.wire.requests.fields import BOOKINGS_PER_PAGE_MAX

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

# More than two pages, of two events and two buyers.
MANY = 2 * BOOKINGS_PER_PAGE_MAX + 50


def page(first: int, size: int, *, last: str | None = None, more: bool = True) -> bytes:
    bookings = [msgspec.json.decode(booked(f"b{number:04}")) for number in range(first, first + size)]
    return answer("bookings", bookings=bookings, more=more, **({"last": last} if last else {}))


def ids(lines: str) -> list[str]:
    return [line.split("\t")[0] for line in lines.splitlines()]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, list[dict[str, Any]]]]:
    """A daemon with more bookings than two pages hold, and the replies to them."""
    folder = tmp_path_factory.mktemp("full")
    write_events(folder, MANY, MANY)
    with running(folder) as daemon, daemon.connect() as connection:
        buyers = ("anna", "'Ben B.'")
        for number in range(MANY):
            buyer = buyers[number % 50 == 0]
            connection.send(f"book {1 + number % 2} 1 --booking b{number:04} --buyer {buyer}\n".encode())
        yield daemon, [connection.read() for _ in range(MANY)]


def test_bookings_never_stop_at_a_page_in_silence(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, replies = full
    everything = [reply["id"] for reply in replies]
    done = ctl("bookings", port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    assert ids(done.stdout) == everything
    assert ids(ctl("bookings", "--after", "b0120", port=daemon.port).stdout) == everything[121:]
    with terminal("bookings", port=daemon.port) as screen:
        status, shown = ended(screen)
    head, *rows = shown.splitlines()
    assert (status, head.split()[:2]) == (0, ["ID", "EVENT"])
    assert [row.split()[0] for row in rows] == everything


@pytest.mark.parametrize("columns", [80, 60])
def test_bookings_fit_a_narrow_terminal_and_keep_their_ids(columns: int) -> None:
    """Ids have 36 characters, as ticketd mints them; from the second page on, there are buyers."""

    def narrow_page(numbers: range, *, more: bool, **facts: Any) -> bytes:
        bookings = [msgspec.json.decode(booked(f"01a21dfc-f5d3-74ad-842d-{number:012}")) for number in numbers]
        return answer("bookings", bookings=[{**booking, **facts} for booking in bookings], more=more)

    pages = [
        narrow_page(range(2), more=True),
        narrow_page(range(2, 4), more=True, buyer="Anna Blume, row 5", expires="2027-03-11T20:00:00Z", by="shop"),
        narrow_page(range(4, 6), more=False),
    ]
    with lying(*pages) as liar, terminal("bookings", port=liar.port, size=(20, columns)) as screen:
        status, shown = ended(screen)
    lines = shown.splitlines()
    assert status == 0
    assert max(map(len, lines)) <= columns
    heads = [line for line in lines if line.startswith("ID ")]
    rows = [line.split() for line in lines if line not in heads]
    assert [row[0][-12:] for row in rows] == [f"{number:012}" for number in range(6)]
    assert all("confirmed" in row for row in rows)
    # Their names stand above the columns once more where others begin.
    first, second = (head.split() for head in heads)
    assert ("BOOKED" in first, "BUYER" in first) == (columns == 80, False)
    assert ("BUYER" in second) == any("Anna" in line for line in lines) == (columns == 80)
    assert lines.index(heads[1]) == 3


def test_bookings_in_json_are_one_reply_with_those_of_all_pages(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, replies = full
    [line] = ctl("bookings", "--json", port=daemon.port).stdout.splitlines()
    reply = msgspec.json.decode(line)
    assert list(reply) == ["reply", "bookings"]
    assert [{"reply": "booking", **booking} for booking in reply["bookings"]] == replies


def test_bookings_of_an_event_or_a_buyer_are_those_of_all_pages(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, replies = full
    for words, field, value in (
        (["--event", "2"], "event", "2"),
        (["--buyer", "Ben B."], "buyer", "Ben B."),
        (["--buyer=anna"], "buyer", "anna"),
    ):
        expected = [reply["id"] for reply in replies if reply[field] == value]
        assert expected
        assert ids(ctl("bookings", *words, port=daemon.port).stdout) == expected
    assert ctl("bookings", "--event", "1", "--buyer", "nobody", port=daemon.port).stdout == ""


def test_a_limit_shows_one_page_and_says_that_there_are_more(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, replies = full
    done = ctl("bookings", "--limit", "100", "--buyer", "anna", port=daemon.port)
    first = [reply["id"] for reply in replies if reply["buyer"] == "anna"][:100]
    assert (done.returncode, ids(done.stdout)) == (0, first)
    said, command = done.stderr.splitlines()
    assert said == "ticketctl: there are more; this shows them:"
    assert command == f"  ticketctl --port {daemon.port} bookings --after {first[-1]} --buyer anna --limit 100"
    with terminal("bookings", "--limit=2", port=daemon.port) as screen:
        assert ended(screen)[1].endswith("\n(more after b0001)\n")
    [reply] = map(msgspec.json.decode, ctl("bookings", "--limit", "2", "--json", port=daemon.port).stdout.splitlines())
    assert (len(reply["bookings"]), reply["more"], reply["last"]) == (2, True, "b0001")
    last = ctl("bookings", "--limit", "100", "--after", "b0200", port=daemon.port)
    assert (len(ids(last.stdout)), last.stderr) == (49, "")


def test_a_limited_list_of_events_says_that_there_are_more(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, _ = full
    done = ctl("list", "--limit", "1", port=daemon.port)
    assert done.stderr.splitlines()[1] == f"  ticketctl --port {daemon.port} list --after 1 --limit 1"
    assert ctl("list", "--limit", "2", port=daemon.port).stderr == ""


def test_pages_without_bookings_are_passed_over() -> None:
    empty = page(0, 0, last="b0500")
    with lying(page(0, 2, last="b0100"), empty, page(600, 1, more=False)) as liar:
        done = ctl("bookings", "--event", "1", port=liar.port)
        asked = [liar.asked().get("after") for _ in range(3)]
    assert (done.returncode, ids(done.stdout)) == (0, ["b0000", "b0001", "b0600"])
    assert asked == [None, "b0100", "b0500"]
    with lying(empty) as liar, terminal("bookings", "--limit", "5", "--event", "1", port=liar.port) as screen:
        assert ended(screen) == (0, "no bookings\n(more after b0500)\n")
    with lying(empty, page(600, 0, more=False)) as liar, terminal("bookings", port=liar.port) as screen:
        assert ended(screen) == (0, "no bookings\n")


@pytest.mark.parametrize("second", [page(0, 0), page(0, 0, last="b0001"), page(0, 1, last="a"), page(0, 2)])
def test_bookings_are_not_read_in_circles(second: bytes) -> None:
    with lying(page(0, 2), second, page(0, 2)) as liar:
        done = ctl("bookings", port=liar.port)
        assert [liar.asked().get("after") for _ in range(2)] == [None, "b0001"]
        assert not liar.asked_more()
    assert done.returncode == 3
    assert "a page with nothing new" in done.stderr


def test_bookings_that_break_off_say_after_how_many() -> None:
    with lying(page(0, 2), BREAK, BREAK) as liar:
        done = ctl("bookings", port=liar.port)
    assert (done.returncode, ids(done.stdout)) == (3, ["b0000", "b0001"])
    assert done.stderr.endswith(". The output is incomplete: it ends after 2 bookings\n")
    with lying(page(0, 1), answer("error", code="busy", message="full", retry_after=1)) as liar:
        refused = ctl("bookings", port=liar.port)
    assert refused.returncode == 5
    assert refused.stderr == (
        "ticketctl: busy: full. The output is incomplete: it ends after 1 booking (again after 1 s)\n"
    )
    with lying(page(0, 2), BREAK, BREAK) as liar:
        in_json = ctl("bookings", "--json", port=liar.port)
    reply, error = map(msgspec.json.decode, in_json.stdout.splitlines())
    assert (len(reply["bookings"]), reply["more"], reply["last"]) == (2, True, "b0001")
    assert (error["reply"], error["code"]) == ("error", "cannot_connect")


@pytest.mark.parametrize("option", [[], ["--json"], ["--quiet"]])
def test_bookings_without_a_daemon_show_only_the_error(option: list[str]) -> None:
    with nobody() as port:
        done = ctl("bookings", *option, port=port)
    assert (done.returncode, (done.stdout + done.stderr).count("\n")) == (3, 1)
    assert "incomplete" not in done.stdout + done.stderr


def test_quiet_bookings_show_nothing(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, _ = full
    done = ctl("bookings", "--quiet", port=daemon.port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ctrl_c_leaves_a_whole_json_reply_of_what_came() -> None:
    with lying(page(0, 2), SILENCE) as liar, start_ctl("bookings", "--json", port=liar.port) as process:
        for _ in range(2):
            liar.asked()
        status, out, _ = interrupt(process)
    assert status == 130
    reply = msgspec.json.decode(out)
    assert (len(reply["bookings"]), reply["more"], reply["last"]) == (2, True, "b0001")


def test_a_page_is_shown_before_the_next_one_comes() -> None:
    with lying(page(0, 1), SILENCE) as liar, start_ctl("bookings", port=liar.port) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("b0000\t")
        interrupt(process)


def test_closing_the_pipe_of_bookings_is_silent(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, _ = full
    listing = subprocess.Popen(
        command_line(("bookings",), daemon.port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert listing.stdout
    assert listing.stdout.readline()
    listing.stdout.close()
    _, errors = listing.communicate(timeout=SECONDS_MAX)
    assert (listing.returncode, errors) == (0, b"")


def test_bookings_to_a_full_disk_say_so(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, _ = full
    with Path("/dev/full").open("w") as disk:
        done = subprocess.run(
            command_line(("bookings",), daemon.port),
            stdout=disk,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=SECONDS_MAX,
        )
    assert (done.returncode, done.stderr) == (1, b"ticketctl: cannot write the output: No space left on device\n")
