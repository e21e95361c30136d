import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from ticketd import protocol
from ticketd.errors import Code, TicketError
from ticketd.model import UNSAFE, BookingState, Change, TicketState, state_after
from ticketd.protocol import (
    COMMANDS,
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
    Reply,
    Request,
    Restore,
    Show,
    Stats,
    Tickets,
    Watch,
    decode,
    encode,
)

JAZZ = datetime(2027, 3, 11, 20, tzinfo=UTC)
IDS = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
NAMES = (
    st.text(min_size=1, max_size=60)
    .map(lambda text: normalize("NFC", text))
    .filter(lambda name: not UNSAFE.search(name) and len(name.encode()) <= 200)
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
DATES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=ZONES)
OR_NOT = st.just(UNSET)
QUANTITIES = st.integers(1, 1_000)
CAPACITIES = st.integers(1, 1_000_000_000)
VERSIONS = st.integers(1, 10**15)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 30), timezones=ZONES)
PAGE: dict[str, st.SearchStrategy[Any]] = {"after": OR_NOT | IDS, "limit": st.integers(1, 100)}


@st.composite
def restores(draw: st.DrawFn) -> Restore:
    seconds = draw(st.none() | st.integers(1, 86_400))
    first, *rest = sorted(draw(st.lists(VERSIONS, min_size=1, max_size=4, unique=True)))
    ids = draw(st.lists(IDS, min_size=3, max_size=5, unique=True))
    ends = ["confirm"] if len(rest) != 1 else ["confirm", "release", "expire"]
    changes: list[Change] = []
    for version in rest:
        state = state_after(seconds, 9, changes)
        what = draw(st.sampled_from(ends)) if state == "held" else "cancel"
        cancelled = [ids[len(changes) - 1]] if what == "cancel" else []
        changes.append(Change(what, draw(st.integers(0, 10**9)), version, cancelled))  # type: ignore[arg-type]
    has_tickets = state_after(seconds, 9, changes) == "confirmed"
    return Restore(
        *(draw(IDS), draw(IDS), draw(st.integers(20, 1_000)), draw(st.integers(0, 10**9)), first),
        seconds=seconds or UNSET,
        expires=draw(TIMES) if seconds else UNSET,
        changes=changes or UNSET,
        tickets=ids if has_tickets else UNSET,
        before=draw(OR_NOT | st.integers(0, 15)) if has_tickets else UNSET,
    )


# Of each command, every request that a client may send; test_words takes them from here.
REQUESTS_OF: dict[Any, st.SearchStrategy[Request]] = {
    List: st.builds(List, after=OR_NOT | IDS, limit=OR_NOT | st.integers(1, 100_000)),
    Show: st.builds(Show, id=IDS),
    Create: CAPACITIES.flatmap(
        lambda capacity: st.builds(
            Create,
            *(NAMES, DATES, st.just(capacity)),
            id=OR_NOT | IDS,
            available=OR_NOT | st.integers(0, capacity),
            version=OR_NOT | VERSIONS,
        )
    ),
    Book: st.builds(Book, event=IDS, quantity=QUANTITIES, booking=OR_NOT | IDS),
    Hold: st.builds(Hold, event=IDS, quantity=QUANTITIES, seconds=st.integers(1, 86_400), booking=OR_NOT | IDS),
    Confirm: st.builds(Confirm, booking=IDS),
    Release: st.builds(Release, booking=IDS),
    Cancel: st.builds(Cancel, booking=IDS, tickets=OR_NOT | st.lists(IDS, min_size=1, max_size=5)),
    Redeem: st.builds(Redeem, ticket=IDS, at=OR_NOT | TIMES),
    Amend: st.builds(Amend, event=IDS, name=NAMES, date=OR_NOT | DATES, capacity=OR_NOT | CAPACITIES)
    | st.builds(Amend, event=IDS, date=OR_NOT | DATES, capacity=CAPACITIES)
    | st.builds(Amend, event=IDS, date=DATES),
    Watch: st.builds(Watch, event=OR_NOT | IDS),
    Bookings: st.builds(Bookings, **PAGE),
    Tickets: st.builds(Tickets, **PAGE),
    Restore: restores(),
    Stats: st.builds(Stats),
    Ping: st.builds(Ping),
    Help: st.builds(Help, command=OR_NOT | st.sampled_from(list(COMMANDS)) | st.text(max_size=64)),
}
REQUESTS = st.one_of(*REQUESTS_OF.values())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | IDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = sorted({field.name for command in COMMANDS.values() for field in command.fields})


