import shlex
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.strategies import REQUESTS
from ticketd.errors import Code, TicketError
from ticketd.model import UNSAFE
from ticketd.wire.commands import commands
from ticketd.wire.requests import (
    Amend,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Help,
    Hold,
    List,
    Ping,
    Redeem,
    Release,
    Request,
    Show,
    Watch,
)
from ticketd.wire.words import decode, parse, split, unparse

JAZZ = Create("Jazz Night", datetime(2027, 3, 11, 20, tzinfo=UTC), 100)
CAFE = Create("Café", JAZZ.date, 100)
MINE = Book("1", 2, "mine")
TWO = ["a.b.0123456789ab", "a.b.ba9876543210"]
WHEN = "2027-03-11T20:00:00Z"


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("list", List()),
        ("  ping \t\r\n", Ping()),
        ("book 1 2", Book("1", 2)),
        ("book \t 1   2", Book("1", 2)),
        ("show 007", Show("007")),
        ("show 007 --kind booking", Show("007", "booking")),
        ("show --kind=event 007", Show("007", "event")),
        ("help", Help()),
        ("help book", Help("book")),
        (f'create "Jazz Night" {WHEN} 100', JAZZ),
        (f"create 'Jazz Night' {WHEN} 100", JAZZ),
        (rf"create Jazz\ Night {WHEN} 100", JAZZ),
        (f'create Jazz" "Night {WHEN} 100', JAZZ),
        ("create Café 2027-03-11T21:00:00+01:00 100", CAFE),
        (f"create 2027 {WHEN} 100 --id=2027", Create("2027", JAZZ.date, 100, "2027")),
        (rf'create "a\"b" {WHEN} 100', Create('a"b', JAZZ.date, 100)),
        ("book 1 2 --booking mine", MINE),
        ("book 1 2 --booking=mine", MINE),
        ("book --booking mine 1 2", MINE),
        ("book 1 --booking=mine 2", MINE),
        ("book 1 '2' --booking 'mine'", MINE),
        ("list --limit 5 --after=1", List("1", 5)),
        ("hold 1 2", Hold("1", 2, 300)),
        ("hold 1 2 --seconds 60 --booking mine", Hold("1", 2, 60, "mine")),
        ("confirm mine", Confirm("mine")),
        ("release mine", Release("mine")),
        ("cancel mine", Cancel("mine")),
        ("cancel mine --tickets a,b", Cancel("mine", ["a", "b"])),
        ("cancel --tickets=a mine", Cancel("mine", ["a"])),
        ("cancel mine --tickets=-a,--b", Cancel("mine", ["-a", "--b"])),
        ("cancel a.b --tickets a.b.0123456789ab,a.b.ba9876543210", Cancel("a.b", TWO)),
        ("redeem t", Redeem("t")),
        ("redeem a.b.0123456789ab", Redeem(TWO[0])),
        ("amend 1 --capacity 9", Amend("1", capacity=9)),
        (f"amend 1 --name 'Jazz Night' --date {WHEN}", Amend("1", "Jazz Night", JAZZ.date)),
        (f"create Café {WHEN} 100 --available 0", Create("Café", JAZZ.date, 100, available=0)),
        ("watch", Watch()),
        ("watch 1", Watch("1")),
        ("watch --booking b", Watch(booking="b")),
        ("bookings", Bookings()),
        ("bookings --limit 5 --after b", Bookings("b", 5)),
        ("show -x", Show("-x")),
        ("show -- --x", Show("--x")),
        ("show -- --", Show("--")),
        ("book --booking mine -- --x 2", Book("--x", 2, "mine")),
        ("book 1 2 --booking --x", Book("1", 2, "--x")),
    ],
)
def test_a_line_of_words_decodes_to_its_request(line: str, request_: Request) -> None:
    assert decode(line.encode()) == request_


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("book 1 2 3", "bad_request", ['"3" is one word too many', "usage: book EVENT QUANTITY [--booking ID]"]),
        (f"create Jazz Night {WHEN} 100", "bad_request", ["one word too many", "put quotes around a name"]),
        ("ping ping", "bad_request", ['"ping" is one word too many', "usage: ping"]),
        ("book 1 2 -- --booking=mine", "bad_request", ['"--booking=mine" is one word too many']),
        ("book", "bad_request", ["book needs event", "usage: book EVENT QUANTITY"]),
        ("book 1", "bad_request", ["book needs quantity", "usage: book EVENT QUANTITY"]),
        ("show --", "bad_request", ["show needs id"]),
        ("book 1 2 --id x", "bad_request", ['book has no option "--id"', "[--booking ID]"]),
        ("list --cmd=ping", "bad_request", ['list has no option "--cmd"']),
        ("book 1 2 --booking", "bad_request", ["--booking needs a value", "[--booking ID]"]),
        ("book 1 2 --booking=", "bad_request", ["booking must be 1 to 64"]),
        ("book 1 two", "bad_request", ['quantity must be a whole number from 1 to 1000, not "two"']),
        ("book 1 0", "bad_request", ["quantity must be a whole number from 1 to 1000, not 0"]),
        ("book 1 -5", "bad_request", ["quantity must be a whole number from 1 to 1000, not -5"]),
        ("book 1 1_0", "bad_request", ['not "1_0"']),
        ("book 1 2.0", "bad_request", ['not "2.0"']),
        ("book 1 ２", "bad_request", ["quantity must be a whole number"]),
        ("book 1 99999999999999999999", "bad_request", ["quantity must be", "not 99999999999999999999"]),
        ("book 1 " + "9" * 9000, "bad_request", ["quantity must be", 'not "999']),
        ("list --limit 0", "bad_request", ["limit must be a whole number from 1 to 1000, not 0"]),
        ("hold 1 2 --seconds 86401", "bad_request", ["seconds must be a whole number from 1 to 86400, not 86401"]),
        ("confirm", "bad_request", ["confirm needs booking", "usage: confirm BOOKING"]),
        ("cancel b --tickets a,,b", "bad_request", ["tickets must be 1 to 190 ids of tickets"]),
        ("cancel b --tickets=", "bad_request", ["tickets must be 1 to 190 ids of tickets"]),
        ("cancel b a", "bad_request", ['"a" is one word too many', "usage: cancel BOOKING [--tickets ID,ID]"]),
        ("amend 1", "bad_request", ["there is nothing to change; amend takes name, date"]),
        ("amend 1 --capacity 0", "bad_request", ["capacity must be a whole number from 1 to"]),
        ("watch 1 --booking b", "bad_request", ["watch takes an event or a booking, not both"]),
        ("watch 1 2", "bad_request", ['"2" is one word too many', "usage: watch [EVENT]"]),
        ("bookings --limit 101", "bad_request", ["limit must be a whole number from 1 to 100, not 101"]),
        ("redeem " + "x" * 78, "bad_request", ["ticket must be 1 to 77 of"]),
        ("create x tomorrow 100", "bad_request", ["date must be a day and time with its zone", 'not "tomorrow"']),
        (f"create '' {WHEN} 100", "bad_request", ["name must be 1 to 200 bytes"]),
        ('create "Jazz', "bad_request", ["No closing quotation", "a quote needs its end"]),
        ("show 'x", "bad_request", ["No closing quotation"]),
        ("show x --kind sale", "bad_request", ['kind must be one of event, booking, ticket, not "sale"']),
        ("show x y", "bad_request", ["usage: show ID [--kind event|booking|ticket]"]),
        ("show \\", "bad_request", ["No escaped character"]),
        ("show '" + "x" * 3000 + "'", "bad_request", ["words with quotes", "send JSON"]),
        ("nope", "unknown_command", ['there is no command "nope"', "; help lists the commands"]),
        ("tickets", "unknown_command", ['there is no command "tickets"']),
        ("BOOK 1 2", "unknown_command", ['there is no command "BOOK"']),
        ("''", "unknown_command", ['there is no command ""']),
        ("-- ping", "unknown_command", ['there is no command "--"']),
        ("GET / HTTP/1.1", "unknown_command", ['there is no command "GET"']),
    ],
)
def test_invalid_words_are_refused_with_the_reason(line: str, code: str, says: list[str]) -> None:
    with pytest.raises(TicketError) as raised:
        decode(line.encode())
    assert raised.value.code == code
    assert [words for words in says if words not in raised.value.message] == []


