"""What a daemon would tell that serves a waiting list in another way than it should."""

from collections.abc import Callable

from tests.faults.made_up import Sale, line, sold_out


def an_offer_comes_after_the_commit(sale: Sale) -> None:
    sold, _, two, _ = line(sale)
    sale.cancel(sold, 2)
    sale.offer(two, sale.time(-0.9))


def what_became_available_is_shown_before_it_is_offered(sale: Sale) -> None:
    sold, _, two, _ = line(sale)
    sale.cancel(sold, 2)
    at = sale.time(-1)
    sale.look()
    sale.offer(two, at)


def nobody_is_offered_what_became_available(sale: Sale) -> None:
    sold, *_ = line(sale)
    sale.cancel(sold, 2)


def an_order_by_id(sale: Sale) -> None:
    sold, _, _, one = line(sale)
    sale.cancel(sold, 2)
    sale.offer(one)


def a_small_party_overtakes_a_large_one_for_which_there_was_enough(sale: Sale) -> None:
    sold, _, two, _ = line(sale)
    sale.cancel(sold, 4)
    sale.offer(two)


def the_line_waits_for_the_first_of_it(sale: Sale) -> None:
    sold, four, _, _ = line(sale)
    sale.cancel(sold, 2)
    sale.cancel(sold, 2)
    sale.offer(four)


def a_place_is_lost_by_a_crash(sale: Sale) -> None:
    _, four, two, _ = line(sale)
    sale.show(two, 2)
    sale.show(four, 3)


def somebody_books_what_is_for_the_line(sale: Sale) -> None:
    sold, *_ = line(sale)
    sale.cancel(sold, 2)
    sale.buy("book", 2, None)


def somebody_holds_what_is_for_the_line(sale: Sale) -> None:
    sold, *_ = line(sale)
    sale.cancel(sold, 2)
    sale.buy("hold", 2, None, seconds=60)


def somebody_confirms_late_what_is_for_the_line(sale: Sale) -> None:
    held = sale.buy("hold", 10, None, seconds=1)
    sale.wait(4)
    sale.expire(held)
    sale.confirm(held, late=True)


def somebody_who_has_just_joined_goes_first(sale: Sale) -> None:
    sold, *_ = line(sale)
    sale.amend(paused=True)
    sale.cancel(sold, 2)
    sale.amend(paused=False)
    sale.wait(1, at_once=True)


def a_ticket_is_offered_to_two(sale: Sale) -> None:
    sold, _, two, one = line(sale)
    sale.cancel(sold, 2)
    sale.offer(two)
    sale.offer(one)


def somebody_is_offered_tickets_twice(sale: Sale) -> None:
    sold, _, two, _ = line(sale)
    sale.cancel(sold, 4)
    sale.offer(two)
    sale.offer(two)


def nobody_is_served_when_a_sale_opens(sale: Sale) -> None:
    sold, *_ = line(sale)
    sale.amend(opens=sale.time(3))
    sale.cancel(sold, 2)
    sale.look()
    sale.buy("book", 2, None)


def tickets_are_offered_while_the_sale_is_paused(sale: Sale) -> None:
    sold, _, two, _ = line(sale)
    sale.amend(paused=True)
    sale.cancel(sold, 2)
    sale.offer(two)


def tickets_are_offered_past_the_limit(sale: Sale) -> None:
    sold, _, two, _ = line(sale)
    sale.amend(per_buyer=2)
    sale.cancel(sold, 2)
    sale.offer(two)


def tickets_are_offered_to_nobody_in_particular_though_there_is_a_limit(sale: Sale) -> None:
    sold, four, *_ = line(sale)
    sale.amend(per_buyer=4)
    sale.cancel(sold, 4)
    sale.offer(four)


def what_somebody_waits_for_does_not_count(sale: Sale) -> None:
    sold_out(sale)
    sale.amend(per_buyer=4)
    sale.wait(3, "cleo")
    sale.wait(2, "cleo")


def somebody_leaves_at_the_turn_who_has_not_too_many(sale: Sale) -> None:
    sold, _, two, one = line(sale)
    sale.amend(per_buyer=8)
    sale.cancel(sold, 2)
    sale.leave(two)
    sale.offer(one)


def somebody_leaves_before_the_turn(sale: Sale) -> None:
    _, _, _, one = line(sale)
    sale.amend(per_buyer=2)
    sale.leave(one)


def somebody_with_too_many_stays_in_the_way(sale: Sale) -> None:
    sold, *_ = line(sale)
    sale.amend(per_buyer=2)
    sale.cancel(sold, 2)


def somebody_gets_tickets_while_the_rest_of_the_line_is_to_be_served(sale: Sale) -> None:
    sale.amend(capacity=3_000, available=3_000)
    all_, eight, three = sale.buy("hold", 3_000, None, seconds=60), sale.wait(800), sale.wait(300)
    sale.release(all_)
    sale.offer(eight)
    sale.buy("book", 1, None)
    sale.offer(three)


def a_commit_offers_less_than_it_may(sale: Sale) -> None:
    sale.amend(capacity=3_000, available=3_000)
    all_, three, two = sale.buy("hold", 3_000, None, seconds=60), sale.wait(300), sale.wait(200)
    sale.release(all_)
    sale.offer(three)
    sale.offer(two, sale.time(-0.5))


MUTANTS: list[tuple[Callable[[Sale], None], str]] = [
    (an_offer_comes_after_the_commit, "this came late"),
    (what_became_available_is_shown_before_it_is_offered, "before somebody's turn"),
    (nobody_is_offered_what_became_available, "was offered nothing"),
    (an_order_by_id, "not the first in line"),
    (a_small_party_overtakes_a_large_one_for_which_there_was_enough, "not the first in line"),
    (the_line_waits_for_the_first_of_it, "was passed over"),
    (a_place_is_lost_by_a_crash, "never had this place"),
    (somebody_books_what_is_for_the_line, "was passed over"),
    (somebody_holds_what_is_for_the_line, "was passed over"),
    (somebody_confirms_late_what_is_for_the_line, "was passed over"),
    (somebody_who_has_just_joined_goes_first, "was passed over"),
    (a_ticket_is_offered_to_two, "cannot make -1 available"),
    (somebody_is_offered_tickets_twice, "cannot become"),
    (nobody_is_served_when_a_sale_opens, "was passed over"),
    (tickets_are_offered_while_the_sale_is_paused, "was not on sale"),
    (tickets_are_offered_past_the_limit, "more than the limit of 2"),
    (tickets_are_offered_to_nobody_in_particular_though_there_is_a_limit, "buyer without a name"),
    (what_somebody_waits_for_does_not_count, "more than the limit of 4"),
    (somebody_leaves_at_the_turn_who_has_not_too_many, "was passed over|nobody can have done it"),
    (somebody_leaves_before_the_turn, "nobody can have done it"),
    (somebody_with_too_many_stays_in_the_way, "was offered nothing"),
    (somebody_gets_tickets_while_the_rest_of_the_line_is_to_be_served, "was passed over"),
    (a_commit_offers_less_than_it_may, "this came late"),
]