def refused(frame: bytes) -> TicketError:
    with pytest.raises(TicketError) as raised:
        decode(frame)
    return raised.value


def decodes_or_is_refused_well(frame: bytes) -> None:
    try:
        decode(frame)
    except TicketError as error:
        assert error.code in get_args(Code)
        assert error.message
        assert not UNSAFE.search(error.message)


def frame(cmd: str, **fields: object) -> bytes:
    return json.dumps({"cmd": cmd, **fields}).encode()


def book(**fields: object) -> bytes:
    return frame("book", **{"event": "1", "quantity": 2, **fields})


def create(**fields: object) -> bytes:
    return frame("create", **{"name": "Jazz", "date": "2027-03-11T20:00:00Z", "capacity": 9, **fields})


def restore(**fields: object) -> bytes:
    return frame("restore", **{"booking": "b", "event": "1", "quantity": 2, "available": 9, "version": 3, **fields})


def held(**fields: object) -> bytes:
    return restore(**{"seconds": 60, "expires": "2027-03-11T20:00:00Z", **fields})


def test_every_command_is_tested() -> None:
    assert set(REQUESTS_OF) == set(get_args(Request))


@settings(deadline=None, max_examples=300)
@given(REQUESTS)
def test_what_a_client_encodes_is_what_the_daemon_decodes(request: Request) -> None:
    assert decode(encode(request)) == request


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b'{"cmd":"list"}', List()),
        (b' { "limit" : 100000 , "cmd" : "list" , "after" : "1" } ', List("1", 100_000)),
        (b'{"cmd":"show","id":"A-Za-z0-9._-"}', Show("A-Za-z0-9._-")),
        (frame("show", id="x" * 64), Show("x" * 64)),
        (book(quantity=1), Book("1", 1)),
        (book(quantity=1000, booking="mine"), Book("1", 1000, "mine")),
        (create(capacity=1), Create("Jazz", JAZZ, 1)),
        (create(capacity=1_000_000_000, id="j"), Create("Jazz", JAZZ, 1_000_000_000, "j")),
        (create(date="2027-03-11T21:30:00+01:30"), Create("Jazz", JAZZ, 9)),
        (create(name="é" * 100), Create("é" * 100, JAZZ, 9)),
        (create(capacity=9, available=0), Create("Jazz", JAZZ, 9, available=0)),
        (create(capacity=9, available=9), Create("Jazz", JAZZ, 9, available=9)),
        (frame("hold", event="1", quantity=2), Hold("1", 2, 300)),
        (frame("hold", event="1", quantity=1000, seconds=86_400, booking="b"), Hold("1", 1000, 86_400, "b")),
        (frame("confirm", booking="b"), Confirm("b")),
        (frame("release", booking="b"), Release("b")),
        (frame("cancel", booking="b"), Cancel("b")),
        (frame("cancel", booking="b", tickets=["t"] * 400), Cancel("b", ["t"] * 400)),
        (create(capacity=9, available=4, version=7), Create("Jazz", JAZZ, 9, available=4, version=7)),
        (frame("redeem", ticket="t"), Redeem("t")),
        (frame("redeem", ticket="t", at="2027-03-11T21:00:00.0009+01:00"), Redeem("t", JAZZ)),
        (restore(tickets=["t", "u"]), Restore("b", "1", 2, 9, 3, tickets=["t", "u"])),
        (restore(quantity=9, tickets=["t"], before=8), Restore("b", "1", 9, 9, 3, tickets=["t"], before=8)),
        (
            restore(tickets=["t"], changes=[["cancel", 10, 4, ["t"]]]),
            Restore("b", "1", 2, 9, 3, changes=[Change("cancel", 10, 4, ["t"])], tickets=["t"]),
        ),
        (held(), Restore("b", "1", 2, 9, 3, 60, JAZZ)),
        (held(changes=[["expire", 11, 4]]), Restore("b", "1", 2, 9, 3, 60, JAZZ, [Change("expire", 11, 4)])),
        (
            held(changes=[["confirm", 9, 4], ["cancel", 10, 6, ["u"]]], tickets=["t", "u"]),
            Restore(
                *("b", "1", 2, 9, 3, 60, JAZZ),
                [Change("confirm", 9, 4), Change("cancel", 10, 6, ["u"])],
                ["t", "u"],
            ),
        ),
        (frame("amend", event="1", capacity=1), Amend("1", capacity=1)),
        (frame("amend", event="1", name="é", date="2027-03-11T21:00:00+01:00"), Amend("1", "é", JAZZ)),
        (frame("watch"), Watch()),
        (frame("watch", event="1"), Watch("1")),
        (frame("bookings"), Bookings(limit=100)),
        (frame("tickets", after="t", limit=1), Tickets("t", 1)),
        (b'{"cmd":"ping"}', Ping()),
        (b'{"cmd":"stats"}', Stats()),
        (b'{"cmd":"help","command":"book"}', Help("book")),
        (b'{"cmd":"book","event":"1","event":"2","quantity":1,"quantity":2}', Book("2", 2)),
    ],
)
def test_a_request_means_what_it_says(line: bytes, request_: Request) -> None:
    assert decode(line) == request_


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"{", id="cut short"),
        pytest.param(b'{"cmd":"ping"', id="no end"),
        pytest.param(b'{"cmd":"ping"} {"cmd":"ping"}', id="trailing garbage"),
        pytest.param(b"{'cmd':'ping'}", id="single quotes"),
        pytest.param(b'{"cmd":"ping",}', id="trailing comma"),
        pytest.param(b'{"cmd":"sh\xff"}', id="value not UTF-8"),
        pytest.param(b'{"cmd":"ping","\xc3":1}', id="field not UTF-8"),
        pytest.param(b'{"cmd":"show","id":"\\ud800"}', id="lone high surrogate"),
        pytest.param(b'{"cmd":"show","id":"\\udc00 "}', id="lone low surrogate"),
        pytest.param(b'{"cmd":"show","id":"\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(b'{"cmd":"show","id":NaN}', id="NaN"),
        pytest.param(b'{"cmd":"ping","x":' + b"[" * 8000 + b"]" * 8000 + b"}", id="deep arrays"),
        pytest.param(b'{"cmd":' + b'{"a":' * 3000, id="deep objects"),
        pytest.param(b'{"cmd":"show","id":5,', id="wrong and cut short"),
    ],
)
def test_what_is_not_json_is_bad_frame_and_says_what_to_send(line: bytes) -> None:
    error = refused(line)
    assert error.code == "bad_frame"
    assert error.message.startswith("this line is not JSON: ")
    assert not UNSAFE.search(error.message)


