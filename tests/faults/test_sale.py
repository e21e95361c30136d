"""The checker knows who may buy what, and when; it finds what was sold to others, or at another time."""

from collections.abc import Callable

import pytest

from tests.faults.history import Row
from tests.faults.made_up import Sale

LATE = {"cmd": "create", "id": "late", "name": "Late", "date": "2027-03-11T20:00:00Z", "capacity": 3}


def a_sale_as_it_should_be(sale: Sale) -> None:
    sale.buy("book", 3, None)
    sale.amend(per_buyer=4)
    held = sale.buy("hold", 3, "anna", seconds=2)
    sale.refuse({"cmd": "book", "event": "1", "quantity": 2, "booking": "r", "buyer": "anna"}, "buyer_limit", left=1)
    sale.say({"cmd": "book", "event": "1", "quantity": 1, "booking": "n"}, {"reply": "error", "code": "bad_request"})
    sale.expire(held)
    sale.buy("book", 1, "anna")
    sale.confirm(held, late=True)
    sale.amend(paused=True)
    sale.refuse({"cmd": "book", "event": "1", "quantity": 1, "booking": "p", "buyer": "ben"}, "not_on_sale")
    sale.amend(paused=False, opens=(opens := sale.time(2)), closes=sale.time(4))
    request = {"cmd": "book", "event": "1", "quantity": 1, "booking": "o", "buyer": "ben"}
    sale.refuse(request, "not_on_sale", opens=opens)
    sale.buy("book", 1, "ben")
    # It closes.
    sale.refuse({"cmd": "release", "booking": held}, "already_confirmed")
    sale.refuse({**request, "booking": "c"}, "not_on_sale")


def a_limit_is_counted_without_held_tickets(sale: Sale) -> None:
    sale.amend(per_buyer=4)
    sale.buy("hold", 3, "anna", seconds=300)
    sale.buy("book", 2, "anna")


def a_limit_is_counted_without_sold_tickets(sale: Sale) -> None:
    sale.buy("book", 3, "anna")
    sale.amend(per_buyer=4)
    sale.buy("hold", 2, "anna", seconds=300)


def a_late_confirmation_is_over_the_limit(sale: Sale) -> None:
    sale.amend(per_buyer=4)
    held = sale.buy("hold", 3, "anna", seconds=1)
    sale.expire(held)
    sale.buy("book", 2, "anna")
    sale.confirm(held, late=True)


def a_limit_is_not_for_those_without_a_name(sale: Sale) -> None:
    sale.amend(per_buyer=4)
    sale.buy("book", 1, None)


def a_buyer_is_refused_below_the_limit(sale: Sale) -> None:
    sale.amend(per_buyer=4)
    sale.buy("book", 2, "anna")
    sale.refuse({"cmd": "book", "event": "1", "quantity": 2, "booking": "r", "buyer": "anna"}, "buyer_limit", left=2)


def a_buyer_is_refused_without_a_limit(sale: Sale) -> None:
    sale.buy("book", 2, "anna")
    sale.refuse({"cmd": "book", "event": "1", "quantity": 2, "booking": "r", "buyer": "anna"}, "buyer_limit", left=0)


def a_buyer_is_needed_without_a_limit(sale: Sale) -> None:
    sale.say({"cmd": "book", "event": "1", "quantity": 1, "booking": "n"}, {"reply": "error", "code": "bad_request"})


def a_ticket_is_sold_while_the_sale_is_paused(sale: Sale) -> None:
    sale.amend(paused=True)
    sale.buy("book", 1, None)
    sale.amend(paused=False)


def a_ticket_is_held_while_the_sale_is_paused(sale: Sale) -> None:
    sale.amend(paused=True)
    sale.buy("hold", 1, None, seconds=300)


def a_ticket_is_sold_before_the_sale_opens(sale: Sale) -> None:
    sale.amend(opens=sale.time(60))
    sale.buy("book", 1, None)


def a_ticket_is_sold_after_the_sale_has_closed(sale: Sale) -> None:
    sale.amend(closes=sale.time(0))
    sale.buy("book", 1, None)


def a_sale_is_refused_that_is_open(sale: Sale) -> None:
    sale.amend(opens=sale.time(0), closes=sale.time(60))
    sale.refuse({"cmd": "book", "event": "1", "quantity": 1, "booking": "o"}, "not_on_sale")


def a_sale_is_refused_though_it_has_opened(sale: Sale) -> None:
    sale.amend(opens=(opens := sale.time(0)))
    sale.refuse({"cmd": "book", "event": "1", "quantity": 1, "booking": "o"}, "not_on_sale", opens=opens)


def a_sale_opens_at_another_time_than_is_said(sale: Sale) -> None:
    sale.amend(opens=sale.time(60))
    sale.refuse({"cmd": "book", "event": "1", "quantity": 1, "booking": "o"}, "not_on_sale", opens=sale.time(50))


