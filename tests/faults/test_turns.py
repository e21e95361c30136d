"""The checker knows whose turn it is in a waiting list, and finds who was passed over, or got what was not theirs."""

from collections.abc import Callable

import pytest

from tests.faults import mutants_joining, mutants_line
from tests.faults.made_up import Sale, line, sold_out
from ticketd.model import HOLD_SECONDS_TOTAL_MAX_DEFAULT as DAY


def a_line_as_it_should_be(sale: Sale) -> None:
    sold, held = sold_out(sale)
    four, two, one, three = sale.wait(4), sale.wait(2, "anna"), sale.wait(1, seconds=5), sale.wait(3)
    sale.again(two)
    sale.show(one, 3)
    sale.cancel(sold, 1)
    sale.offer(one)
    sale.show(one)
    sale.show(three, 3)
    sale.cancel(sold, 2)
    sale.offer(two)
    sale.again(two)
    sale.release(four)
    sale.look()
    sale.show(three, 1)
    sale.confirm(two)
    sale.release(held)
    sale.expire(one)
    sale.offer(three, sale.time(0))
    sale.look()
    sale.extend(three, DAY, sale.time(DAY - 1))
    sale.look()


def who_finds_tickets_gets_them_at_once(sale: Sale) -> None:
    _, held = sold_out(sale)
    four = sale.wait(4)
    sale.release(held)
    two = sale.wait(2, at_once=True)
    sale.again(two, 1)
    sale.confirm(two)
    sale.again(two, 1)
    sale.show(four, 1)
    # Nobody in line has use for these.
    sale.release(sale.wait(3))
    sale.look()


def a_sale_that_pauses_and_opens(sale: Sale) -> None:
    sold, four, two, one = line(sale)
    sale.amend(paused=True)
    sale.cancel(sold, 2)
    sale.look()
    sale.amend(paused=False)
    sale.offer(two)
    sale.amend(opens=(opens := sale.time(4)))
    sale.cancel(sold, 6)
    sale.look()
    sale.release(two)
    sale.show(four, 1)
    # It opens: both are served before anything else.
    sale.offer(four, opens)
    sale.offer(one, opens)
    sale.buy("book", 1, None)


def a_limit_that_is_lowered(sale: Sale) -> None:
    sold, held = sold_out(sale)
    mine, hers, nobodys = sale.wait(2, "anna"), sale.wait(1, "anna"), sale.wait(1)
    last = sale.wait(1, "cleo")
    sale.amend(per_buyer=2)
    sale.look()
    sale.cancel(sold, 2)
    # A commit may not have read who comes after those who leave.
    sale.leave(mine)
    sale.offer(hers)
    sale.leave(nobodys, sale.time(0))
    sale.offer(last, sale.time(0))
    sale.confirm(held)


def more_than_one_commit_offers(sale: Sale) -> None:
    sale.amend(capacity=3_000, available=3_000)
    all_, eight, three = sale.buy("hold", 3_000, None, seconds=60), sale.wait(800), sale.wait(300)
    sale.release(all_)
    sale.offer(eight)
    sale.say({"cmd": "book", "event": "1", "quantity": 1, "booking": "p"}, {"reply": "error", "code": "busy"})
    sale.offer(three)
    sale.buy("book", 1, None)


@pytest.mark.parametrize(
    "right",
    [
        a_line_as_it_should_be,
        who_finds_tickets_gets_them_at_once,
        a_sale_that_pauses_and_opens,
        a_limit_that_is_lowered,
        more_than_one_commit_offers,
    ],
)
def test_the_checker_accepts_a_line_as_it_should_be(right: Callable[[Sale], None]) -> None:
    sale = Sale()
    right(sale)
    sale.check()


@pytest.mark.parametrize(("false", "wrong"), [*mutants_line.MUTANTS, *mutants_joining.MUTANTS])
def test_the_checker_finds_who_was_passed_over(false: Callable[[Sale], None], wrong: str) -> None:
    sale = Sale()
    false(sale)
    with pytest.raises(AssertionError, match=wrong):
        sale.check()