@pytest.mark.parametrize("cmd", ["nope", "LIST", "list ", "", "a\nb\u202e", None, 5, True, ["list"], {"a": 1}])
def test_a_command_that_does_not_exist_is_unknown_and_those_that_do_are_told(cmd: object) -> None:
    error = refused(json.dumps({"cmd": cmd}).encode())
    assert error.code == "unknown_command"
    assert ", ".join(COMMANDS) in error.message
    assert not UNSAFE.search(error.message)


@pytest.mark.parametrize("line", [b"{}", b'{"id":"1"}', b'{"CMD":"list"}', b'{"cmd ":"list"}'])
def test_without_cmd_the_message_asks_for_it(line: bytes) -> None:
    error = refused(line)
    assert (error.code, error.message[:14]) == ("bad_request", "cmd is missing")


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field.name) for name, command in COMMANDS.items() for field in command.fields if field.required],
)
def test_a_missing_field_is_named(name: str, field: str) -> None:
    good: dict[str, object] = {"name": "x", "date": "2027-03-11T20:00:00Z", "capacity": 1, "id": "1"}
    good |= {"event": "1", "quantity": 1, "booking": "b", "ticket": "t", "available": 1, "version": 1}
    given = {other.name: good[other.name] for other in COMMANDS[name].fields if other.required}
    given |= {"capacity": 1} if name == "amend" else {}
    given |= {"tickets": ["t"]} if name == "restore" else {}
    decode(frame(name, **given))
    error = refused(frame(name, **{other: value for other, value in given.items() if other != field}))
    assert error.code == "bad_request"
    assert error.message.startswith(f"{name} needs {field}: ")


