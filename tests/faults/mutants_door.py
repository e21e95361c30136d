"""Makes a true history false in what happens at the door."""

from typing import Any

from tests.faults.history import Row
from tests.faults.recorded import LOST, Mutant, Recorded, time_of


def a_redemption_is_forgotten(recorded: Recorded) -> None:
    redeemed = recorded.redeemed()
    # As the last page shows it, which was read when all was over.
    *_, page = (page for page in recorded.pages() if _shows(page, redeemed.reply["booking"]))
    facts = next(facts for facts in page.reply["bookings"] if facts["id"] == redeemed.reply["booking"])
    place = facts["redeemed"].index(redeemed.reply["id"])
    del facts["redeemed"][place], facts["redeemed_at"][place]


def _shows(page: Any, booking: str) -> bool:
    return any(facts["id"] == booking for facts in page.reply["bookings"])


def a_ticket_is_redeemed_twice(recorded: Recorded) -> None:
    redeemed = recorded.redeemed()
    recorded.later(redeemed.request, redeemed.reply)


def a_ticket_is_redeemed_at_two_times(recorded: Recorded) -> None:
    recorded.refused_at_the_door("already_redeemed").reply["redeemed_at"] = "2027-01-01T00:00:00Z"


# What is shown in another way


def a_ticket_is_redeemed_at_another_time(recorded: Recorded) -> None:
    _, facts = recorded.of_pages(lambda facts: facts.get("redeemed"))
    facts["redeemed_at"][0] = "2027-01-01T00:00:00Z"


def a_ticket_is_of_another_booking(recorded: Recorded) -> None:
    recorded.redeemed().reply["booking"] = recorded.booked().reply["id"]


def cancelled_though_it_was_redeemed(recorded: Recorded) -> None:
    annulled = recorded.annulled()
    refused = recorded.answered(
        lambda of: of.cmd == "redeem" and of.code == "already_redeemed" and of.request["ticket"] not in annulled
    )
    refused.reply["code"] = "already_cancelled"


def a_cancelled_ticket_is_let_in(recorded: Recorded) -> None:
    _let_in(recorded, recorded.refused_at_the_door("already_cancelled"))


def a_cancelled_ticket_is_shown_as_redeemed(recorded: Recorded) -> None:
    _, facts = recorded.of_pages(lambda facts: facts.get("cancelled") and not facts.get("redeemed"))
    facts["redeemed"], facts["redeemed_at"] = facts["cancelled"][:1], ["2027-03-11T20:00:00Z"]


def a_redeemed_ticket_is_shown_as_valid(recorded: Recorded) -> None:
    ticket = recorded.redeemed().reply
    recorded.later({"cmd": "show", "id": ticket["id"]}, {**_without_time(ticket), "state": "valid"})


def _without_time(ticket: Row) -> Row:
    return {name: value for name, value in ticket.items() if name != "redeemed_at"}


def a_redeemed_ticket_is_valid_in_its_booking(recorded: Recorded) -> None:
    ticket = recorded.redeemed().reply
    last = max(recorded.shown(ticket["booking"]), key=lambda facts: int(facts["version"]))
    shown = {name: value for name, value in last.items() if name not in ("redeemed", "redeemed_at", "replayed")}
    recorded.later({"cmd": "show", "id": ticket["booking"]}, {**shown, "reply": "booking"})


def a_reissued_ticket_is_let_in(recorded: Recorded) -> None:
    _let_in(recorded, recorded.refused_at_the_door("already_reissued"))


def _let_in(recorded: Recorded, refused: Any) -> None:
    ticket = refused.request["ticket"]
    booking = recorded.booking_of(ticket)
    let_in = {"id": ticket, "event": booking["event"], "booking": booking["id"], "state": "redeemed"}
    refused.reply = {"reply": "ticket", **let_in, "redeemed_at": time_of(refused.until)}


def a_reissued_ticket_is_shown_as_valid(recorded: Recorded) -> None:
    old = recorded.changed("reissue").request["ticket"]
    booking = recorded.booking_of(old)
    shown = {"reply": "ticket", "id": old, "event": booking["event"], "booking": booking["id"], "state": "valid"}
    recorded.later({"cmd": "show", "id": old}, shown)


def a_ticket_is_reissued_twice(recorded: Recorded) -> None:
    reissued = recorded.changed("reissue")
    recorded.later(reissued.request, reissued.reply)


def a_ticket_is_reissued_as_another_the_second_time(recorded: Recorded) -> None:
    replay = recorded.answered(lambda of: of.cmd == "reissue" and of.replayed)
    replay.reply["id"] = recorded.booked().reply["tickets"][0]


def a_reissued_ticket_is_as_it_became_later(recorded: Recorded) -> None:
    recorded.answered(lambda of: of.cmd == "reissue" and of.replayed).reply["state"] = "reissued"


