"""What each command takes, and which values of its fields are refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.wire.frames import amend, book, create, frame, refused
from tests.wire.strategies import JAZZ, REQUESTS_OF
from ticketd.model import UNSAFE, ticket_id
from ticketd.wire.codec import decode, encode
from ticketd.wire.lines import FRAME_BYTES_MAX
from ticketd.wire.replies import BookingReply, EventReply, PongReply, TicketReply
from ticketd.wire.requests import (
    Amend,
    Annul,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Help,
    Hold,
    List,
    Ping,
    Redeem,
    Reissue,
    Release,
    Request,
    Show,
    Stats,
    Wait,
    Watch,
)
from ticketd.wire.requests.fields import TICKETS_PER_CANCEL_MAX
from ticketd.wire.words import unparse

MS = timedelta(milliseconds=1)
WINDOW = Create("Jazz", JAZZ, 9, opens=JAZZ, closes=JAZZ + MS)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)
LONGEST = ticket_id("x" * 64, "0123456789ab")


def test_every_command_is_tested() -> None:
    assert set(REQUESTS_OF) == set(Request.__subclasses__())


def test_every_command_says_which_replies_answer_it() -> None:
    assert all(request.replies for request in Request.__subclasses__())
    assert Show("x").expects == (EventReply, BookingReply, TicketReply)
    assert Show("x", "booking").expects == (BookingReply,)
    assert Watch("x").expects == Watch().expects == (EventReply, PongReply)
    assert Watch(booking="x").expects == (BookingReply, PongReply)


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b'{"cmd":"list"}', List()),
        (b' { "limit" : 1000 , "cmd" : "list" , "after" : "1" } ', List("1", 1_000)),
        (b'{"cmd":"show","id":"A-Za-z0-9._-"}', Show("A-Za-z0-9._-")),
        (frame("show", id="x" * 64), Show("x" * 64)),
        (frame("show", id=LONGEST), Show(LONGEST)),
        (frame("show", id="x", kind="ticket"), Show("x", "ticket")),
        (book(quantity=1), Book("1", 1)),
        (book(quantity=1000, booking="mine"), Book("1", 1000, "mine")),
        (create(capacity=1), Create("Jazz", JAZZ, 1)),
        (create(capacity=1_000_000_000, id="j"), Create("Jazz", JAZZ, 1_000_000_000, "j")),
        (create(date="2027-03-11T21:30:00+01:30"), Create("Jazz", JAZZ, 9)),
        (create(name="é" * 100), Create("é" * 100, JAZZ, 9)),
        (create(capacity=9, available=0), Create("Jazz", JAZZ, 9, available=0)),
        (create(capacity=9, available=9), Create("Jazz", JAZZ, 9, available=9)),
        (frame("hold", event="1", quantity=2), Hold("1", 2, 300)),
        (frame("wait", event="1", quantity=2), Wait("1", 2, 900)),
        (frame("hold", event="1", quantity=1000, seconds=86_400, booking="b"), Hold("1", 1000, 86_400, "b")),
        (
            frame("wait", event="1", quantity=1000, seconds=86_400, booking="b", buyer="x"),
            Wait("1", 1000, 86_400, "b", "x"),
        ),
        (frame("confirm", booking="b"), Confirm("b")),
        (frame("release", booking="b"), Release("b")),
        (frame("cancel", booking="b"), Cancel("b")),
        (frame("cancel", booking="x" * 64, tickets=[LONGEST] * 190), Cancel("x" * 64, [LONGEST] * 190)),
        (create(capacity=9, available=4), Create("Jazz", JAZZ, 9, available=4)),
        (
            create(opens=None, closes=None, per_buyer=None),
            Create("Jazz", JAZZ, 9, opens=None, closes=None, per_buyer=None),
        ),
        (create(opens="2027-03-11T21:00:00+01:00", closes="2027-03-11T20:00:00.001Z"), WINDOW),
        # Rounded up to what is kept.
        (create(opens="2027-03-11T19:59:59.9991Z", closes="2027-03-11T20:00:00.0001Z"), WINDOW),
        (create(closes="9999-12-31T23:59:59.999Z", paused=True), Create("Jazz", JAZZ, 9, closes=LAST, paused=True)),
        (create(per_buyer=1), Create("Jazz", JAZZ, 9, per_buyer=1)),
        (create(per_buyer=1000, paused=False), Create("Jazz", JAZZ, 9, per_buyer=1000)),
        (book(quantity=1, buyer="é" * 100), Book("1", 1, buyer="é" * 100)),
        # Two spellings are two buyers.
        (book(quantity=1, buyer=" e\u0301 "), Book("1", 1, buyer=" e\u0301 ")),
        (frame("hold", event="1", quantity=1, buyer="x" * 200), Hold("1", 1, 300, buyer="x" * 200)),
        (frame("extend", booking="b", seconds=86_400), Extend("b", 86_400)),
        (frame("confirm", booking="b", late=True), Confirm("b", late=True)),
        (frame("confirm", booking="b", late=False), Confirm("b")),
        (frame("reissue", ticket=LONGEST), Reissue(LONGEST)),
        (frame("redeem", ticket="t", event="e", scan="x" * 64), Redeem("t", "e", "x" * 64)),
        (frame("annul", ticket="t", event="e", reason="x" * 200), Annul("t", "e", "x" * 200)),
        (frame("annul", ticket=LONGEST), Annul(LONGEST)),
        (frame("amend", event="1", opens=None), Amend("1", opens=None)),
        (frame("amend", event="1", closes=None, per_buyer=None), Amend("1", closes=None, per_buyer=None)),
        (frame("amend", event="1", paused=False), Amend("1", paused=False)),
        (frame("amend", event="1", paused=True, per_buyer=1000), Amend("1", paused=True, per_buyer=1000)),
        (frame("delete", event="1"), Delete("1")),
        (frame("bookings", event="e", buyer=" "), Bookings(event="e", buyer=" ")),
        (frame("redeem", ticket="t"), Redeem("t")),
        (frame("redeem", ticket="a.b.0123456789ab"), Redeem("a.b.0123456789ab")),
        (frame("redeem", ticket=LONGEST), Redeem(LONGEST)),
        (frame("amend", event="1", capacity=1), Amend("1", capacity=1)),
        (frame("amend", event="1", name="é", date="2027-03-11T21:00:00+01:00"), Amend("1", "é", JAZZ)),
        (frame("watch"), Watch()),
        (frame("watch", event="1"), Watch("1")),
        (frame("watch", booking="b"), Watch(booking="b")),
        (frame("bookings"), Bookings(limit=100)),
        (frame("bookings", after="x" * 64, limit=1), Bookings("x" * 64, 1)),
        (b'{"cmd":"ping"}', Ping()),
        (b'{"cmd":"stats"}', Stats()),
        (b'{"cmd":"help","command":"book"}', Help("book")),
        (b'{"cmd":"book","event":"1","event":"2","quantity":1,"quantity":2}', Book("2", 2)),
    ],
)
def test_a_json_line_decodes_to_its_request(line: bytes, request_: Request) -> None:
    assert decode(line) == request_


@pytest.mark.parametrize("encoded", [encode, lambda request: " ".join(unparse(request)).encode()])
def test_the_largest_cancel_fits_into_a_line(encoded: Callable[[Request], bytes]) -> None:
    assert len(encoded(Cancel("x" * 64, [LONGEST] * TICKETS_PER_CANCEL_MAX))) <= FRAME_BYTES_MAX


def test_an_empty_amend_says_what_can_be_changed() -> None:
    error = refused(frame("amend", event="1"))
    assert error.code == "bad_request"
    fields = "name, date, capacity, opens, closes, paused, per_buyer"
    assert error.message == f"there is nothing to change; amend takes {fields}"


HUGE = 99999999999999999999
BAD_NUMBERS: list[object] = [0, -5, HUGE, -HUGE, 1.5, 2.0, True, False, None, "2", "", [], {}]
BAD_IDS_OF_ANY: list[object] = ["", "a b", "a/b", "é", "1\n", "\x00", "x" * 78, "\u202e", 1, 1.0, True, None, ["1"], {}]
BAD_IDS = ["x" * 65, LONGEST, *BAD_IDS_OF_ANY]
NOT_TEXT: list[object] = [5, 1.5, True, None, ["a"], {}]
TOO_LONG = ["x" * 201, "é" * 101]
BAD_NAMES = ["", *TOO_LONG, "\x1b[31m", "a\x00", "a\nb", "a\rb", "\x7f", "\x9b1m", "\u202eb", "a\u2028b", "e\u0301"]
BAD_NAMES += [" ", "  ", "\u00a0", "\u2003", " x", "x ", "\u3000x", "x\u00a0"]
BAD_BUYERS: list[object] = ["", *TOO_LONG, "a\nb", "\x00", "\x7f", "\x1b[2J", "\u202eb", "a\u2029b", *NOT_TEXT]
BAD_FLAGS: list[object] = ["", "true", "yes", 0, 1, None, [], {}]
BAD_DATES = ["", "2027-03-11", "2027-03-11T20:00:00", "tomorrow", "2027-02-30T00:00:00Z", "0000-01-01T00:00:00Z"]
BAD_LISTS: list[object] = [[], ["t"] * 191, ["a b"], ["x" * 78], ["t", ""], ["t", 1], ["a,b"], "t", 5, True, None, {}]
BEYOND_UTC = ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]
TIMES = ("opens", "closes")
# None clears a time or a limit.
BAD_TIMES = [
    *BAD_DATES,
    *BEYOND_UTC,
    "9999-12-31T23:59:59.9991Z",
    "none",
    *(bad for bad in NOT_TEXT if bad is not None),
]
BAD_LIMITS = [bad for bad in BAD_NUMBERS if bad is not None]
LATER = "2027-03-11T20:00:00.001Z"
# The last one is the same millisecond, as it is kept.
NOT_LATER = [LATER, "2027-03-11T20:00:00Z", "2027-03-11T21:00:00+01:00", "2027-03-11T20:00:00.0002Z"]
BAD_FIELDS: list[tuple[str, bytes]] = [
    *[("quantity", book(quantity=bad)) for bad in [*BAD_NUMBERS, 1001]],
    *[("capacity", create(capacity=bad)) for bad in [*BAD_NUMBERS, 1_000_000_001]],
    *[("limit", frame("list", limit=bad)) for bad in [*BAD_NUMBERS, 100_001]],
    *[("after", frame("list", after=bad)) for bad in BAD_IDS],
    *[("id", frame("show", id=bad)) for bad in BAD_IDS_OF_ANY],
    *[("kind", frame("show", id="1", kind=bad)) for bad in ["", "Event", "events", *NOT_TEXT]],
    *[("id", create(id=bad)) for bad in BAD_IDS],
    *[("event", book(event=bad)) for bad in BAD_IDS],
    *[("booking", book(booking=bad)) for bad in BAD_IDS],
    *[("name", create(name=bad)) for bad in [*BAD_NAMES, *NOT_TEXT]],
    *[("date", create(date=bad)) for bad in [*BAD_DATES, *BEYOND_UTC, *NOT_TEXT]],
    *[("available", create(available=bad)) for bad in [-1, 10, *BAD_NUMBERS[1:]]],
    *[
        ("seconds", frame(cmd, event="1", quantity=1, seconds=bad))
        for cmd in ("hold", "wait")
        for bad in [*BAD_NUMBERS, 86_401]
    ],
    *[("quantity", frame(cmd, event="1", quantity=bad)) for cmd in ("hold", "wait") for bad in [*BAD_NUMBERS, 1001]],
    *[("booking", frame(cmd, booking=bad)) for cmd in ("confirm", "release", "cancel") for bad in BAD_IDS],
    *[("booking", frame("extend", booking=bad, seconds=1)) for bad in BAD_IDS],
    *[("seconds", frame("extend", booking="b", seconds=bad)) for bad in [*BAD_NUMBERS, 86_401]],
    *[("late", frame("confirm", booking="b", late=bad)) for bad in BAD_FLAGS],
    *[("paused", change(paused=bad)) for change in (create, amend) for bad in BAD_FLAGS],
    *[(time, change(**{time: bad})) for change in (create, amend) for time in TIMES for bad in BAD_TIMES],
    *[("per_buyer", change(per_buyer=bad)) for change in (create, amend) for bad in [*BAD_LIMITS, 1001]],
    *[("closes", change(opens=LATER, closes=bad)) for change in (create, amend) for bad in NOT_LATER],
    *[
        ("buyer", frame(cmd, event="1", quantity=1, buyer=bad))
        for cmd in ("book", "hold", "wait")
        for bad in BAD_BUYERS
    ],
    *[("event", frame("wait", event=bad, quantity=1)) for bad in BAD_IDS],
    *[("booking", frame("wait", event="1", quantity=1, booking=bad)) for bad in BAD_IDS],
    *[("buyer", frame("bookings", buyer=bad)) for bad in BAD_BUYERS],
    *[("event", frame("bookings", event=bad)) for bad in BAD_IDS],
    *[("reason", frame("annul", ticket="t", reason=bad)) for bad in BAD_BUYERS],
    *[("event", frame(cmd, ticket="t", event=bad)) for cmd in ("redeem", "annul") for bad in BAD_IDS],
    *[("scan", frame("redeem", ticket="t", scan=bad)) for bad in BAD_IDS],
    *[("ticket", frame(cmd, ticket=bad)) for cmd in ("annul", "reissue") for bad in BAD_IDS_OF_ANY],
    *[("event", frame("delete", event=bad)) for bad in BAD_IDS],
    *[("tickets", frame("cancel", booking="b", tickets=bad)) for bad in BAD_LISTS],
    *[("ticket", frame("redeem", ticket=bad)) for bad in BAD_IDS_OF_ANY],
    *[(field, frame("watch", **{field: bad})) for field in ("event", "booking") for bad in BAD_IDS],
    *[("name", frame("amend", event="1", name=bad)) for bad in [*BAD_NAMES, *NOT_TEXT]],
    *[("date", frame("amend", event="1", date=bad)) for bad in [*BAD_DATES, *BEYOND_UTC, *NOT_TEXT]],
    *[("capacity", frame("amend", event="1", capacity=bad)) for bad in [*BAD_NUMBERS, 1_000_000_001]],
    *[("after", frame("bookings", after=bad)) for bad in BAD_IDS],
    *[("limit", frame("bookings", limit=bad)) for bad in [*BAD_NUMBERS, 101]],
    *[("command", frame("help", command=bad)) for bad in NOT_TEXT],
]


@pytest.mark.parametrize(("field", "line"), BAD_FIELDS)
def test_a_bad_value_is_refused_and_its_field_is_named(field: str, line: bytes) -> None:
    error = refused(line)
    assert error.code == "bad_request"
    assert error.message.startswith(f"{field} must ")
    assert not UNSAFE.search(error.message)
    assert len(error.message) < 300
