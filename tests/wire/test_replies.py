from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.strategies import DATES, IDS, JAZZ, NAMES, OR_NOT, TICKET_IDS
from ticketd.errors import Code, TicketError
from ticketd.model import BookingState, Change, TicketState, ticket_id
from ticketd.wire import codec
from ticketd.wire.codec import encode
from ticketd.wire.commands import commands, help_reply
from ticketd.wire.replies import (
    BookingRecord,
    BookingReply,
    BookingsReply,
    ErrorReply,
    EventFacts,
    EventReply,
    EventsReply,
    HelpReply,
    Made,
    PongReply,
    ReadyReply,
    Reply,
    StatsReply,
    TicketReply,
    error_reply,
)
from ticketd.wire.requests import EVENTS_PER_PAGE_MAX, REPLY_BYTES_MAX, Help

PRECISE = JAZZ.replace(microsecond=123_456)
COUNTS = st.integers(0, 2**53)
SECONDS = st.floats(0, 1e9)
FACTS = {"id": IDS, "name": NAMES, "date": DATES} | dict.fromkeys(
    ["capacity", "available", "held", "sold", "version"], COUNTS
)
MOMENTS = st.none() | DATES
BOOKING: dict[str, st.SearchStrategy[Any]] = {"id": IDS, "event": IDS, "state": st.sampled_from(get_args(BookingState))}
BOOKING |= dict.fromkeys(["quantity", "available", "version"], COUNTS) | {"expires": MOMENTS}
BOOKING |= dict.fromkeys(["tickets", "cancelled", "redeemed"], st.lists(TICKET_IDS, max_size=3))
BOOKING |= {"redeemed_at": st.lists(DATES, max_size=3)}
TICKET: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(["event", "booking"], IDS)
TICKET |= {"id": TICKET_IDS, "state": st.sampled_from(get_args(TicketState)), "redeemed_at": MOMENTS}
MADE = st.builds(Made, COUNTS, COUNTS, st.none() | COUNTS, MOMENTS)
WHAT = st.sampled_from(["confirm", "release", "expire", "cancel"])
CHANGES = st.lists(st.builds(Change, WHAT, COUNTS, COUNTS, st.lists(TICKET_IDS, max_size=3)), max_size=3)
RECORD = st.builds(BookingRecord, **BOOKING, made=st.none() | MADE, changes=CHANGES)
EVENTS = st.lists(st.builds(EventFacts, **FACTS), max_size=4)
HELPS = st.builds(help_reply, st.builds(Help, command=OR_NOT | st.sampled_from(list(commands()))))
REPLIES_OF: dict[Any, st.SearchStrategy[Reply]] = {
    EventsReply: st.builds(EventsReply, EVENTS, st.booleans()),
    EventReply: st.builds(EventReply, **FACTS, replayed=st.booleans()),
    BookingReply: st.builds(BookingReply, **BOOKING, replayed=st.booleans()),
    BookingsReply: st.builds(BookingsReply, st.lists(RECORD), st.booleans()),
    TicketReply: st.builds(TicketReply, **TICKET),
    StatsReply: st.builds(StatsReply, st.text(), st.booleans(), SECONDS, *[COUNTS] * 11),
    PongReply: st.builds(PongReply, st.booleans()),
    ReadyReply: st.builds(ReadyReply),
    HelpReply: HELPS,
    ErrorReply: st.builds(
        ErrorReply,
        st.sampled_from(get_args(Code)),
        st.text(),
        *[st.none() | COUNTS] * 2,
        st.none() | SECONDS,
        MOMENTS,
    ),
}


def test_every_reply_is_tested() -> None:
    # Other tests may have made some of their own.
    assert set(REPLIES_OF) == {kind for kind in Reply.__subclasses__() if kind.__module__.startswith("ticketd.")}


@settings(deadline=None, max_examples=300)
@given(st.one_of(*REPLIES_OF.values()))
def test_a_reply_is_one_line_and_decodes_to_the_same_reply(reply: Reply) -> None:
    line = encode(reply)
    assert b"\n" not in line
    assert codec.decode_reply(line) == reply


@settings(deadline=None)
@given(EVENTS, st.booleans())
def test_events_encoded_singly_or_together_make_the_same_reply(events: list[EventFacts], more: bool) -> None:
    assert codec.encode_events(map(encode, events), more=more) == encode(EventsReply(events, more))


def test_a_client_takes_the_longest_replies_there_are() -> None:
    event = EventFacts("x" * 64, '"' * 200, PRECISE, 10**9, 10**9, 10**9, 10**9, 2**63)
    assert len(encode(EventsReply([event] * EVENTS_PER_PAGE_MAX, more=True))) < REPLY_BYTES_MAX
    # A thousand tickets in one booking, or in a page of a hundred.
    for bookings, tickets in ((1, 1_000), (100, 10)):
        ids = [ticket_id("x" * 64, "0" * 12)] * tickets
        record = BookingRecord(
            *("x" * 64, "x" * 64, 1_000, "confirmed", ids, 10**9, 2**63, PRECISE, ids, ids, [PRECISE] * tickets),
            made=Made(10**9, 2**63, 86_400, PRECISE),
            changes=[Change("cancel", 10**9, 2**63, [id]) for id in ids],
        )
        assert len(encode(BookingsReply([record] * bookings, more=True))) < REPLY_BYTES_MAX