def a_scan_lets_two_in(recorded: Recorded) -> None:
    redeemed = recorded.answered(lambda of: of.cmd == "redeem" and of.changed and "scan" in of.request)
    recorded.later(redeemed.request, redeemed.reply)


def a_scan_is_replayed_that_never_was(recorded: Recorded) -> None:
    replay = recorded.answered(lambda of: of.cmd == "redeem" and of.replayed and of.reply["reply"] == "ticket")
    replay.request = {**replay.request, "scan": "another"}


def a_scan_is_refused_the_second_time(recorded: Recorded) -> None:
    redeemed = recorded.redeemed(lambda of: "scan" in of.request)
    refusal = {"reply": "error", "code": "already_redeemed", "redeemed_at": redeemed.reply["redeemed_at"]}
    recorded.later(redeemed.request, refusal)


def a_whole_booking_leaves_one_out(recorded: Recorded) -> None:
    whole = recorded.answered(
        lambda of: of.cmd == "redeem" and of.changed and len(of.reply.get("redeemed", ())) > 1
    ).reply
    whole["redeemed"].pop()
    whole["redeemed_at"].pop()


def _whole(recorded: Recorded) -> Any:
    return recorded.answered(
        lambda of: of.cmd == "redeem" and of.changed and "scan" in of.request and len(of.reply.get("admitted", ())) > 1
    )


def a_whole_booking_lets_in_a_ticket_of_another(recorded: Recorded) -> None:
    _whole(recorded).reply["admitted"][0] = "another.0123456789ab"


def a_whole_booking_lets_in_others_the_second_time(recorded: Recorded) -> None:
    whole = _whole(recorded)
    recorded.later(whole.request, {**whole.reply, "replayed": True, "admitted": whole.reply["admitted"][:1]})


def an_annulment_is_forgotten(recorded: Recorded) -> None:
    annulled = recorded.changed("annul").reply
    facts = {name: annulled[name] for name in ("reply", "id", "event", "booking")}
    recorded.later({"cmd": "show", "id": annulled["id"]}, {**facts, "state": "valid"})


def an_annulment_is_done_twice(recorded: Recorded) -> None:
    annulled = recorded.changed("annul")
    recorded.later(annulled.request, annulled.reply)


def an_annulment_has_another_reason(recorded: Recorded) -> None:
    annulled = recorded.changed("annul")
    annulled.request = {**annulled.request, "reason": "another"}


def never_redeemed_though_it_was(recorded: Recorded) -> None:
    redeemed = recorded.redeemed()
    request = {"cmd": "annul", "ticket": redeemed.request["ticket"]}
    recorded.later(request, {"reply": "error", "code": "not_redeemed"})


def of_another_event_though_it_is_of_this_one(recorded: Recorded) -> None:
    refused = recorded.redeemed()
    request = {**refused.request, "event": refused.reply["event"]}
    recorded.later(request, {"reply": "error", "code": "wrong_event"})


MUTANTS: list[tuple[Mutant, str]] = [
    (a_redemption_is_forgotten, LOST),
    (a_ticket_is_redeemed_twice, "was done twice|let two in"),
    (a_ticket_is_redeemed_at_two_times, "refusal was not true"),
    (a_ticket_is_redeemed_at_another_time, "redeemed at two times"),
    (a_ticket_is_of_another_booking, "is of no such booking"),
    (cancelled_though_it_was_redeemed, "refusal was not true"),
    (a_cancelled_ticket_is_let_in, "redeemed and cancelled|redeemed at two times"),
    (a_cancelled_ticket_is_shown_as_redeemed, "cannot have been redeemed"),
    (a_redeemed_ticket_is_shown_as_valid, LOST),
    (a_redeemed_ticket_is_valid_in_its_booking, LOST),
    (a_reissued_ticket_is_let_in, "redeemed and reissued|redeemed at two times"),
    (a_reissued_ticket_is_shown_as_valid, LOST),
    (a_ticket_is_reissued_twice, "was done twice"),
    (a_ticket_is_reissued_as_another_the_second_time, "of no such booking|was never replaced by"),
    (a_reissued_ticket_is_as_it_became_later, "was never replaced by"),
    (a_scan_lets_two_in, "let two in"),
    (a_scan_is_replayed_that_never_was, "this scan let nobody in"),
    (a_scan_is_refused_the_second_time, "is refused when it is asked again"),
    (a_whole_booking_leaves_one_out, "not redeemed with all others|nobody can have done it|cannot have been let in"),
    (a_whole_booking_lets_in_a_ticket_of_another, "cannot have been let in|let in others|nobody can have done it"),
    (a_whole_booking_lets_in_others_the_second_time, "let in others"),
    (an_annulment_is_forgotten, LOST),
    (an_annulment_is_done_twice, "was done twice"),
    (an_annulment_has_another_reason, "had another reason"),
    (never_redeemed_though_it_was, LOST),
    (of_another_event_though_it_is_of_this_one, "refusal was not true"),
]