def test_an_amend_of_nothing_says_what_can_be_changed() -> None:
    error = refused(frame("amend", event="1"))
    assert error.code == "bad_request"
    assert error.message == "amend needs name, date or capacity, else there is nothing to change"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (restore(), "tickets must be those of what was booked or confirmed"),
        (held(tickets=["t"]), "tickets must be those of what was booked or confirmed"),
        (held(changes=[["release", 9, 4]], tickets=["t"]), "tickets must be those of what was booked or confirmed"),
        (restore(tickets=["t", "t"]), "tickets must not have the same id twice"),
        (restore(tickets=["t", "u", "v"]), "tickets must not be more than quantity, 2"),
        (restore(tickets=["t", "u"], before=1), "tickets must not be more than quantity, 2"),
        (restore(tickets=["t"], seconds=60), "expires must be given with seconds"),
        (restore(tickets=["t"], expires="2027-03-11T20:00:00Z"), "expires must be given with seconds"),
        (
            restore(tickets=["t"], changes=[["confirm", 9, 4]]),
            "changes must not have confirm where the booking is conf",
        ),
        (held(changes=[["cancel", 9, 4, ["t"]]]), "changes must not have cancel where the booking is held"),
        (held(changes=[["expire", 9, 4], ["release", 9, 5]]), "changes must not have release where the booking is exp"),
        (held(changes=[["release", 9, 3]]), "changes must be in the order of their versions"),
        (held(changes=[["release", 9, 10**16]]), "changes must be in the order of their versions"),
        (held(changes=[["release", -1, 4]]), "changes must be in the order of their versions"),
        (held(changes=[["release", 9, 4, ["t"]]]), "changes must name the tickets of each cancel, and of nothing else"),
        (restore(tickets=["t"], changes=[["cancel", 9, 4]]), "changes must name the tickets of each cancel"),
        (restore(tickets=["t"], changes=[["cancel", 9, 4, ["u"]]]), "changes must cancel only what is in tickets"),
        (restore(tickets=["t"], changes=[["cancel", 9, 4, ["t", "t"]]]), "changes must cancel only what is in tickets"),
        (
            restore(tickets=["t"], changes=[["cancel", 9, 4, ["t"]], ["cancel", 9, 5, ["t"]]]),
            "changes must cancel only what is in tickets, and each of them once",
        ),
    ],
)
def test_a_past_that_no_booking_can_have_is_refused_and_what_is_wrong_is_said(line: bytes, says: str) -> None:
    error = refused(line)
    assert error.code == "bad_request"
    assert error.message.startswith(says)


def test_the_largest_part_of_a_booking_fits_into_a_line_whatever_became_of_it() -> None:
    ids = [f"{number:064}" for number in range(protocol.TICKETS_PER_RESTORE_MAX)]
    changes = [Change("cancel", 10**9, 10**15 - 100 + number, [id_]) for number, id_ in enumerate(ids)]
    largest = Restore("b" * 64, "e" * 64, 1_000, 10**9, 10**15 - 200, UNSET, UNSET, changes, ids, 920)
    assert decode(encode(largest)) == largest
    assert len(encode(largest)) <= protocol.FRAME_BYTES_MAX


@pytest.mark.parametrize("field", ["Event", "qty", "", "a`b", "x\ny", "\u202e", "x" * 500])
def test_an_unknown_field_is_named_with_those_that_are_known(field: str) -> None:
    error = refused(book(**{field: 1}))
    assert error.code == "bad_request"
    assert error.message.startswith("book has no field ")
    assert error.message.endswith("; it takes event, quantity, booking")
    assert len(error.message) < 120
    assert not UNSAFE.search(error.message)


