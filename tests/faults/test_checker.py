"""The checker passes a true history, and finds what is wrong with one that was made false."""

import pickle
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import inf
from typing import Any

import msgspec
import pytest

from tests.faults import crowd
from tests.faults.checker import check
from tests.faults.history import Operation, Row

KILLS = 2
LATER = 1e12


class Recorded:
    """A true history, to be made false by drawing from it what is fit for that."""

    def __init__(self, history: list[Operation], events: list[Row], chance: random.Random) -> None:
        self.history = history
        self.events = events
        self.chance = chance

    # What is drawn has a reply, which the type of an operation cannot tell.
    def all(self, fits: Callable[[Any], object]) -> list[Any]:
        """Return all operations that were answered, and are fit."""
        fit = [operation for operation in self.history if operation.reply and fits(operation)]
        assert fit, "the crowd was too quiet"
        return fit

    def answered(self, fits: Callable[[Any], object]) -> Any:
        """Draw an operation that was answered."""
        return self.chance.choice(self.all(fits))

    def lists(self) -> list[Any]:
        """Return all that were told the events."""
        return self.all(lambda operation: operation.reply["reply"] == "events")

    def changed(self, cmd: str) -> Any:
        """Draw an operation that changed something."""
        return self.answered(lambda operation: operation.cmd == cmd and operation.changed)

    def booked(self) -> Any:
        """Draw one that booked what nobody has cancelled."""
        cancelled = {operation.request.get("booking") for operation in self.history if operation.cmd == "cancel"}
        return self.answered(
            lambda operation: operation.cmd == "book" and operation.changed and operation.reply["id"] not in cancelled
        )

    def refused(self, code: str, cmd: str) -> Any:
        """Draw an operation that was refused."""
        return self.answered(lambda operation: (operation.code, operation.cmd) == (code, cmd))

    def show(self) -> Any:
        """Draw one that shows an event some of whose tickets are available, and some sold."""
        return self.answered(
            lambda operation: (
                operation.cmd == "show" and operation.reply.get("available") and operation.reply.get("sold")
            )
        )

    def told(self, booking: str) -> Iterator[Row]:
        """All that is told of a booking."""
        for operation in self.history:
            reply = operation.reply or {}
            yield from (facts for facts in (reply, *reply.get("bookings", ())) if facts.get("id") == booking)

    def later(self, request: Row, reply: Row) -> None:
        """Add one who asks when all is over."""
        self.history.append(Operation("late", 0, -1, request, LATER, LATER, reply))

    def rewrite(self, old: str, new: str) -> None:
        """Let every reply tell something else."""
        for operation in self.history:
            reply = msgspec.json.encode(operation.reply)
            if old.encode() in reply:
                operation.reply = msgspec.json.decode(reply.replace(old.encode(), new.encode()))


Mutant = Callable[[Recorded], None]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    seed = random.randrange(1 << 32)
    recorded = crowd.record(random.Random(seed), KILLS, tmp_path_factory.mktemp("recording"))
    return pickle.dumps((recorded.history, recorded.events)), seed


@pytest.fixture
def recorded(recording: tuple[bytes, int]) -> Recorded:
    pickled, seed = recording
    print("seed", seed)
    history, events = pickle.loads(pickled)
    return Recorded(history, events, random.Random(seed))


# What is missing


def a_booking_is_lost(recorded: Recorded) -> None:
    booking = recorded.booked().reply["id"]
    for operation in recorded.history:
        if operation.reply and operation.reply["reply"] == "bookings":
            operation.reply["bookings"] = [facts for facts in operation.reply["bookings"] if facts["id"] != booking]


def a_ticket_is_lost(recorded: Recorded) -> None:
    ticket = recorded.changed("confirm").reply["tickets"][0]
    for operation in recorded.history:
        if operation.reply and operation.reply["reply"] == "tickets":
            operation.reply["tickets"] = [facts for facts in operation.reply["tickets"] if facts["id"] != ticket]


def a_change_is_told_to_nobody(recorded: Recorded) -> None:
    unheard = recorded.booked().reply["id"]
    for operation in recorded.history:
        reply = operation.reply or {}
        if unheard in (reply.get("id"), operation.request.get("booking")) or operation.cmd == "bookings":
            operation.reply = None


def an_event_is_not_in_the_list(recorded: Recorded) -> None:
    recorded.chance.choice(recorded.lists()).reply["events"].pop()


def a_known_booking_is_not_found(recorded: Recorded) -> None:
    refused = recorded.refused("already_confirmed", "release")
    refused.reply = {"reply": "error", "code": "booking_not_found"}


# What is doubled


def a_booking_is_done_twice(recorded: Recorded) -> None:
    done = recorded.booked()
    recorded.later(done.request, done.reply)


