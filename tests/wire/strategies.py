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
    Annul,
    Auth,
    Backup,
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
    Ready,
    Redeem,
    Reissue,
    Release,
    Request,
    Show,
    Stats,
    Wait,
    Watch,
)
from ticketd.wire.window import checked_window

JAZZ = datetime(2027, 3, 11, 20, tzinfo=UTC)
IDS = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
TICKET_IDS = st.builds(ticket_id, IDS, st.from_regex(r"[0-9a-f]{12}", fullmatch=True))
ANY_IDS = IDS | TICKET_IDS
TEXTS = st.text(min_size=1, max_size=60).filter(lambda text: not UNSAFE.search(text) and len(text.encode()) <= 200)
NAMES = TEXTS.map(lambda text: normalize("NFC", text).strip()).filter(lambda name: 1 <= len(name.encode()) <= 200)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
DATES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=ZONES)
OR_NOT = st.just(UNSET)
QUANTITIES = st.integers(1, 1_000)
CAPACITIES = st.integers(1, 1_000_000_000)
SECONDS = st.integers(1, 86_400)
# "none" is a buyer too.
BUYERS = TEXTS | st.sampled_from(["none", "--paused", "-", "a,b"])


def _sale(window: tuple[Any, Any]) -> bool:
    try:
        checked_window(*window)
    except ValueError:
        return False
    return True


# What an event may have: opens and closes.
WINDOWS = st.tuples(*[OR_NOT | st.none() | DATES] * 2).filter(_sale)
LIMITS = OR_NOT | st.none() | st.integers(1, 1_000)

# Of each command, every request that a client may send.
REQUESTS_OF: dict[Any, st.SearchStrategy[Request]] = {
    List: st.builds(List, after=OR_NOT | IDS, limit=OR_NOT | st.integers(1, 1_000)),
    Show: st.builds(Show, id=ANY_IDS, kind=OR_NOT | st.sampled_from(["event", "booking", "ticket"])),
    Create: st.tuples(CAPACITIES, WINDOWS).flatmap(
        lambda drawn: st.builds(
            Create,
            *(NAMES, DATES, st.just(drawn[0])),
            id=OR_NOT | IDS,
            available=OR_NOT | st.integers(0, drawn[0]),
            opens=st.just(drawn[1][0]),
            closes=st.just(drawn[1][1]),
            paused=st.booleans(),
            per_buyer=LIMITS,
        )
    ),
    Book: st.builds(Book, event=IDS, quantity=QUANTITIES, booking=OR_NOT | IDS, buyer=OR_NOT | BUYERS),
    Hold: st.builds(Hold, event=IDS, quantity=QUANTITIES, seconds=SECONDS, booking=OR_NOT | IDS, buyer=OR_NOT | BUYERS),
    Wait: st.builds(Wait, event=IDS, quantity=QUANTITIES, seconds=SECONDS, booking=OR_NOT | IDS, buyer=OR_NOT | BUYERS),
    Extend: st.builds(Extend, booking=IDS, seconds=SECONDS),
    Confirm: st.builds(Confirm, booking=IDS, late=st.booleans()),
    Release: st.builds(Release, booking=IDS),
    Cancel: st.builds(Cancel, booking=IDS, tickets=OR_NOT | st.lists(ANY_IDS, min_size=1, max_size=5)),
    Reissue: st.builds(Reissue, ticket=ANY_IDS),
    Redeem: st.builds(Redeem, ticket=ANY_IDS, event=OR_NOT | IDS, scan=OR_NOT | IDS),
    Annul: st.builds(Annul, ticket=ANY_IDS, event=OR_NOT | IDS, reason=OR_NOT | BUYERS),
    Amend: st.builds(Amend, event=IDS, name=NAMES, date=OR_NOT | DATES, capacity=OR_NOT | CAPACITIES)
    | st.builds(Amend, event=IDS, date=OR_NOT | DATES, capacity=CAPACITIES)
    | st.builds(Amend, event=IDS, date=DATES)
    | st.tuples(IDS, WINDOWS, OR_NOT | st.booleans(), LIMITS)
    .filter(lambda drawn: any(value is not UNSET for value in (*drawn[1], *drawn[2:])))
    .map(lambda drawn: Amend(drawn[0], opens=drawn[1][0], closes=drawn[1][1], paused=drawn[2], per_buyer=drawn[3])),
    Delete: st.builds(Delete, event=IDS),
    Watch: st.builds(Watch, event=OR_NOT | IDS) | st.builds(Watch, booking=IDS),
    Bookings: st.builds(
        Bookings, after=OR_NOT | IDS, limit=st.integers(1, 100), event=OR_NOT | IDS, buyer=OR_NOT | BUYERS
    ),
    Stats: st.builds(Stats),
    Auth: st.builds(Auth, token=st.from_regex(r"[A-Za-z0-9_-]{20,200}", fullmatch=True)),
    Ping: st.builds(Ping),
    Ready: st.builds(Ready),
    Backup: st.builds(Backup, name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)),
    Help: st.builds(Help, command=OR_NOT | st.sampled_from(list(commands())) | st.text(max_size=64)),
}
REQUESTS = st.one_of(*REQUESTS_OF.values())