HUGE = 99999999999999999999
BAD_NUMBERS: list[object] = [0, -5, HUGE, -HUGE, 1.5, 2.0, True, False, None, "2", "", [], {}]
BAD_IDS: list[object] = ["", "a b", "a/b", "é", "1\n", "\x00", "x" * 65, "\u202e", 1, 1.0, True, None, ["1"], {}]
NOT_TEXT: list[object] = [5, 1.5, True, None, ["a"], {}]
TOO_LONG = ["x" * 201, "é" * 101]
BAD_NAMES = ["", *TOO_LONG, "\x1b[31m", "a\x00", "a\nb", "a\rb", "\x7f", "\x9b1m", "\u202eb", "a\u2028b", "e\u0301"]
BAD_DATES = ["", "2027-03-11", "2027-03-11T20:00:00", "tomorrow", "2027-02-30T00:00:00Z", "0000-01-01T00:00:00Z"]
BAD_LISTS: list[object] = [[], ["t"] * 1001, ["a b"], ["t", ""], ["t", 1], ["a,b"], "t", 5, True, None, {}]
BEYOND_UTC = ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]
BAD_TIMES = [*BAD_DATES, *BEYOND_UTC, "1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "2199-12-31T23:30:00-01:00"]
BAD_CHANGES: list[object] = [5, "x", None, {}, [5], [[]], [["release"]], [["book", 9, 4]], [["release", "9", 4]]]
BAD_FIELDS: list[tuple[str, bytes]] = [
    *[("quantity", book(quantity=bad)) for bad in [*BAD_NUMBERS, 1001]],
    *[("capacity", create(capacity=bad)) for bad in [*BAD_NUMBERS, 1_000_000_001]],
    *[("limit", frame("list", limit=bad)) for bad in [*BAD_NUMBERS, 100_001]],
    *[("after", frame("list", after=bad)) for bad in BAD_IDS],
    *[("id", frame("show", id=bad)) for bad in BAD_IDS],
    *[("id", create(id=bad)) for bad in BAD_IDS],
    *[("event", book(event=bad)) for bad in BAD_IDS],
    *[("booking", book(booking=bad)) for bad in BAD_IDS],
    *[("name", create(name=bad)) for bad in [*BAD_NAMES, *NOT_TEXT]],
    *[("date", create(date=bad)) for bad in [*BAD_DATES, *BEYOND_UTC, *NOT_TEXT]],
    *[("available", create(available=bad)) for bad in [-1, 10, *BAD_NUMBERS[1:]]],
    *[("seconds", frame("hold", event="1", quantity=1, seconds=bad)) for bad in [*BAD_NUMBERS, 86_401]],
    *[("quantity", frame("hold", event="1", quantity=bad)) for bad in [*BAD_NUMBERS, 1001]],
    *[("booking", frame(cmd, booking=bad)) for cmd in ("confirm", "release", "cancel") for bad in BAD_IDS],
    *[("tickets", frame("cancel", booking="b", tickets=bad)) for bad in BAD_LISTS],
    *[("ticket", frame("redeem", ticket=bad)) for bad in BAD_IDS],
    *[("event", frame("watch", event=bad)) for bad in BAD_IDS],
    *[("name", frame("amend", event="1", name=bad)) for bad in [*BAD_NAMES, *NOT_TEXT]],
    *[("date", frame("amend", event="1", date=bad)) for bad in [*BAD_DATES, *BEYOND_UTC, *NOT_TEXT]],
    *[("capacity", frame("amend", event="1", capacity=bad)) for bad in [*BAD_NUMBERS, 1_000_000_001]],
    *[("after", frame(cmd, after=bad)) for cmd in ("bookings", "tickets") for bad in BAD_IDS],
    *[("limit", frame(cmd, limit=bad)) for cmd in ("bookings", "tickets") for bad in [*BAD_NUMBERS, 1001]],
    *[("version", create(version=bad)) for bad in [-1, 10**15 + 1, *BAD_NUMBERS[1:]]],
    *[("at", frame("redeem", ticket="t", at=bad)) for bad in [*BAD_TIMES, *NOT_TEXT]],
    *[("booking", restore(booking=bad, tickets=["t"])) for bad in BAD_IDS],
    *[("event", restore(event=bad, tickets=["t"])) for bad in BAD_IDS],
    *[("quantity", restore(quantity=bad, tickets=["t"])) for bad in [*BAD_NUMBERS, 1001]],
    *[("available", restore(available=bad, tickets=["t"])) for bad in [*BAD_NUMBERS[1:], 10**9 + 1]],
    *[("version", restore(version=bad, tickets=["t"])) for bad in [*BAD_NUMBERS, 10**15 + 1]],
    *[("seconds", held(seconds=bad)) for bad in [*BAD_NUMBERS, 86_401]],
    *[("expires", held(expires=bad)) for bad in [*BAD_TIMES, *NOT_TEXT]],
    *[("changes", held(changes=bad)) for bad in BAD_CHANGES],
    *[("tickets", restore(tickets=bad)) for bad in [*BAD_LISTS, [f"t{number}" for number in range(81)]]],
    *[("before", restore(tickets=["t"], before=bad)) for bad in [*BAD_NUMBERS[1:], 1000]],
    *[("command", frame("help", command=bad)) for bad in NOT_TEXT],
]


@pytest.mark.parametrize(("field", "line"), BAD_FIELDS)
def test_a_bad_value_is_refused_and_its_field_is_named(field: str, line: bytes) -> None:
    error = refused(line)
    assert error.code == "bad_request"
    assert error.message.startswith(f"{field} must ")
    assert not UNSAFE.search(error.message)
    assert len(error.message) < 300


@settings(deadline=None, max_examples=300)
@given(st.binary())
def test_any_bytes_that_begin_as_json_are_refused_well(garbage: bytes) -> None:
    decodes_or_is_refused_well(b"{" + garbage)


@settings(deadline=None, max_examples=300)
@given(REQUESTS, st.lists(st.tuples(st.integers(1, 300), st.integers(0, 3), st.binary(max_size=3)), min_size=1))
def test_a_mutilated_request_is_refused_well(request: Request, edits: list[tuple[int, int, bytes]]) -> None:
    line = encode(request)
    for place, taken, put in edits:
        start = 1 + place % len(line)
        line = line[:start] + put + line[start + taken :]
    decodes_or_is_refused_well(line)


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(list(COMMANDS)), st.dictionaries(st.sampled_from(FIELDS) | st.text(st.characters()), JSON))
def test_any_values_in_any_fields_are_refused_well(cmd: str, fields: dict[str, object]) -> None:
    decodes_or_is_refused_well(json.dumps({"cmd": cmd} | fields).encode())