def a_booking_is_done_again_later(recorded: Recorded) -> None:
    done = recorded.booked()
    recorded.later(done.request, {**done.reply, "version": 1_000_000, "available": 0})


def two_changes_have_one_version(recorded: Recorded) -> None:
    for facts in recorded.told(recorded.changed("hold").reply["id"]):
        facts["version"] += 1


def a_ticket_is_sold_to_two(recorded: Recorded) -> None:
    first, second = recorded.booked().reply, recorded.changed("confirm").reply
    recorded.rewrite(first["tickets"][0], second["tickets"][0])


def a_ticket_is_redeemed_twice(recorded: Recorded) -> None:
    redeemed = recorded.changed("redeem")
    recorded.later(redeemed.request, redeemed.reply)


def a_ticket_is_redeemed_at_two_times(recorded: Recorded) -> None:
    recorded.refused("already_redeemed", "redeem").reply["redeemed_at"] = "2027-01-01T00:00:00Z"


# What is told in another way


def a_replay_differs(recorded: Recorded) -> None:
    recorded.answered(lambda operation: operation.replayed and operation.cmd == "book").reply["available"] += 1


def a_ticket_has_another_id(recorded: Recorded) -> None:
    recorded.booked().reply["tickets"][0] = "another"


def more_is_booked_than_was_asked_for(recorded: Recorded) -> None:
    recorded.booked().request["quantity"] += 1


def a_hold_is_told_as_confirmed(recorded: Recorded) -> None:
    recorded.changed("hold").request["cmd"] = "book"


def a_booking_has_another_past(recorded: Recorded) -> None:
    page = recorded.answered(
        lambda operation: (
            operation.cmd == "bookings" and any(facts.get("changes") for facts in operation.reply["bookings"])
        )
    )
    next(facts for facts in page.reply["bookings"] if facts.get("changes"))["changes"][0][1] += 1


# What never was


def the_event_does_not_add_up(recorded: Recorded) -> None:
    recorded.events[0]["available"] -= 1


def a_watch_tells_what_never_was(recorded: Recorded) -> None:
    line = recorded.answered(lambda operation: operation.cmd == "watch" and operation.code is None).reply
    line["available"], line["sold"] = line["available"] - 1, line["sold"] + 1


def held_is_told_as_sold(recorded: Recorded) -> None:
    of_list = recorded.chance.choice(recorded.lists()).reply["events"][1]
    of_list["held"], of_list["sold"] = of_list["held"] - 1, of_list["sold"] + 1


def an_event_has_another_name(recorded: Recorded) -> None:
    recorded.show().reply["name"] = "Another"


def a_ticket_is_of_another_booking(recorded: Recorded) -> None:
    recorded.changed("redeem").reply["booking"] = recorded.booked().reply["id"]


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


def cancelled_though_it_was_redeemed(recorded: Recorded) -> None:
    recorded.refused("already_redeemed", "redeem").reply["code"] = "already_cancelled"


def a_conflict_with_itself(recorded: Recorded) -> None:
    again = recorded.answered(lambda operation: operation.replayed and operation.cmd == "book")
    again.reply = {"reply": "error", "code": "booking_conflict"}


def a_bug_is_no_answer(recorded: Recorded) -> None:
    recorded.refused("sold_out", "book").reply["code"] = "internal"


def a_redeemed_ticket_was_cancelled(recorded: Recorded) -> None:
    cancelled = recorded.changed("cancel").reply["cancelled"][0]
    redeemed = recorded.changed("redeem")
    redeemed.request["ticket"] = redeemed.reply["id"] = cancelled
    recorded.history = [redeemed, *(operation for operation in recorded.history if operation.cmd != "redeem")]


# Out of order


def a_list_is_stale(recorded: Recorded) -> None:
    first, *_, last = recorded.lists()
    last.reply = first.reply


def a_list_tells_the_future(recorded: Recorded) -> None:
    first, *_, last = recorded.lists()
    first.reply = last.reply


def a_redeemed_ticket_is_shown_as_valid(recorded: Recorded) -> None:
    ticket = recorded.changed("redeem").reply
    recorded.later({"cmd": "show", "id": ticket["id"]}, {**ticket, "state": "valid"})


def a_cancelled_booking_is_shown_as_it_was(recorded: Recorded) -> None:
    booking = recorded.changed("cancel").reply["id"]
    before = min(recorded.told(booking), key=lambda facts: int(facts["version"]))
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


