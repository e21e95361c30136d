"""Every request that a client may send, and values that no request may have."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unicodedata import normalize

from hypothesis import strategies as st
from msgspec import UNSET

from ticketd.model import UNSAFE, ticket_id
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
    Ready,
    Redeem,
    Release,
    Request,
    Show,
    Stats,
    Watch,
)

JAZZ = datetime(2027, 3, 11, 20, tzinfo=UTC)
IDS = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
TICKET_IDS = st.builds(ticket_id, IDS, st.from_regex(r"[0-9a-f]{12}", fullmatch=True))
ANY_IDS = IDS | TICKET_IDS
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

# Of each command, every request that a client may send.
REQUESTS_OF: dict[Any, st.SearchStrategy[Request]] = {
    List: st.builds(List, after=OR_NOT | IDS, limit=OR_NOT | st.integers(1, 1_000)),
    Show: st.builds(Show, id=ANY_IDS, kind=OR_NOT | st.sampled_from(["event", "booking", "ticket"])),
    Create: CAPACITIES.flatmap(
        lambda capacity: st.builds(
            Create,
            *(NAMES, DATES, st.just(capacity)),
            id=OR_NOT | IDS,
            available=OR_NOT | st.integers(0, capacity),
        )
    ),
    Book: st.builds(Book, event=IDS, quantity=QUANTITIES, booking=OR_NOT | IDS),
    Hold: st.builds(Hold, event=IDS, quantity=QUANTITIES, seconds=st.integers(1, 86_400), booking=OR_NOT | IDS),
    Confirm: st.builds(Confirm, booking=IDS),
    Release: st.builds(Release, booking=IDS),
    Cancel: st.builds(Cancel, booking=IDS, tickets=OR_NOT | st.lists(ANY_IDS, min_size=1, max_size=5)),
    Redeem: st.builds(Redeem, ticket=ANY_IDS),
    Amend: st.builds(Amend, event=IDS, name=NAMES, date=OR_NOT | DATES, capacity=OR_NOT | CAPACITIES)
    | st.builds(Amend, event=IDS, date=OR_NOT | DATES, capacity=CAPACITIES)
    | st.builds(Amend, event=IDS, date=DATES),
    Watch: st.builds(Watch, event=OR_NOT | IDS),
    Bookings: st.builds(Bookings, after=OR_NOT | IDS, limit=st.integers(1, 100)),
    Stats: st.builds(Stats),
    Ping: st.builds(Ping),
    Ready: st.builds(Ready),
    Help: st.builds(Help, command=OR_NOT | st.sampled_from(list(commands())) | st.text(max_size=64)),
}
REQUESTS = st.one_of(*REQUESTS_OF.values())
