"""An event for which many wait, and who of them gets an offer."""

from datetime import timedelta
from operator import itemgetter

from tests.rules.cases import DATE, Steps, decide_batch
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.requests import Book, Create, Hold, Wait

# More than any test needs to serve all.
BATCHES_MAX = 30
SIX = Create("Jazz", DATE, 6, "jazz")
# Six tickets: three are sold, two are held for a minute and one for an hour. The ids of those who wait tell nothing of
# the order in which they came.
NO_TICKETS: Steps = [
    SIX,
    Book("jazz", 3, "b", "ben"),
    Hold("jazz", 2, 60, "h"),
    Hold("jazz", 1, 3_600, "i"),
]
FOUR, TWO, ONE, THREE = (
    Wait("jazz", quantity, 900, booking)
    for quantity, booking in [(4, "z-four"), (2, "x-two"), (1, "y-one"), (3, "a-three")]
)
LINE: Steps = [*NO_TICKETS, FOUR, TWO, ONE, THREE]


def offered(rows: WorkingSet, *requests: LedgerRequest, passed: timedelta = timedelta(0)) -> list[str]:
    """Decide a batch; return who got an offer in it, in the order of the offers."""
    decide_batch(rows, *requests, passed=passed)
    offers = [(booking.event, booking.changes[0].version, booking.id) for booking in rows.offered if booking.changes]
    # The events of a batch may be served in any order, so sort by event only.
    by_event = sorted(offers, key=itemgetter(0))
    assert by_event == sorted(offers)
    return [id for _, _, id in offers]


def offered_in_all(rows: WorkingSet, *requests: LedgerRequest, passed: timedelta = timedelta(0)) -> list[str]:
    """Decide a batch, and the next ones until all are served; return who got an offer, in the order of the offers."""
    offers = offered(rows, *requests, passed=passed)
    for _ in range(BATCHES_MAX):
        if not rows.unserved:
            return offers
        offers += offered(rows)
    raise AssertionError("not all are served")
