from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.wire.strategies import BUYERS, DATES, IDS, JAZZ, NAMES, OR_NOT, TICKET_IDS
from ticketd.access_file import NAME_CHARS_MAX
from ticketd.errors import Code, TicketError
from ticketd.model import WAITING_MAX, BookingState, ChangeKind, TicketState, ticket_id
from ticketd.rules.showing import ANNULMENTS_MAX, EXTENSIONS_MAX, REISSUES_MAX
from ticketd.wire import codec
from ticketd.wire.codec import encode
from ticketd.wire.commands import commands, help_reply
from ticketd.wire.replies import (
    REPLY_BYTES_MAX,
    BackupReply,
    BookingRecord,
    BookingReply,
    BookingsReply,
    ChangeFacts,
    ErrorReply,
    EventFacts,
    EventReply,
    EventsReply,
    EventStats,
    HelpReply,
    Made,
    PongReply,
    ReadyReply,
    RedemptionFacts,
    Reply,
    SlowCommit,
    StatsReply,
    TicketReply,
    WelcomeReply,
    error_reply,
)
from ticketd.wire.requests import Help
from ticketd.wire.requests.fields import EVENTS_PER_PAGE_MAX, TAG_CHARS_MAX
from ticketd.wire.roles import Role

MADE_AT = JAZZ - timedelta(hours=36)
PRECISE = JAZZ.replace(microsecond=123_456)
COUNTS = st.integers(0, 2**53)
SECONDS = st.floats(0, 1e9)
MOMENTS = st.none() | DATES
FACTS: dict[str, st.SearchStrategy[Any]] = {
    "id": IDS,
    "name": NAMES,
    "date": DATES,
    "opens": MOMENTS,
    "closes": MOMENTS,
}
FACTS |= dict.fromkeys(["capacity", "available", "held", "sold", "version"], COUNTS)
FACTS |= {"paused": st.booleans(), "per_buyer": st.none() | COUNTS, "waiting": COUNTS}
BOOKING: dict[str, st.SearchStrategy[Any]] = {"id": IDS, "event": IDS, "state": st.sampled_from(get_args(BookingState))}
BOOKING |= dict.fromkeys(["quantity", "available", "version"], COUNTS) | {"expires": MOMENTS}
BOOKING |= dict.fromkeys(["tickets", "cancelled", "redeemed"], st.lists(TICKET_IDS, max_size=3))
BOOKING |= {"redeemed_at": st.lists(DATES, max_size=3), "booked_at": DATES, "buyer": st.none() | BUYERS}
WHAT = st.sampled_from(get_args(ChangeKind))
BY = st.none() | IDS
CHANGE = st.builds(ChangeFacts, WHAT, DATES, COUNTS, COUNTS, st.lists(TICKET_IDS, max_size=3), MOMENTS, BY)
BOOKING |= {"changes": st.lists(CHANGE, max_size=3), "by": BY, "redeemed_by": st.lists(BY, max_size=3)}
BOOKING |= {"position": st.none() | COUNTS}
TICKET: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(["event", "booking"], IDS)
TICKET |= {"id": TICKET_IDS, "state": st.sampled_from(get_args(TicketState)), "redeemed_at": MOMENTS}
REDEMPTION = st.builds(RedemptionFacts, st.sampled_from(["redeem", "annul"]), DATES, st.none() | BUYERS, BY)
TICKET |= {"history": st.lists(REDEMPTION, max_size=3), "replayed": st.booleans()}
MADE = st.builds(Made, COUNTS, COUNTS, st.none() | COUNTS, MOMENTS)
RECORD = st.builds(BookingRecord, **BOOKING, made=st.none() | MADE)
BUSY = st.builds(EventStats, IDS, COUNTS, COUNTS, COUNTS, st.dictionaries(st.sampled_from(get_args(Code)), COUNTS))
SLOW = st.builds(SlowCommit, DATES, SECONDS, SECONDS, COUNTS, COUNTS)
EVENTS = st.lists(st.builds(EventFacts, **FACTS), max_size=4)
HELPS = st.builds(help_reply, st.builds(Help, command=OR_NOT | st.sampled_from(list(commands()))))
REPLIES_OF: dict[Any, st.SearchStrategy[Reply]] = {
    EventsReply: st.builds(EventsReply, EVENTS, st.booleans()),
    EventReply: st.builds(EventReply, **FACTS, replayed=st.booleans()),
    BookingReply: st.builds(BookingReply, **BOOKING, replayed=st.booleans(), admitted=st.lists(TICKET_IDS, max_size=3)),
    BookingsReply: st.builds(BookingsReply, st.lists(RECORD, max_size=3), st.booleans(), st.none() | IDS),
    TicketReply: st.builds(TicketReply, **TICKET),
    StatsReply: st.builds(
        StatsReply,
        st.text(),
        st.booleans(),
        SECONDS,
        *[COUNTS] * 11,
        st.lists(BUSY, max_size=3),
        st.lists(SLOW, max_size=3),
    ),
    BackupReply: st.builds(BackupReply, IDS, COUNTS, COUNTS, SECONDS),
    WelcomeReply: st.builds(WelcomeReply, IDS, st.sampled_from(get_args(Role))),
    PongReply: st.builds(PongReply, st.booleans()),
    ReadyReply: st.builds(ReadyReply),
    HelpReply: HELPS,
    ErrorReply: st.builds(
        ErrorReply,
        st.sampled_from(get_args(Code)),
        st.text(),
        *[st.none() | COUNTS] * 2,
        st.none() | SECONDS,
        *[MOMENTS] * 2,
        st.none() | COUNTS,
        st.booleans(),
    ),
}


