"""Requests that come to a ledger, by chance: some make sense now, and some do not."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from tests.ledger.model import DATE, Model
from ticketd.model import Event, milliseconds
from ticketd.rules.working_set import Adopt, LedgerRequest
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
    Hold,
    Redeem,
    Reissue,
    Release,
    Request,
    Show,
    Wait,
)

NO_TICKET = "b1.000000000000"
EVENTS = ["e1", "e2", "e3"]
BUYERS = ["anna", "Bén №7"]
# Seldom anything but what sells.
LIMIT = st.sampled_from([UNSET, UNSET, None, 2, 3, 5])


def of_events(event: st.SearchStrategy[str], now: datetime) -> list[st.SearchStrategy[LedgerRequest]]:
    """Return requests about events and their sale."""
    name, date, capacity = st.sampled_from("AB"), st.sampled_from([DATE, DATE.replace(day=12)]), st.integers(1, 12)
    # A part of a millisecond counts as a whole one: nothing is sold too early.
    begins = [now + timedelta(seconds=seconds) for seconds in (-1, 0, 0.0004, 1)]
    opens = st.sampled_from([UNSET, UNSET, None, *begins])
    closes = st.sampled_from([UNSET, UNSET, None, now + timedelta(seconds=1.5), now + timedelta(seconds=60)])
    some = st.sampled_from([6, 9, 12])
    plain = Event("e", "A", DATE, 9, 5, 0, 4, 0, 4)
    limited = Event("e", "B", DATE, 9, 9, 0, 0, 0, 0, milliseconds(now), None, False, 3)
    return [
        st.builds(Amend, event, capacity=capacity),
        st.builds(Amend, event, name=name, date=date),
        st.builds(Amend, event, opens=opens, paused=st.just(False)),
        st.builds(Amend, event, closes=closes, paused=st.booleans()),
        st.builds(Amend, event, per_buyer=LIMIT, opens=st.none(), closes=st.none(), paused=st.just(False)),
        st.builds(Create, name, date, some, event, st.just(UNSET) | st.integers(0, 6), per_buyer=LIMIT),
        st.builds(Create, name, date, some, event, opens=opens, closes=closes, paused=st.booleans()),
        st.builds(Delete, event),
        st.builds(lambda made, id_: Adopt(replace(made, id=id_)), st.sampled_from([plain, limited]), event),
    ]


def of_tickets(model: Model, event: st.SearchStrategy[str]) -> list[st.SearchStrategy[LedgerRequest]]:
    """Return requests about what was sold."""
    ticket = st.sampled_from([*model.tickets, NO_TICKET])
    ticket_or_booking = st.sampled_from([*model.tickets, *model.bookings, NO_TICKET])
    only, scan = st.just(UNSET) | event, st.sampled_from(["s1", "s2", "s3", "s4"])
    kinds: list[st.SearchStrategy[LedgerRequest]] = [
        st.builds(Redeem, ticket_or_booking, only, scan),
        st.builds(Redeem, ticket, scan=scan),
        st.builds(Annul, ticket, only, st.sampled_from([UNSET, "Typo"])),
        st.builds(Annul, ticket),
        st.builds(Reissue, ticket),
        st.builds(Reissue, ticket),
    ]
    for row in model.bookings.values():
        if row["tickets"]:
            # Some of its tickets, in one go or in several, and now and then one of another booking.
            some = st.lists(st.sampled_from([*row["tickets"] * 2, next(iter(model.tickets))]), min_size=1, max_size=3)
            kinds.append(st.builds(Cancel, st.just(row["id"]), some))
    return kinds


def requests(
    model: Model,
    past: list[LedgerRequest],
    now: datetime,
    events: Sequence[str] = EVENTS,
    buyers: Sequence[str] = BUYERS,
) -> st.SearchStrategy[LedgerRequest]:
    """Return requests that may change something, among them ``past`` ones, sent again."""
    event = st.sampled_from(events)
    # A booking may have the id of an event.
    fresh = st.sampled_from([f"b{len(model.bookings) + 1}", f"b{len(model.bookings) + 2}", "e1"])
    booking = st.sampled_from([*model.bookings, f"b{len(model.bookings) + 1}"])
    quantity, seconds = st.integers(1, 4), st.sampled_from([1, 2, 60])
    buyer = st.sampled_from([UNSET, *buyers])
    kinds: list[st.SearchStrategy[LedgerRequest]] = [
        st.builds(Book, event, quantity, fresh | booking, buyer),
        st.builds(Book, event, quantity, fresh, st.sampled_from(buyers)),
        st.builds(Hold, event, quantity, seconds, fresh, buyer),
        st.builds(Hold, event, quantity, seconds, fresh | booking, buyer),
        st.builds(Wait, event, quantity, seconds, fresh | booking, buyer),
        st.builds(Extend, fresh | booking, st.sampled_from([1, 2, 60, 100])),
        st.builds(Confirm, fresh | booking, st.booleans()),
        st.builds(Confirm, booking, st.booleans()),
        st.builds(Release, booking),
        st.builds(Cancel, booking),
    ]
    if past:
        kinds += [st.sampled_from(past), st.just(past[0])]
    return st.one_of(*kinds, st.one_of(of_events(event, now)), st.one_of(of_tickets(model, event)))


def batches(model: Model, past: list[LedgerRequest], now: datetime) -> st.SearchStrategy[list[LedgerRequest]]:
    """Return requests that come together. Those of one event, and of one buyer, depend most on each other."""
    focused = [([event], [buyer]) for event in EVENTS[:2] for buyer in BUYERS]
    return st.sampled_from([(EVENTS, BUYERS), *focused]).flatmap(
        lambda about: st.lists(requests(model, past, now, *about), min_size=1, max_size=5)
    )


def about_lines(
    model: Model, past: list[LedgerRequest], now: datetime, events: Sequence[str] = EVENTS[:2]
) -> st.SearchStrategy[list[LedgerRequest]]:
    """Return requests that come together. Most of them join a line, or free tickets for those in it."""
    event, buyer = st.sampled_from(events), st.sampled_from([UNSET, UNSET, *BUYERS])
    booking = st.sampled_from([*model.bookings, "b1"])
    # Not in the order of arrival.
    fresh = st.sampled_from([f"{letter}{len(model.bookings)}" for letter in "acegikmoqsuwy"])
    quantity, seconds = st.integers(1, 4), st.sampled_from([1, 60])
    ticket = st.sampled_from([id for id, row in model.tickets.items() if not row["end"]] or [NO_TICKET])
    of_one = st.builds(lambda id: Cancel(id.rpartition(".")[0], [id]), ticket)
    opens, closes = (
        st.sampled_from([None, *(now + timedelta(seconds=seconds) for seconds in times)])
        for times in [(0, 1, 30), (31, 90)]
    )
    kinds: list[st.SearchStrategy[LedgerRequest]] = [
        *[st.builds(Wait, event, quantity, seconds, fresh, buyer)] * 6,
        *[of_one, st.builds(Cancel, booking), st.builds(Release, booking)] * 2,
        st.builds(Amend, event, capacity=st.integers(5, 12)),
        st.builds(Amend, event, opens=st.none(), closes=st.none(), paused=st.just(False)),
        st.builds(Amend, event, opens=opens, closes=closes, paused=st.booleans()),
        st.builds(Amend, event, per_buyer=st.sampled_from([None, None, 2, 5])),
        st.builds(Book, event, quantity, fresh, buyer),
        st.builds(Hold, event, quantity, seconds, fresh, buyer),
        st.builds(Confirm, booking, st.booleans()),
        st.builds(Extend, booking, st.sampled_from([1, 60, 100])),
        *([st.sampled_from(past)] if past else []),
    ]
    # Mostly, nothing is left.
    left = {id: model.left(id)["available"] for id in events if id in model.events}
    rest = [Book(id, left[id], f"{id}-{len(model.bookings)}") for id in left if left[id]]
    return st.builds(
        lambda first, others: [*first, *others],
        st.sampled_from([rest, rest, []]),
        st.lists(st.one_of(kinds), min_size=1, max_size=8),
    )


def readings(model: Model) -> st.SearchStrategy[Request]:
    """Return requests that only read."""
    booking = st.sampled_from([*model.bookings, "b2", "x"])
    id = st.sampled_from(["e1", "e3", *model.tickets, NO_TICKET]) | booking
    kind = st.sampled_from([UNSET, "event", "booking", "ticket"])
    after, limit = st.just(UNSET) | booking, st.sampled_from([1, 3, 100])
    event, buyer = st.sampled_from([UNSET, "e1", "e2"]), st.sampled_from([UNSET, *BUYERS])
    return st.builds(Show, id, kind) | st.builds(Bookings, after, limit, event, buyer)
