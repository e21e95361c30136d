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
        """Return all whose replies show the events."""
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

    def repeated(self) -> Any:
        """Draw a replay of a booking whose first reply is known too."""
        first = {operation.reply["id"] for operation in self.all(lambda of: of.cmd == "book" and of.changed)}
        return self.answered(
            lambda operation: operation.replayed and operation.cmd == "book" and operation.reply["id"] in first
        )

    def refused(self, code: str, cmd: str) -> Any:
        """Draw an operation that was refused."""
        return self.answered(lambda operation: (operation.code, operation.cmd) == (code, cmd))

    def pages(self) -> list[Any]:
        """Return all pages of bookings, the last ones at the end."""
        return self.all(lambda operation: operation.cmd == "bookings" and operation.code is None)

    def of_pages(self, fits: Callable[[Row], object]) -> tuple[Any, Row]:
        """Draw a page and a booking in it that is fit."""
        found = [(page, facts) for page in self.pages() for facts in page.reply["bookings"] if fits(facts)]
        assert found, "the crowd was too quiet"
        return self.chance.choice(found)

    def show(self) -> Any:
        """Draw one that shows an event some of whose tickets are available, and some sold."""
        return self.answered(
            lambda operation: (
                operation.cmd == "show" and operation.reply.get("available") and operation.reply.get("sold")
            )
        )

    def shown(self, booking: str) -> Iterator[Row]:
        """All that replies show of a booking."""
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
    _, facts = recorded.of_pages(lambda facts: facts["state"] == "confirmed")
    facts["tickets"].pop()


def a_ticket_is_missing_from_the_beginning(recorded: Recorded) -> None:
    for facts in recorded.shown(recorded.booked().reply["id"]):
        facts["tickets"] = facts["tickets"][1:]


def a_redemption_is_forgotten(recorded: Recorded) -> None:
    redeemed = recorded.changed("redeem")
    # As the last page shows it, which was read when all was over.
    *_, page = (page for page in recorded.pages() if _shows(page, redeemed.reply["booking"]))
    facts = next(facts for facts in page.reply["bookings"] if facts["id"] == redeemed.reply["booking"])
    place = facts["redeemed"].index(redeemed.reply["id"])
    del facts["redeemed"][place], facts["redeemed_at"][place]


def _shows(page: Any, booking: str) -> bool:
    return any(facts["id"] == booking for facts in page.reply["bookings"])


def a_page_hides_that_there_is_more(recorded: Recorded) -> None:
    # One of those that were read when all was over, and nothing was new.
    *_, page = (page for page in recorded.pages() if page.reply.get("more"))
    del page.reply["more"]


def a_page_ends_early(recorded: Recorded) -> None:
    *_, page = (page for page in recorded.pages() if page.reply.get("more"))
    page.reply["bookings"] = page.reply["bookings"][:1]


def what_was_read_is_not_there_after_a_crash(recorded: Recorded) -> None:
    # Somebody is shown what was not committed, and what asked for it was never answered, nor done.
    last = recorded.lists()[-1].reply["events"][2]
    sold = {"available": last["available"] - 1, "sold": last["sold"] + 1, "version": last["version"] + 1}
    recorded.history.append(
        Operation("lost", 0, -2, {"cmd": "book", "event": last["id"], "quantity": 1, "booking": "lost"}, 0)
    )
    recorded.later({"cmd": "show", "id": last["id"]}, {**last, **sold, "reply": "event"})


def a_change_is_shown_to_nobody(recorded: Recorded) -> None:
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
    for facts in recorded.shown(recorded.changed("hold").reply["id"]):
        facts["version"] += 1


def a_ticket_is_sold_to_two(recorded: Recorded) -> None:
    first, second = recorded.booked().reply, recorded.changed("confirm").reply
    recorded.rewrite(first["tickets"][0], second["tickets"][0])