def it_is_not_said_when_the_sale_opens(sale: Sale) -> None:
    sale.amend(opens=sale.time(60), paused=True)
    sale.refuse({"cmd": "book", "event": "1", "quantity": 1, "booking": "o"}, "not_on_sale")


def a_hold_runs_out_early(sale: Sale) -> None:
    sale.expire(sale.buy("hold", 1, None, seconds=300))


def a_late_confirmation_is_refused_though_there_is_room(sale: Sale) -> None:
    held = sale.buy("hold", 3, None, seconds=1)
    sale.expire(held)
    sale.refuse({"cmd": "confirm", "booking": held, "late": True}, "hold_expired")


def a_hold_is_confirmed_late_without_being_asked(sale: Sale) -> None:
    held = sale.buy("hold", 3, None, seconds=1)
    sale.expire(held)
    sale.confirm(held, late=True)
    sale.history[-1].request = {"cmd": "confirm", "booking": held}


def _come(sale: Sale) -> Row:
    shown = {name: value for name, value in LATE.items() if name != "cmd"}
    event = {"reply": "event", **shown, "available": 3, "held": 0, "sold": 0, "version": 0}
    sale.say(LATE, event)
    return event


def _come_and_go(sale: Sale) -> Row:
    event = _come(sale)
    sale.say({"cmd": "delete", "event": "late"}, event)
    return event


def events_that_come_and_go(sale: Sale) -> None:
    event = _come_and_go(sale)
    sale.say({"cmd": "show", "id": "late"}, {"reply": "error", "code": "not_found"})
    sale.say({"cmd": "delete", "event": "late"}, {"reply": "error", "code": "event_not_found"})
    _come(sale)
    sale.say({"cmd": "show", "id": "late"}, event)
    sale.say({"cmd": "delete", "event": "late"}, event)


def a_deleted_event_comes_back(sale: Sale) -> None:
    sale.say({"cmd": "show", "id": "late"}, _come_and_go(sale))


def a_deleted_event_was_there_when_it_is_created_again(sale: Sale) -> None:
    sale.say(LATE, {**_come_and_go(sale), "replayed": True})


def an_event_is_deleted_twice(sale: Sale) -> None:
    sale.say({"cmd": "delete", "event": "late"}, _come_and_go(sale))


def an_event_is_created_twice(sale: Sale) -> None:
    _come(sale)
    _come_and_go(sale)


def a_created_event_is_lost(sale: Sale) -> None:
    _come(sale)


@pytest.mark.parametrize("right", [a_sale_as_it_should_be, events_that_come_and_go])
def test_the_checker_accepts_a_sale_as_it_should_be(right: Callable[[Sale], None]) -> None:
    sale = Sale()
    right(sale)
    sale.check()


@pytest.mark.parametrize(
    ("false", "wrong"),
    [
        (a_limit_is_counted_without_held_tickets, "more than the limit of 4"),
        (a_limit_is_counted_without_sold_tickets, "more than the limit of 4"),
        (a_late_confirmation_is_over_the_limit, "more than the limit of 4"),
        (a_limit_is_not_for_those_without_a_name, "buyer without a name"),
        (a_buyer_is_refused_below_the_limit, "refusal was not true"),
        (a_buyer_is_refused_without_a_limit, "refusal was not true"),
        (a_buyer_is_needed_without_a_limit, "refusal was not true"),
        (a_ticket_is_sold_while_the_sale_is_paused, "was not on sale"),
        (a_ticket_is_held_while_the_sale_is_paused, "was not on sale"),
        (a_ticket_is_sold_before_the_sale_opens, "was not on sale"),
        (a_ticket_is_sold_after_the_sale_has_closed, "was not on sale"),
        (a_sale_is_refused_that_is_open, "refusal was not true"),
        (a_sale_is_refused_though_it_has_opened, "refusal was not true"),
        (a_sale_opens_at_another_time_than_is_said, "refusal was not true"),
        (it_is_not_said_when_the_sale_opens, "refusal was not true"),
        (a_hold_runs_out_early, "ran out before its time"),
        (a_late_confirmation_is_refused_though_there_is_room, "refusal was not true"),
        (a_hold_is_confirmed_late_without_being_asked, "not what was asked for"),
        (a_deleted_event_comes_back, "was not there"),
        (a_deleted_event_was_there_when_it_is_created_again, "was not there"),
        (an_event_is_deleted_twice, "was not there"),
        (an_event_is_created_twice, "was there"),
        (a_created_event_is_lost, "was there"),
    ],
)
def test_the_checker_finds_a_sale_that_breaks_its_terms(false: Callable[[Sale], None], wrong: str) -> None:
    sale = Sale()
    false(sale)
    with pytest.raises(AssertionError, match=wrong):
        sale.check()