def test_words_that_are_not_utf8_are_a_bad_frame() -> None:
    with pytest.raises(TicketError, match="not UTF-8") as raised:
        decode(b"show \xff")
    assert raised.value.code == "bad_frame"


@given(REQUESTS)
@example(Show("--"))
@example(Book("--id", 2, "--booking"))
@example(Help(""))
def test_parsing_the_words_of_a_request_gives_it_back(request: Request) -> None:
    assert parse(unparse(request)) == request


@given(REQUESTS)
@example(Show("--"))
@example(Book("--id", 2, "--booking"))
@example(Help(""))
def test_decoding_the_line_of_a_request_gives_it_back(request: Request) -> None:
    assert decode(shlex.join(unparse(request)).encode()) == request


@given(st.lists(st.text(st.characters(exclude_characters="'\"\\ \t\r\n"), min_size=1)))
def test_a_line_without_quotes_is_split_as_a_shell_splits_it(words: list[str]) -> None:
    assert split(" ".join(words)) == words == shlex.split(" ".join(words))


SNIPPETS = [
    *commands(),
    " ",
    " ",
    "1",
    "--",
    "--id",
    "--booking=",
    "=",
    '"',
    "'",
    "\\",
    WHEN,
    "\x1b",
    "\u202e",
    "\n",
    "é",
]
LINES = st.binary() | st.lists(st.sampled_from(SNIPPETS)).map(lambda parts: "".join(parts).encode())


@given(LINES.filter(lambda line: line.strip(b" \t\r\n") != b"" and not line.startswith(b"{")))
def test_any_line_decodes_or_is_refused(line: bytes) -> None:
    try:
        decode(line)
    except TicketError as error:
        assert error.code in get_args(Code)
        assert error.message
        assert not UNSAFE.search(error.message)