def a_booking_has_one_ticket_twice(recorded: Recorded) -> None:
    booking = recorded.answered(
        lambda operation: operation.cmd == "book" and operation.changed and operation.request["quantity"] > 1
    ).reply
    recorded.rewrite(booking["tickets"][0], booking["tickets"][1])


def a_ticket_is_redeemed_twice(recorded: Recorded) -> None:
    redeemed = recorded.changed("redeem")
    recorded.later(redeemed.request, redeemed.reply)


def a_ticket_is_redeemed_at_two_times(recorded: Recorded) -> None:
    recorded.refused("already_redeemed", "redeem").reply["redeemed_at"] = "2027-01-01T00:00:00Z"


# What is shown in another way


def a_ticket_is_redeemed_at_another_time(recorded: Recorded) -> None:
    _, facts = recorded.of_pages(lambda facts: facts.get("redeemed"))
    facts["redeemed_at"][0] = "2027-01-01T00:00:00Z"


def a_replay_differs(recorded: Recorded) -> None:
    recorded.repeated().reply["available"] += 1


def a_ticket_has_another_id(recorded: Recorded) -> None:
    booking = recorded.booked().reply
    booking["tickets"][0] = f"{booking['id']}.0123456789ab"


def an_id_is_not_that_of_a_ticket(recorded: Recorded) -> None:
    ticket = recorded.booked().reply["tickets"][0]
    recorded.rewrite(ticket, ticket[:-1])


def a_ticket_has_the_id_of_a_longer_booking(recorded: Recorded) -> None:
    booking = recorded.booked().reply
    recorded.rewrite(booking["tickets"][0], f"{booking['id']}.1.0123456789ab")


def more_is_booked_than_was_asked_for(recorded: Recorded) -> None:
    recorded.booked().request["quantity"] += 1


def a_hold_is_shown_as_confirmed(recorded: Recorded) -> None:
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


def held_is_shown_as_sold(recorded: Recorded) -> None:
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
    recorded.repeated().reply = {"reply": "error", "code": "booking_conflict"}


def a_bug_is_no_answer(recorded: Recorded) -> None:
    recorded.refused("sold_out", "book").reply["code"] = "internal"


def a_cancelled_ticket_is_let_in(recorded: Recorded) -> None:
    refused = recorded.refused("already_cancelled", "redeem")
    ticket = refused.request["ticket"]
    booking = next(facts for facts in recorded.shown(ticket.rpartition(".")[0]) if ticket in facts["tickets"])
    let_in = {"id": ticket, "event": booking["event"], "booking": booking["id"], "state": "redeemed"}
    refused.reply = {"reply": "ticket", **let_in, "redeemed_at": "2027-03-11T20:00:00Z"}


def a_cancelled_ticket_is_shown_as_redeemed(recorded: Recorded) -> None:
    _, facts = recorded.of_pages(lambda facts: facts.get("cancelled") and not facts.get("redeemed"))
    facts["redeemed"], facts["redeemed_at"] = facts["cancelled"][:1], ["2027-03-11T20:00:00Z"]


def a_page_says_that_there_is_more_after_the_last(recorded: Recorded) -> None:
    recorded.pages()[-1].reply["more"] = True


def a_page_has_a_booking_from_before_it(recorded: Recorded) -> None:
    page, facts = recorded.of_pages(lambda _: True)
    page.request["after"] = facts["id"]


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


def a_redeemed_ticket_is_valid_in_its_booking(recorded: Recorded) -> None:
    ticket = recorded.changed("redeem").reply
    last = max(recorded.shown(ticket["booking"]), key=lambda facts: int(facts["version"]))
    shown = {name: value for name, value in last.items() if name not in ("redeemed", "redeemed_at", "replayed")}
    recorded.later({"cmd": "show", "id": ticket["booking"]}, {**shown, "reply": "booking"})


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