EVENT_JSON = (
    b'"id":"1","name":"Jazz","date":"2027-03-11T20:00:00Z","capacity":9,"available":7,"held":0,"sold":2,"version":1'
)
BOOKING_JSON = b'"id":"b","event":"1","quantity":1,"state":"confirmed","tickets":["t"],"available":0,"version":9'


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (EventsReply([]), b'{"reply":"events","events":[]}'),
        (
            EventsReply([EventFacts("1", "Jazz", JAZZ, 9, 7, 0, 2, 1)]),
            b'{"reply":"events","events":[{%b}]}' % EVENT_JSON,
        ),
        (EventReply("1", "Jazz", JAZZ, 9, 7, 0, 2, 1), b'{"reply":"event",%b}' % EVENT_JSON),
        (
            EventReply("1", "Jazz", JAZZ, 9, 7, 0, 2, 1, True),
            b'{"reply":"event",%b,"replayed":true}' % EVENT_JSON,
        ),
        (BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9), b'{"reply":"booking",%b}' % BOOKING_JSON),
        (
            BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, replayed=True),
            b'{"reply":"booking",%b,"replayed":true}' % BOOKING_JSON,
        ),
        (
            TicketReply("t", "1", "b", "valid"),
            b'{"reply":"ticket","id":"t","event":"1","booking":"b","state":"valid"}',
        ),
        (
            BookingReply("b", "1", 1, "held", [], 0, 9, JAZZ),
            b'{"reply":"booking","id":"b","event":"1","quantity":1,"state":"held","tickets":[],"available":0,"version":9,'
            b'"expires":"2027-03-11T20:00:00Z"}',
        ),
        (
            BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, cancelled=["u"]),
            b'{"reply":"booking",%b,"cancelled":["u"]}' % BOOKING_JSON,
        ),
        (
            BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, redeemed=["t"], redeemed_at=[JAZZ]),
            b'{"reply":"booking",%b,"redeemed":["t"],"redeemed_at":["2027-03-11T20:00:00Z"]}' % BOOKING_JSON,
        ),
        (BookingsReply([]), b'{"reply":"bookings","bookings":[]}'),
        (
            BookingsReply([BookingRecord("b", "1", 1, "confirmed", ["t"], 0, 9)], more=True),
            b'{"reply":"bookings","bookings":[{%b}],"more":true}' % BOOKING_JSON,
        ),
        (
            BookingsReply([BookingRecord("b", "1", 1, "confirmed", ["t"], 0, 9)]),
            b'{"reply":"bookings","bookings":[{%b}]}' % BOOKING_JSON,
        ),
        (
            BookingsReply(
                [
                    BookingRecord(
                        *("b", "1", 1, "confirmed", ["t"], 0, 9),
                        made=Made(0, 8, 60, JAZZ),
                        changes=[Change("confirm", 0, 9)],
                    )
                ]
            ),
            b'{"reply":"bookings","bookings":[{%b,"made":{"available":0,"version":8,"seconds":60,'
            b'"expires":"2027-03-11T20:00:00Z"},"changes":[["confirm",0,9,[]]]}]}' % BOOKING_JSON,
        ),
        (
            TicketReply("t", "1", "b", "redeemed", JAZZ),
            b'{"reply":"ticket","id":"t","event":"1","booking":"b","state":"redeemed",'
            b'"redeemed_at":"2027-03-11T20:00:00Z"}',
        ),
        (
            ErrorReply("already_redeemed", "m", redeemed_at=JAZZ),
            b'{"reply":"error","code":"already_redeemed","message":"m","redeemed_at":"2027-03-11T20:00:00Z"}',
        ),
        (PongReply(), b'{"reply":"pong"}'),
        (ReadyReply(), b'{"reply":"ready"}'),
        (ErrorReply("internal", "m"), b'{"reply":"error","code":"internal","message":"m"}'),
        (
            ErrorReply("sold_out", "m", available=0, version=0),
            b'{"reply":"error","code":"sold_out","message":"m","available":0,"version":0}',
        ),
        (
            error_reply(TicketError("busy", "m", retry_after=0.5)),
            b'{"reply":"error","code":"busy","message":"m","retry_after":0.5}',
        ),
    ],
)
def test_a_reply_on_the_wire_has_exactly_these_fields(reply: Reply, line: bytes) -> None:
    assert encode(reply) == line


def test_a_client_ignores_fields_of_a_newer_daemon() -> None:
    assert codec.decode_reply(b'{"reply":"pong","new":{"a":[1]}}') == PongReply()
