"""Makes a true history false in what was changed: what is missing, doubled, or shown in another way."""

from tests.faults.history import Operation
from tests.faults.recorded import LOST, Mutant, Recorded
from ticketd.model import HOLD_SECONDS_MAX

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


def a_page_hides_that_there_is_more(recorded: Recorded) -> None:
    # One of those that were read when all was over, and nothing was new.
    *_, page = (page for page in recorded.pages() if page.reply.get("more"))
    del page.reply["more"], page.reply["last"]


def a_page_ends_early(recorded: Recorded) -> None:
    *_, page = (page for page in recorded.pages() if page.reply.get("more"))
    first = page.reply["bookings"][:1]
    recorded.later(page.request, {**page.reply, "bookings": first, "last": first[0]["id"]})


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
        reply, request = operation.reply or {}, operation.request
        if "bookings" in reply:
            reply["bookings"] = [facts for facts in reply["bookings"] if facts["id"] != unheard]
        elif unheard in (reply.get("id"), reply.get("booking"), request.get("booking"), request.get("ticket")):
            operation.reply = None


def an_event_is_not_in_the_list(recorded: Recorded) -> None:
    del recorded.chance.choice(recorded.lists()).reply["events"][0]


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
    booking = recorded.booked(lambda of: of.request["quantity"] > 1).reply
    recorded.rewrite(booking["tickets"][0], booking["tickets"][1])


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
    # Replies show these as they were too.
    _, facts = recorded.of_pages(lambda facts: facts.get("changes") and facts["changes"][0]["what"] in SHOWN_AT_ONCE)
    facts["changes"][0]["available"] += 1


def a_change_was_at_another_time(recorded: Recorded) -> None:
    confirmed = recorded.changed("confirm").reply
    for facts in recorded.shown(confirmed["id"]):
        for change in facts.get("changes", ()):
            if change["what"] == "confirm":
                change["at"] = "2001-01-01T00:00:00Z"


def a_booking_was_at_another_time(recorded: Recorded) -> None:
    for facts in recorded.shown(recorded.booked().reply["id"]):
        facts["booked_at"] = "2001-01-01T00:00:00Z"


def a_booking_is_for_another_buyer(recorded: Recorded) -> None:
    booked = recorded.booked()
    booked.request = {**booked.request, "buyer": "another"}


def a_hold_is_longer_than_was_asked_for(recorded: Recorded) -> None:
    held = recorded.changed("hold")
    held.request = {**held.request, "seconds": held.request["seconds"] - 1}


def a_hold_is_extended_by_more_than_was_asked_for(recorded: Recorded) -> None:
    extended = recorded.answered(
        lambda of: of.cmd == "extend" and of.changed and of.request["seconds"] < HOLD_SECONDS_MAX
    )
    extended.request = {**extended.request, "seconds": extended.request["seconds"] - 1}


SHOWN_AT_ONCE = ("confirm", "release", "cancel")
MUTANTS: list[tuple[Mutant, str]] = [
    (a_booking_is_lost, "no moment|says that there is more|" + LOST),
    (a_ticket_is_lost, "shown in two ways|cannot become"),
    (a_ticket_is_missing_from_the_beginning, "cannot become"),
    (a_page_hides_that_there_is_more, "no moment|" + LOST),
    (a_page_ends_early, "says that there is more"),
    (what_was_read_is_not_there_after_a_crash, "nothing explains version"),
    (an_event_is_not_in_the_list, "not all events"),
    (a_known_booking_is_not_found, LOST),
    (a_change_is_shown_to_nobody, "nothing explains version|cannot make"),
    (a_booking_is_done_twice, "was done twice"),
    (a_booking_is_done_again_later, "cannot become"),
    (two_changes_have_one_version, "two changes of version|cannot become|nothing explains|shown in two ways"),
    (a_ticket_is_sold_to_two, "cannot become"),
    (a_booking_has_one_ticket_twice, "cannot become"),
    (a_replay_differs, "shown in two ways"),
    (a_ticket_has_another_id, "shown in two ways"),
    (an_id_is_not_that_of_a_ticket, "cannot become"),
    (a_ticket_has_the_id_of_a_longer_booking, "cannot become"),
    (more_is_booked_than_was_asked_for, "not what was asked for"),
    (a_hold_is_shown_as_confirmed, "not what was asked for"),
    (a_booking_has_another_past, "shown in two ways"),
    (a_change_was_at_another_time, "was not then"),
    (a_booking_was_at_another_time, "was not then"),
    (a_booking_is_for_another_buyer, "not what was asked for"),
    (a_hold_is_longer_than_was_asked_for, "not what was asked for"),
    (a_hold_is_extended_by_more_than_was_asked_for, "not what was asked for"),
]