def test_every_reply_is_tested() -> None:
    # Other tests may have made some of their own.
    assert set(REPLIES_OF) == {kind for kind in Reply.__subclasses__() if kind.__module__.startswith("ticketd.")}


@given(st.one_of(*REPLIES_OF.values()))
def test_a_reply_is_one_line_and_decodes_to_the_same_reply(reply: Reply) -> None:
    line = encode(reply)
    assert b"\n" not in line
    assert codec.decode_reply(line) == reply


@given(EVENTS, st.booleans())
def test_events_encoded_singly_or_together_make_the_same_reply(events: list[EventFacts], more: bool) -> None:
    assert codec.encode_events(map(encode, events), more=more) == encode(EventsReply(events, more))


def longest(tickets: int, changes: list[ChangeFacts]) -> BookingRecord:
    """Return a booking with the longest ids and numbers there are."""
    ids = [LONGEST] * tickets
    return BookingRecord(
        *("x" * 64, "x" * 64, 1_000, "confirmed", ids, 10**9, 2**63, PRECISE, PRECISE, '"' * 200, ids, ids),
        redeemed_at=[PRECISE] * tickets,
        changes=changes,
        by=LONGEST_NAME,
        made=Made(10**9, 2**63, 86_400, PRECISE),
    )


LONGEST = ticket_id("x" * 64, "0" * 12)
LONGEST_NAME = "user:" + "x" * NAME_CHARS_MAX
# Each of its characters may need six.
LONGEST_TAG = len(codec.tag_end("\0" * TAG_CHARS_MAX))
CANCEL = ChangeFacts("cancel", PRECISE, 10**9, 2**63, [LONGEST], by=LONGEST_NAME)
EXTEND = ChangeFacts("extend", PRECISE, 10**9, 2**63, (), PRECISE, LONGEST_NAME)
REISSUE = ChangeFacts("reissue", PRECISE, 10**9, 2**63, [LONGEST] * 2, by=LONGEST_NAME)


@pytest.mark.parametrize(
    ("bookings", "record"),
    [
        # All that can become of one booking.
        (1, longest(1_000, [CANCEL] * 1_000 + [EXTEND] * EXTENSIONS_MAX + [REISSUE] * REISSUES_MAX)),
        # A page of a hundred, with a thousand tickets and changes in all.
        (100, longest(10, [])),
        (100, longest(5, [REISSUE] * 5)),
        (100, longest(1, [REISSUE] * 9)),
        (100, longest(0, [EXTEND] * 10)),
    ],
)
def test_a_client_takes_the_longest_bookings_there_are(bookings: int, record: BookingRecord) -> None:
    assert len(encode(BookingsReply([record] * bookings, True, "x" * 64))) + LONGEST_TAG < REPLY_BYTES_MAX