LOST = "second was decided before the first"
MUTANTS: list[tuple[Mutant, str]] = [
    (a_booking_is_lost, "no moment|" + LOST),
    (a_ticket_is_lost, "no moment|" + LOST),
    (an_event_is_not_in_the_list, "not all events"),
    (a_known_booking_is_not_found, LOST),
    (a_change_is_told_to_nobody, "nothing explains version|cannot make"),
    (a_booking_is_done_twice, "was done twice"),
    (a_booking_is_done_again_later, "cannot become"),
    (two_changes_have_one_version, "two changes of version|cannot become|nothing explains"),
    (a_ticket_is_sold_to_two, "was sold twice"),
    (a_ticket_is_redeemed_twice, "was done twice"),
    (a_ticket_is_redeemed_at_two_times, "redeemed at two times"),
    (a_replay_differs, "told in two ways"),
    (a_ticket_has_another_id, "told in two ways"),
    (more_is_booked_than_was_asked_for, "not what was asked for"),
    (a_hold_is_told_as_confirmed, "not what was asked for"),
    (a_booking_has_another_past, "another past"),
    (the_event_does_not_add_up, "does not add up"),
    (a_watch_tells_what_never_was, "was never this"),
    (held_is_told_as_sold, "was never this"),
    (an_event_has_another_name, "was never this"),
    (a_ticket_is_of_another_booking, "is of no such booking"),
    (what_was_answered_with_storage_full_was_done, "nobody can have done it"),
    (sold_out_though_there_were_tickets, "refusal was not true"),
    (sold_out_with_another_count, "was never this"),
    (capacity_below_sold_though_there_was_room, "refusal was not true"),
    (expired_though_it_was_confirmed, "refusal was not true"),
    (released_though_it_was_confirmed, "refusal was not true"),
    (only_held_though_it_was_released, "refusal was not true"),
    (cancelled_though_it_was_redeemed, "refusal was not true"),
    (a_conflict_with_itself, "refusal was not true"),
    (a_bug_is_no_answer, "refusal was not true"),
    (a_redeemed_ticket_was_cancelled, "redeemed and cancelled"),
    (a_list_is_stale, LOST),
    (a_list_tells_the_future, LOST),
    (a_redeemed_ticket_is_shown_as_valid, LOST),
    (a_cancelled_booking_is_shown_as_it_was, LOST),
    (two_bookings_change_places_in_time, LOST),
    (two_bookings_of_a_connection_change_places, "order sent"),
]


@pytest.mark.parametrize(("mutant", "wrong"), MUTANTS, ids=lambda of: of.__name__ if callable(of) else "")
def test_a_false_history_is_found_out(mutant: Mutant, wrong: str, recorded: Recorded) -> None:
    mutant(recorded)
    with pytest.raises(AssertionError, match=wrong):
        check(recorded.history, recorded.events)


def test_a_true_history_is_right(recorded: Recorded) -> None:
    check(recorded.history, recorded.events)


def test_a_reply_that_was_lost_and_asked_for_again_is_no_contradiction(recorded: Recorded) -> None:
    for _ in range(10):
        lost = recorded.booked()
        recorded.later(lost.request, {**lost.reply, "replayed": True})
        lost.reply, lost.answered = None, inf
    check(recorded.history, recorded.events)


def sale(size: int, capacity: int) -> tuple[list[Operation], Row]:
    """Return the history of 100 connections that book, look and ask again all at the same time, and the event."""
    event = {"id": "1", "name": "Event 1", "date": "2027-03-11T20:00:00Z", "capacity": capacity, "held": 0}
    history: list[Operation] = []
    for number in range(size):
        turn, step = divmod(number, 4)
        version = min(turn + 1, capacity)
        left = {"available": capacity - version, "version": version}
        facts = {**event, **left, "sold": version}
        booking = {"id": f"b{turn}", "event": "1", "quantity": 1, "state": "confirmed", "tickets": [f"t{turn}"], **left}
        sold_out = {"reply": "error", "code": "sold_out", **left}
        book = {"cmd": "book", "event": "1", "quantity": 1, "booking": f"b{turn}"}
        request, reply = (
            (book, {"reply": "booking", **booking} if turn < capacity else sold_out),
            ({"cmd": "show", "id": "1"}, {"reply": "event", **facts}),
            (book, {"reply": "booking", **booking, "replayed": True} if turn < capacity else sold_out),
            ({"cmd": "list"}, {"reply": "events", "events": [facts]}),
        )[step]
        history.append(Operation("anybody", 0, number % 100, request, number, number + 99, reply))
    return history, {**event, "available": capacity, "sold": 0, "version": 0}


def test_a_hundred_thousand_operations_are_checked() -> None:
    history, event = sale(100_000, 20_000)
    assert sum(operation.changed for operation in history) == 20_000
    check(history, [event])


def test_an_event_that_is_oversold_is_found_out() -> None:
    history, event = sale(100, 25)
    event["available"], event["capacity"] = 24, 24
    for operation in history:
        reply = operation.reply or {}
        for told in reply.get("events", [reply]):
            told["available"] -= 1
    with pytest.raises(AssertionError, match="cannot make -1 available"):
        check(history, [event])