COUNTS = st.integers(0, 2**53)
SECONDS = st.floats(0, 1e9)
FACTS = {"id": IDS, "name": NAMES, "date": DATES} | dict.fromkeys(
    ["capacity", "available", "held", "sold", "version"], COUNTS
)
MOMENTS = st.none() | DATES
BOOKING: dict[str, st.SearchStrategy[Any]] = {"id": IDS, "event": IDS, "state": st.sampled_from(get_args(BookingState))}
BOOKING |= dict.fromkeys(["quantity", "available", "version"], COUNTS) | {"expires": MOMENTS}
BOOKING |= dict.fromkeys(["tickets", "cancelled", "redeemed"], st.lists(IDS, max_size=3))
TICKET: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(["id", "event", "booking"], IDS)
TICKET |= {"state": st.sampled_from(get_args(TicketState)), "redeemed_at": MOMENTS}
MADE = st.builds(protocol.Made, COUNTS, COUNTS, st.none() | COUNTS, MOMENTS)
WHAT = st.sampled_from(["confirm", "release", "expire", "cancel"])
CHANGES = st.lists(st.builds(Change, WHAT, COUNTS, COUNTS, st.lists(IDS, max_size=3)), max_size=3)
RECORD = st.builds(protocol.BookingRecord, **BOOKING, made=st.none() | MADE, changes=CHANGES)
EVENTS = st.lists(st.builds(protocol.EventFacts, **FACTS), max_size=4)
HELPS = st.builds(protocol.help_reply, st.builds(Help, command=OR_NOT | st.sampled_from(list(COMMANDS))))
REPLIES_OF: dict[Any, st.SearchStrategy[protocol.Reply]] = {
    protocol.EventsReply: st.builds(protocol.EventsReply, EVENTS),
    protocol.EventReply: st.builds(protocol.EventReply, **FACTS, replayed=st.booleans()),
    protocol.BookingReply: st.builds(protocol.BookingReply, **BOOKING, replayed=st.booleans()),
    protocol.BookingsReply: st.builds(protocol.BookingsReply, st.lists(RECORD)),
    protocol.TicketReply: st.builds(protocol.TicketReply, **TICKET, replayed=st.booleans()),
    protocol.TicketsReply: st.builds(protocol.TicketsReply, st.lists(st.builds(protocol.TicketFacts, **TICKET))),
    protocol.StatsReply: st.builds(protocol.StatsReply, st.text(), SECONDS, *[COUNTS] * 11),
    protocol.PongReply: st.builds(protocol.PongReply),
    protocol.HelpReply: HELPS,
    protocol.ErrorReply: st.builds(
        protocol.ErrorReply,
        st.sampled_from(get_args(Code)),
        st.text(),
        *[st.none() | COUNTS] * 2,
        st.none() | SECONDS,
        MOMENTS,
    ),
}