LOST = "second was decided before the first"
MUTANTS: list[tuple[Mutant, str]] = [
    (a_booking_is_lost, "no moment|says that there is more|" + LOST),
    (a_ticket_is_lost, "shown in two ways"),
    (a_ticket_is_missing_from_the_beginning, "cannot become"),
    (a_redemption_is_forgotten, LOST),
    (a_page_hides_that_there_is_more, "no moment|" + LOST),
    (a_page_ends_early, "says that there is more|cannot make|nothing explains"),
    (what_was_read_is_not_there_after_a_crash, "nothing explains version"),
    (an_event_is_not_in_the_list, "not all events"),
    (a_known_booking_is_not_found, LOST),
    (a_change_is_shown_to_nobody, "nothing explains version|cannot make"),
    (a_booking_is_done_twice, "was done twice"),
    (a_booking_is_done_again_later, "cannot become"),
    (two_changes_have_one_version, "two changes of version|cannot become|nothing explains"),
    (a_ticket_is_sold_to_two, "cannot become"),
    (a_booking_has_one_ticket_twice, "cannot become"),
    (a_ticket_is_redeemed_twice, "was done twice"),
    (a_ticket_is_redeemed_at_two_times, "redeemed at two times"),
    (a_ticket_is_redeemed_at_another_time, "redeemed at two times"),
    (a_replay_differs, "shown in two ways"),
    (a_ticket_has_another_id, "shown in two ways"),
    (an_id_is_not_that_of_a_ticket, "cannot become"),
    (a_ticket_has_the_id_of_a_longer_booking, "cannot become"),
    (more_is_booked_than_was_asked_for, "not what was asked for"),
    (a_hold_is_shown_as_confirmed, "not what was asked for"),
    (a_booking_has_another_past, "another past"),
    (the_event_does_not_add_up, "does not add up"),
    (a_watch_tells_what_never_was, "was never this"),
    (held_is_shown_as_sold, "was never this"),
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
    (a_cancelled_ticket_is_let_in, "redeemed and cancelled"),
    (a_cancelled_ticket_is_shown_as_redeemed, "cannot have been redeemed"),
    (a_page_says_that_there_is_more_after_the_last, "says that there is more"),
    (a_page_has_a_booking_from_before_it, "not the bookings that were asked for"),
    (a_list_is_stale, LOST),
    (a_list_tells_the_future, LOST),
    (a_redeemed_ticket_is_shown_as_valid, LOST),
    (a_redeemed_ticket_is_valid_in_its_booking, LOST),
    (a_cancelled_booking_is_shown_as_it_was, LOST),
    (two_bookings_change_places_in_time, LOST),
    (two_bookings_of_a_connection_change_places, "order sent"),
]


@pytest.mark.parametrize(("mutant", "wrong"), MUTANTS, ids=lambda of: of.__name__ if callable(of) else "")
def test_the_checker_rejects_a_false_history(mutant: Mutant, wrong: str, recorded: Recorded) -> None:
    mutant(recorded)
    with pytest.raises(AssertionError, match=wrong):
        check(recorded.history, recorded.events)


def test_the_checker_accepts_a_true_history(recorded: Recorded) -> None:
    check(recorded.history, recorded.events)


def test_the_checker_accepts_a_retry_after_a_lost_reply(recorded: Recorded) -> None:
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
        booking = {
            "id": f"b{turn}",
            "event": "1",
            "quantity": 1,
            "state": "confirmed",
            "tickets": [f"b{turn}.{turn:012x}"],
            **left,
        }
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


def test_the_checker_handles_100000_operations() -> None:
    history, event = sale(100_000, 20_000)
    assert sum(operation.changed for operation in history) == 20_000
    check(history, [event])


def test_the_checker_finds_an_oversold_event() -> None:
    history, event = sale(100, 25)
    event["available"], event["capacity"] = 24, 24
    for operation in history:
        reply = operation.reply or {}
        for shown in reply.get("events", [reply]):
            shown["available"] -= 1
    with pytest.raises(AssertionError, match="cannot make -1 available"):
        check(history, [event])
