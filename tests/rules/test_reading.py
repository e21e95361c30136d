"""Pages of bookings."""

from datetime import timedelta

from tests.rules.cases import (
    DATE,
    END,
    FULL,
    HOLD,
    JAZZ,
    LATE,
    MINE,
    ONE_GONE,
    Steps,
    committed,
    decide,
    of,
    working_set_after,
)
from ticketd.rules.commands import decide_all
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.codec import encode
from ticketd.wire.replies import BookingRecord, BookingsReply, ChangeFacts, Made
from ticketd.wire.requests import Book, Bookings, Cancel, Confirm, Hold, Redeem


def page_of(working_set: WorkingSet, *ids: str, more: bool = False) -> BookingsReply:
    """Return the reply to a request for a page that has these bookings in it."""
    working_set.page = [working_set.bookings[id_] for id_ in ids]
    working_set.last = ids[-1] if more else None
    before = committed(working_set)
    before.page, before.last = working_set.page, working_set.last
    page = decide(working_set, Bookings())
    assert isinstance(page, BookingsReply)
    assert vars(working_set) == vars(before)
    return page


def test_a_page_shows_bookings_in_their_current_state() -> None:
    working_set = committed(working_set_after([*FULL, Cancel("b", of("b", 1))]), LATE)
    decide_all(working_set, [])
    page = page_of(committed(working_set), "b", "h")
    assert [(each.id, each.state, each.tickets, list(each.cancelled), each.version) for each in page.bookings] == [
        ("b", "cancelled", of("b", 1), of("b", 1), 3),
        ("h", "expired", [], [], 4),
    ]


def test_a_page_includes_the_history_of_changed_bookings() -> None:
    earlier: Steps = [JAZZ, Hold("jazz", 1, 60, "h"), Confirm("h"), Cancel("h"), Book("jazz", 1, "b")]
    assert page_of(working_set_after(earlier), "b", "h") == BookingsReply(
        [
            BookingRecord("b", "jazz", 1, "confirmed", of("b", 2), 2, 4, DATE),
            BookingRecord(
                *("h", "jazz", 1, "cancelled", of("h", 1), 3, 3, DATE),
                cancelled=of("h", 1),
                made=Made(2, 1, 60, END),
                changes=(ChangeFacts("confirm", DATE, 2, 2), ChangeFacts("cancel", DATE, 3, 3, of("h", 1))),
            ),
        ]
    )


def test_a_page_shows_a_hold_and_since_when_it_is_one() -> None:
    held = BookingRecord("h", "jazz", 2, "held", [], 1, 1, DATE, END, made=Made(1, 1, 60, END))
    page = page_of(working_set_after([JAZZ, HOLD]), "h")
    assert page == BookingsReply([held])
    assert b"changes" not in encode(page)


def test_a_page_shows_what_was_redeemed_and_when() -> None:
    first, second = MINE
    other = of("c", 3)
    earlier: Steps = [*ONE_GONE, Book("jazz", 1, "c"), Redeem(other[0]), timedelta(seconds=60), Redeem(first)]
    b, c, *none = page_of(working_set_after(earlier), "b", "c").bookings
    assert not none
    assert (b.redeemed, b.redeemed_at, b.cancelled) == ([first], [END], [second])
    assert (c.redeemed, c.redeemed_at, c.cancelled) == (other, [DATE], ())


def test_a_page_says_whether_there_are_bookings_after_it() -> None:
    assert page_of(working_set_after([JAZZ]), more=False) == BookingsReply([])
    page = page_of(working_set_after(ONE_GONE), "b", more=True)
    assert (page.more, page.last) == (True, "b")