def test_every_reply_is_tested() -> None:
    assert set(REPLIES_OF) == set(get_args(Reply))


@settings(deadline=None, max_examples=300)
@given(st.one_of(*REPLIES_OF.values()))
def test_a_reply_is_one_line_that_a_client_decodes_to_the_same(reply: Reply) -> None:
    line = encode(reply)
    assert b"\n" not in line
    assert protocol.decode_reply(line) == reply


@settings(deadline=None)
@given(EVENTS)
def test_events_encoded_one_by_one_make_the_same_reply_as_all_at_once(events: list[protocol.EventFacts]) -> None:
    assert protocol.encode_events(map(encode, events)) == encode(protocol.EventsReply(events))


EVENT_JSON = (
    b'"id":"1","name":"Jazz","date":"2027-03-11T20:00:00Z","capacity":9,"available":7,"held":0,"sold":2,"version":1'
)
BOOKING_JSON = b'"id":"b","event":"1","quantity":1,"state":"confirmed","tickets":["t"],"available":0,"version":9'


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (protocol.EventsReply([]), b'{"reply":"events","events":[]}'),
        (
            protocol.EventsReply([protocol.EventFacts("1", "Jazz", JAZZ, 9, 7, 0, 2, 1)]),
            b'{"reply":"events","events":[{%b}]}' % EVENT_JSON,
        ),
        (protocol.EventReply("1", "Jazz", JAZZ, 9, 7, 0, 2, 1), b'{"reply":"event",%b}' % EVENT_JSON),
        (
            protocol.EventReply("1", "Jazz", JAZZ, 9, 7, 0, 2, 1, True),
            b'{"reply":"event",%b,"replayed":true}' % EVENT_JSON,
        ),
        (protocol.BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9), b'{"reply":"booking",%b}' % BOOKING_JSON),
        (
            protocol.BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, replayed=True),
            b'{"reply":"booking",%b,"replayed":true}' % BOOKING_JSON,
        ),
        (
            protocol.TicketReply("t", "1", "b", "valid"),
            b'{"reply":"ticket","id":"t","event":"1","booking":"b","state":"valid"}',
        ),
        (
            protocol.BookingReply("b", "1", 1, "held", [], 0, 9, JAZZ),
            b'{"reply":"booking","id":"b","event":"1","quantity":1,"state":"held","tickets":[],"available":0,"version":9,'
            b'"expires":"2027-03-11T20:00:00Z"}',
        ),
        (
            protocol.BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, cancelled=["u"], redeemed=["t"]),
            b'{"reply":"booking",%b,"cancelled":["u"],"redeemed":["t"]}' % BOOKING_JSON,
        ),
        (
            protocol.BookingsReply([protocol.BookingRecord("b", "1", 1, "confirmed", ["t"], 0, 9)]),
            b'{"reply":"bookings","bookings":[{%b}]}' % BOOKING_JSON,
        ),
        (
            protocol.BookingsReply(
                [
                    protocol.BookingRecord(
                        *("b", "1", 1, "confirmed", ["t"], 0, 9),
                        made=protocol.Made(0, 8, 60, JAZZ),
                        changes=[Change("confirm", 0, 9)],
                    )
                ]
            ),
            b'{"reply":"bookings","bookings":[{%b,"made":{"available":0,"version":8,"seconds":60,'
            b'"expires":"2027-03-11T20:00:00Z"},"changes":[["confirm",0,9,[]]]}]}' % BOOKING_JSON,
        ),
        (
            protocol.TicketReply("t", "1", "b", "redeemed", JAZZ),
            b'{"reply":"ticket","id":"t","event":"1","booking":"b","state":"redeemed",'
            b'"redeemed_at":"2027-03-11T20:00:00Z"}',
        ),
        (
            protocol.TicketReply("t", "1", "b", "valid", replayed=True),
            b'{"reply":"ticket","id":"t","event":"1","booking":"b","state":"valid","replayed":true}',
        ),
        (
            protocol.TicketsReply([protocol.TicketFacts("t", "1", "b", "valid")]),
            b'{"reply":"tickets","tickets":[{"id":"t","event":"1","booking":"b","state":"valid"}]}',
        ),
        (
            protocol.ErrorReply("already_redeemed", "m", redeemed_at=JAZZ),
            b'{"reply":"error","code":"already_redeemed","message":"m","redeemed_at":"2027-03-11T20:00:00Z"}',
        ),
        (protocol.PongReply(), b'{"reply":"pong"}'),
        (protocol.ErrorReply("internal", "m"), b'{"reply":"error","code":"internal","message":"m"}'),
        (
            protocol.ErrorReply("sold_out", "m", available=0, version=0),
            b'{"reply":"error","code":"sold_out","message":"m","available":0,"version":0}',
        ),
        (
            protocol.error_reply(TicketError("busy", "m", retry_after=0.5)),
            b'{"reply":"error","code":"busy","message":"m","retry_after":0.5}',
        ),
    ],
)
def test_a_reply_on_the_wire_has_these_fields_and_no_others(reply: Reply, line: bytes) -> None:
    assert encode(reply) == line


