"""What a daemon would tell that does not know who waits, where and since when, or tells it in another way."""

from collections.abc import Callable

from tests.faults.made_up import Sale, line, sold_out
from ticketd.model import HOLD_SECONDS_TOTAL_MAX_DEFAULT as DAY


def who_waits_counts_as_held(sale: Sale) -> None:
    line(sale)
    sale.event = {**sale.event, "held": sale.event["held"] + 7, "sold": sale.event["sold"] - 7}
    sale.look()


def the_line_is_longer_than_it_is(sale: Sale) -> None:
    line(sale)
    sale.event = {**sale.event, "waiting": 4}
    sale.look()


def somebody_joins_at_another_place(sale: Sale) -> None:
    line(sale)
    sale.wait(1)
    sale.history[-1].reply["position"] = 3  # type: ignore[index]


def somebody_is_shown_another_place(sale: Sale) -> None:
    _, _, two, _ = line(sale)
    sale.show(two, 1)


def somebody_is_shown_no_place(sale: Sale) -> None:
    _, _, two, _ = line(sale)
    sale.show(two)


def somebody_is_shown_an_earlier_place(sale: Sale) -> None:
    _, four, two, _ = line(sale)
    sale.release(four)
    sale.show(two, 2)


def somebody_is_shown_a_later_place(sale: Sale) -> None:
    _, four, two, _ = line(sale)
    sale.show(two, 1)
    sale.release(four)


def somebody_who_waited_is_told_again_of_an_offer(sale: Sale) -> None:
    sold, _, two, _ = line(sale)
    sale.cancel(sold, 2)
    sale.offer(two)
    sale.again(two, 1)


def somebody_who_got_tickets_at_once_is_told_again_to_wait(sale: Sale) -> None:
    two = sale.wait(2, at_once=True)
    sale.again(two)


def an_offer_lasts_longer_than_was_asked_for(sale: Sale) -> None:
    sold, _, two, _ = line(sale)
    sale.cancel(sold, 2)
    sale.offer(two, lasts=901)


def an_offer_runs_out_early(sale: Sale) -> None:
    sale.expire(sale.wait(2, at_once=True))


def an_offer_is_extended_as_if_it_was_held_since_it_joined(sale: Sale) -> None:
    sold, _, two, _ = line(sale)
    joined = len(sale.history) - 1
    sale.cancel(sold, 2)
    sale.offer(two)
    sale.extend(two, DAY, sale.time(DAY - (len(sale.history) + 1 - joined)))


def an_offer_is_extended_past_the_ceiling(sale: Sale) -> None:
    two = sale.wait(2, at_once=True)
    sale.extend(two, DAY, sale.time(DAY))


def nobody_has_asked_who_joins(sale: Sale) -> None:
    sale.wait(2, at_once=True)
    sale.history[-1].request = {"cmd": "ping"}


def somebody_joins_for_more_than_was_asked_for(sale: Sale) -> None:
    _, four, _, _ = line(sale)
    asked = next(of for of in sale.history if of.request.get("booking") == four)
    asked.request = {**asked.request, "quantity": 3}


def nobody_may_wait_though_it_is_not_too_much(sale: Sale) -> None:
    sold_out(sale)
    sale.refuse({"cmd": "wait", "event": "1", "quantity": 10, "booking": "w"}, "sold_out")


def the_line_is_full_though_it_is_short(sale: Sale) -> None:
    line(sale)
    sale.refuse({"cmd": "wait", "event": "1", "quantity": 1, "booking": "w"}, "waiting_list_full")


def somebody_is_still_waiting_who_left(sale: Sale) -> None:
    _, _, two, _ = line(sale)
    sale.release(two)
    sale.refuse({"cmd": "confirm", "booking": two}, "bad_request")


MUTANTS: list[tuple[Callable[[Sale], None], str]] = [
    (who_waits_counts_as_held, "was never this"),
    (the_line_is_longer_than_it_is, "was never this"),
    (somebody_joins_at_another_place, "is the last in line"),
    (somebody_is_shown_another_place, "never had this place"),
    (somebody_is_shown_no_place, "never had this place"),
    (somebody_is_shown_an_earlier_place, "second was decided before the first"),
    (somebody_is_shown_a_later_place, "second was decided before the first"),
    (somebody_who_waited_is_told_again_of_an_offer, "was not held at once"),
    (somebody_who_got_tickets_at_once_is_told_again_to_wait, "had its tickets at once"),
    (an_offer_lasts_longer_than_was_asked_for, "not what was asked for"),
    (an_offer_runs_out_early, "ran out before its time"),
    (an_offer_is_extended_as_if_it_was_held_since_it_joined, "not what was asked for"),
    (an_offer_is_extended_past_the_ceiling, "held for too long"),
    (nobody_has_asked_who_joins, "nobody can have done it"),
    (somebody_joins_for_more_than_was_asked_for, "not what was asked for"),
    (nobody_may_wait_though_it_is_not_too_much, "refusal was not true"),
    (the_line_is_full_though_it_is_short, "refusal was not true"),
    (somebody_is_still_waiting_who_left, "refusal was not true"),
]