def test_a_client_takes_the_longest_events_and_tickets_there_are() -> None:
    facts = EventFacts("x" * 64, '"' * 200, PRECISE, 10**9, 10**9, 10**9, 10**9, 2**63, PRECISE, PRECISE, True, 1_000)
    event = structs.replace(facts, waiting=WAITING_MAX)
    assert len(encode(EventsReply([event] * EVENTS_PER_PAGE_MAX, more=True))) + LONGEST_TAG < REPLY_BYTES_MAX
    # As protocol.md says, with the commas between them.
    assert len(encode(event)) + 1 <= 760
    assert len(encode(LONGEST)) + 1 <= 80
    history = [
        RedemptionFacts("redeem", PRECISE, None, LONGEST_NAME),
        RedemptionFacts("annul", PRECISE, '"' * 200, LONGEST_NAME),
    ] * ANNULMENTS_MAX
    assert len(encode(TicketReply(LONGEST, "x" * 64, "x" * 64, "valid", PRECISE, history))) < REPLY_BYTES_MAX


EVENT_JSON = (
    b'"id":"1","name":"Jazz","date":"2027-03-11T20:00:00Z","capacity":9,"available":7,"held":0,"sold":2,"version":1'
)
BOOKING_JSON = (
    b'"id":"b","event":"1","quantity":1,"state":"confirmed","tickets":["t"],"available":0,"version":9,'
    b'"booked_at":"2027-03-10T08:00:00Z"'
)


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
            EventReply("1", "Jazz", JAZZ, 9, 7, 0, 2, 1, replayed=True),
            b'{"reply":"event",%b,"replayed":true}' % EVENT_JSON,
        ),
        (BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, MADE_AT), b'{"reply":"booking",%b}' % BOOKING_JSON),
        (
            BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, MADE_AT, replayed=True),
            b'{"reply":"booking",%b,"replayed":true}' % BOOKING_JSON,
        ),
        (
            TicketReply("t", "1", "b", "valid"),
            b'{"reply":"ticket","id":"t","event":"1","booking":"b","state":"valid"}',
        ),
        (
            BookingReply("b", "1", 1, "held", [], 0, 9, MADE_AT, JAZZ),
            b'{"reply":"booking","id":"b","event":"1","quantity":1,"state":"held","tickets":[],"available":0,"version":9,'
            b'"booked_at":"2027-03-10T08:00:00Z","expires":"2027-03-11T20:00:00Z"}',
        ),
        (
            EventReply("1", "Jazz", JAZZ, 9, 7, 0, 2, 1, waiting=3),
            b'{"reply":"event",%b,"waiting":3}' % EVENT_JSON,
        ),
        (
            BookingReply("b", "1", 1, "waiting", [], 0, 9, MADE_AT, position=3),
            b'{"reply":"booking","id":"b","event":"1","quantity":1,"state":"waiting","tickets":[],"available":0,'
            b'"version":9,"booked_at":"2027-03-10T08:00:00Z","position":3}',
        ),
        (
            BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, MADE_AT, cancelled=["u"]),
            b'{"reply":"booking",%b,"cancelled":["u"]}' % BOOKING_JSON,
        ),
        (
            BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, MADE_AT, redeemed=["t"], redeemed_at=[JAZZ]),
            b'{"reply":"booking",%b,"redeemed":["t"],"redeemed_at":["2027-03-11T20:00:00Z"]}' % BOOKING_JSON,
        ),
        (
            BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, MADE_AT, replayed=True, admitted=["t"]),
            b'{"reply":"booking",%b,"replayed":true,"admitted":["t"]}' % BOOKING_JSON,
        ),
        (BookingsReply([]), b'{"reply":"bookings","bookings":[]}'),
        (
            BookingsReply([BookingRecord("b", "1", 1, "confirmed", ["t"], 0, 9, MADE_AT)], more=True),
            b'{"reply":"bookings","bookings":[{%b}],"more":true}' % BOOKING_JSON,
        ),
        (
            BookingsReply([BookingRecord("b", "1", 1, "confirmed", ["t"], 0, 9, MADE_AT)]),
            b'{"reply":"bookings","bookings":[{%b}]}' % BOOKING_JSON,
        ),
        (
            BookingsReply(
                [
                    BookingRecord(
                        *("b", "1", 1, "confirmed", ["t"], 0, 9, MADE_AT),
                        made=Made(0, 8, 60, JAZZ),
                        changes=[ChangeFacts("confirm", JAZZ, 0, 9)],
                    )
                ]
            ),
            b'{"reply":"bookings","bookings":[{%b,"changes":[{"what":"confirm","at":"2027-03-11T20:00:00Z","available":0,'
            b'"version":9}],"made":{"available":0,"version":8,"seconds":60,"expires":"2027-03-11T20:00:00Z"}}]}'
            % BOOKING_JSON,
        ),
        (
            TicketReply("t", "1", "b", "redeemed", JAZZ),
            b'{"reply":"ticket","id":"t","event":"1","booking":"b","state":"redeemed",'
            b'"redeemed_at":"2027-03-11T20:00:00Z"}',
        ),
        (
            error_reply(TicketError("shutting_down", "m", unasked=True)),
            b'{"reply":"error","code":"shutting_down","message":"m","unasked":true}',
        ),
        (
            ErrorReply("already_redeemed", "m", redeemed_at=JAZZ),
            b'{"reply":"error","code":"already_redeemed","message":"m","redeemed_at":"2027-03-11T20:00:00Z"}',
        ),
        (
            EventReply("1", "Jazz", JAZZ, 9, 7, 0, 2, 1, MADE_AT, JAZZ, True, 4),
            b'{"reply":"event",%b,"opens":"2027-03-10T08:00:00Z","closes":"2027-03-11T20:00:00Z","paused":true,'
            b'"per_buyer":4}' % EVENT_JSON,
        ),
        (
            BookingReply("b", "1", 1, "confirmed", ["t"], 0, 9, MADE_AT, buyer="order 5"),
            b'{"reply":"booking",%b,"buyer":"order 5"}' % BOOKING_JSON,
        ),
        (
            BookingReply(
                *("b", "1", 1, "confirmed", ["t"], 0, 9, MADE_AT),
                changes=[
                    ChangeFacts("extend", JAZZ, 0, 7, expires=JAZZ),
                    ChangeFacts("reissue", JAZZ, 0, 8, ["s", "t"]),
                ],
            ),
            b'{"reply":"booking",%b,"changes":[{"what":"extend","at":"2027-03-11T20:00:00Z","available":0,"version":7,'
            b'"expires":"2027-03-11T20:00:00Z"},{"what":"reissue","at":"2027-03-11T20:00:00Z","available":0,"version":8,'
            b'"tickets":["s","t"]}]}' % BOOKING_JSON,
        ),
        (
            TicketReply("t", "1", "b", "redeemed", JAZZ, replayed=True),
            b'{"reply":"ticket","id":"t","event":"1","booking":"b","state":"redeemed",'
            b'"redeemed_at":"2027-03-11T20:00:00Z","replayed":true}',
        ),
        (
            TicketReply(
                *("t", "1", "b", "valid", None),
                [RedemptionFacts("redeem", JAZZ), RedemptionFacts("annul", JAZZ, "not hers")],
            ),
            b'{"reply":"ticket","id":"t","event":"1","booking":"b","state":"valid","history":[{"what":"redeem",'
            b'"at":"2027-03-11T20:00:00Z"},{"what":"annul","at":"2027-03-11T20:00:00Z","reason":"not hers"}]}',
        ),
        (BookingsReply([], True, "b"), b'{"reply":"bookings","bookings":[],"more":true,"last":"b"}'),
        (
            ErrorReply("not_on_sale", "m", 9, 0, opens=JAZZ),
            b'{"reply":"error","code":"not_on_sale","message":"m","available":9,"version":0,'
            b'"opens":"2027-03-11T20:00:00Z"}',
        ),
        (
            ErrorReply("buyer_limit", "m", 9, 0, left=0),
            b'{"reply":"error","code":"buyer_limit","message":"m","available":9,"version":0,"left":0}',
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