def test_a_client_passes_over_fields_that_a_later_daemon_adds() -> None:
    assert protocol.decode_reply(b'{"reply":"pong","new":{"a":[1]}}') == protocol.PongReply()


def test_help_explains_every_command_with_every_field() -> None:
    explained = {help_.command: help_ for help_ in protocol.help_reply(Help()).commands}
    requests = {str(request.__struct_config__.tag): request for request in get_args(Request)}
    assert explained.keys() == requests.keys()
    for name, request in requests.items():
        fields = explained[name].fields
        assert tuple(field.name for field in fields) == request.__struct_fields__
        assert [field.required for field in fields].count(False) == len(request.__struct_defaults__)
        assert all(field.must_be and field.description for field in fields)
        assert explained[name].usage.split()[0] == name
        assert explained[name].summary.endswith(".")
        assert protocol.help_reply(Help(name)).commands == [explained[name]]


def test_help_for_a_command_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(TicketError) as raised:
        protocol.help_reply(Help("nope\n"))
    assert raised.value.code == "unknown_command"
    assert ", ".join(COMMANDS) in raised.value.message
    assert not UNSAFE.search(raised.value.message)


@pytest.mark.parametrize(
    ("frame", "request_"),
    [
        (b'{"cmd":"list","cmd":"ping"}', Ping()),
        (b'{"cmd":"nope","cmd":"list"}', List()),
        (b'{"cmd":5,"cmd":"list"}', List()),
        (b'{"cmd":"book","event":"1","quantity":0,"quantity":2}', Book("1", 2)),
    ],
)
def test_of_a_repeated_field_the_last_one_counts_whatever_the_first_was(frame: bytes, request_: Request) -> None:
    assert decode(frame) == request_


@pytest.mark.parametrize("depth", [100, 900, 960, 980, 990, 995, 1_000, 1_010])
def test_nesting_of_any_depth_is_refused_and_never_a_bug(depth: int) -> None:
    for head in (b'{"cmd":"show","id":', b'{"cmd":'):
        with pytest.raises(TicketError) as refused:
            decode(head + b"[" * depth + b"]" * depth + b"}")
        assert refused.value.code in ("bad_request", "bad_frame", "unknown_command")


def test_a_number_of_thousands_of_digits_is_a_bad_request() -> None:
    with pytest.raises(TicketError) as refused:
        decode(b'{"cmd":"book","event":"1","quantity":' + b"9" * 5_000 + b"}")
    assert refused.value.code == "bad_request"
