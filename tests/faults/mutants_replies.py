"""Makes a true history false in what replies tell: what never was, refusals without a reason, the wrong order."""

from itertools import pairwise

from tests.faults.history import Row
from tests.faults.recorded import LOST, Mutant, Recorded

# What never was


def the_event_does_not_add_up(recorded: Recorded) -> None:
    recorded.events[0]["available"] -= 1


def a_watch_tells_what_never_was(recorded: Recorded) -> None:
    line = recorded.answered(lambda operation: operation.cmd == "watch" and operation.code is None).reply
    line["available"], line["sold"] = line["available"] - 1, line["sold"] + 1


def held_is_shown_as_sold(recorded: Recorded) -> None:
    of_list = recorded.chance.choice(recorded.lists()).reply["events"][1]
    of_list["held"], of_list["sold"] = of_list["held"] - 1, of_list["sold"] + 1


def an_event_has_another_name(recorded: Recorded) -> None:
    recorded.show().reply["name"] = "Another"


def what_was_answered_with_storage_full_was_done(recorded: Recorded) -> None:
    done = recorded.booked()
    booking = done.request["booking"]
    done.reply = {"reply": "error", "code": "storage_full", "retry_after": 1.0}
    # The others who asked do not come into question.
    recorded.history = [
        operation
        for operation in recorded.history
        if operation is done or not (operation.unknown and operation.request.get("booking") == booking)
    ]


# False refusals


def sold_out_though_there_were_tickets(recorded: Recorded) -> None:
    shown = recorded.show()
    shown.request = {
        "cmd": "book",
        "event": shown.reply["id"],
        "quantity": shown.reply["available"],
        "booking": "mutant",
    }
    shown.reply = {**shown.reply, "reply": "error", "code": "sold_out"}


def sold_out_with_another_count(recorded: Recorded) -> None:
    recorded.refused("sold_out", "book").reply["available"] -= 1


def capacity_below_sold_though_there_was_room(recorded: Recorded) -> None:
    shown = recorded.show()
    floor = shown.reply["held"] + shown.reply["sold"]
    shown.request = {"cmd": "amend", "event": shown.reply["id"], "capacity": floor}
    shown.reply = {**shown.reply, "reply": "error", "code": "capacity_below_sold"}


def expired_though_it_was_confirmed(recorded: Recorded) -> None:
    recorded.refused("already_confirmed", "release").reply["code"] = "hold_expired"


def released_though_it_was_confirmed(recorded: Recorded) -> None:
    recorded.refused("already_confirmed", "confirm").reply["code"] = "already_released"


def only_held_though_it_was_released(recorded: Recorded) -> None:
    recorded.refused("already_released", "confirm").reply["code"] = "bad_request"


def a_conflict_with_itself(recorded: Recorded) -> None:
    recorded.repeated().reply = {"reply": "error", "code": "booking_conflict"}


def a_bug_is_no_answer(recorded: Recorded) -> None:
    recorded.refused("sold_out", "book").reply["code"] = "internal"


def a_page_says_that_there_is_more_after_the_last(recorded: Recorded) -> None:
    last = recorded.pages()[-1].reply
    last["more"], last["last"] = True, last["bookings"][-1]["id"]


def a_page_has_a_booking_from_before_it(recorded: Recorded) -> None:
    page, facts = recorded.of_pages(lambda _: True)
    page.request["after"] = facts["id"]


def not_on_sale_though_it_was(recorded: Recorded) -> None:
    shown = recorded.answered(lambda of: of.cmd == "show" and of.reply["reply"] == "event" and not _closes(of.reply))
    shown.request = {"cmd": "book", "event": shown.reply["id"], "quantity": 1, "booking": "mutant"}
    shown.reply = {**shown.reply, "reply": "error", "code": "not_on_sale"}


def _closes(event: Row) -> bool:
    return any(name in event for name in ("paused", "opens", "closes"))


def more_is_left_for_a_buyer_than_is_said(recorded: Recorded) -> None:
    recorded.refused("buyer_limit", "book").reply["left"] += 1


def an_event_that_is_there_is_not_found(recorded: Recorded) -> None:
    refused = recorded.refused("event_in_use", "delete")
    refused.reply = {"reply": "error", "code": "event_not_found"}


# Out of order


def a_list_is_stale(recorded: Recorded) -> None:
    first, *_, last = recorded.lists()
    last.reply = first.reply


def a_list_tells_the_future(recorded: Recorded) -> None:
    first, *_, last = recorded.lists()
    first.reply = last.reply


def a_cancelled_booking_is_shown_as_it_was(recorded: Recorded) -> None:
    booking = recorded.changed("cancel").reply["id"]
    before = min(recorded.shown(booking), key=lambda facts: int(facts["version"]))
    recorded.later({"cmd": "show", "id": booking}, {**before, "reply": "booking"})


def two_bookings_change_places_in_time(recorded: Recorded) -> None:
    first, *_, last = recorded.all(lambda operation: operation.cmd == "book" and operation.changed)
    first.invoked, last.invoked = last.invoked, first.invoked
    first.answered, last.answered = last.answered, first.answered


def two_bookings_of_a_connection_change_places(recorded: Recorded) -> None:
    places = [
        place for place, operation in enumerate(recorded.history) if operation.cmd == "book" and operation.changed
    ]
    history = recorded.history
    first, second = recorded.chance.choice(
        [
            (first, second)
            for first, second in pairwise(places)
            if history[first].connection == history[second].connection
            and history[first].invoked == history[second].invoked
            and history[first].request["event"] == history[second].request["event"]
        ]
    )
    history[first], history[second] = history[second], history[first]


MUTANTS: list[tuple[Mutant, str]] = [
    (the_event_does_not_add_up, "does not add up"),
    (a_watch_tells_what_never_was, "was never this"),
    (held_is_shown_as_sold, "was never this"),
    (an_event_has_another_name, "was never this"),
    (what_was_answered_with_storage_full_was_done, "nobody can have done it"),
    (sold_out_though_there_were_tickets, "refusal was not true"),
    (sold_out_with_another_count, "was never this|nothing explains"),
    (capacity_below_sold_though_there_was_room, "refusal was not true"),
    (expired_though_it_was_confirmed, "refusal was not true"),
    (released_though_it_was_confirmed, "refusal was not true"),
    (only_held_though_it_was_released, "refusal was not true"),
    (a_conflict_with_itself, "refusal was not true"),
    (a_bug_is_no_answer, "refusal was not true"),
    (a_page_says_that_there_is_more_after_the_last, "says that there is more"),
    (a_page_has_a_booking_from_before_it, "not the bookings that were asked for"),
    (a_list_is_stale, f"{LOST}|was there|was not there"),
    (a_list_tells_the_future, f"{LOST}|was there|was not there"),
    (a_cancelled_booking_is_shown_as_it_was, LOST),
    (two_bookings_change_places_in_time, LOST),
    (two_bookings_of_a_connection_change_places, "order sent"),
    (not_on_sale_though_it_was, "refusal was not true"),
    (more_is_left_for_a_buyer_than_is_said, "refusal was not true"),
    (an_event_that_is_there_is_not_found, "was there"),
]
