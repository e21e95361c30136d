"""What was asked for: whether a change of a booking is just that, and whether a reply tells the past. Pure."""

from tests.faults.history import Change, Operation, Row, milliseconds
from tests.faults.lives import HOLD_MS_TOTAL_MAX
from ticketd.model import HOLD_SECONDS_DEFAULT


def only_reads(operation: Operation) -> bool:
    """Whether a reply that shows a booking shows it as it was then, and not as it was once."""
    return operation.cmd in ("show", "bookings", "redeem") or (operation.cmd == "extend" and operation.replayed)


def ceiling(facts: Row) -> int:
    """Return until when a booking may be held, however often it is extended, in milliseconds since 1970."""
    return milliseconds(facts["booked_at"]) + HOLD_MS_TOTAL_MAX


def asks_for(request: Row, change: Change) -> bool:
    """Whether a request asks for the change that was made."""
    facts = change.facts
    match request["cmd"]:
        case "book" | "hold":
            mine = (request["cmd"], request["event"], request["quantity"], request.get("buyer"))
            same = bool(mine == (change.what, facts["event"], facts["quantity"], facts.get("buyer")))
            return same and bool("expires" not in facts or _holds_for(request, facts))
        case "confirm":
            return change.what == "confirm" or (change.what == "late" and bool(request.get("late")))
        case "extend" if change.what == "extend" and change.at is not None:
            return milliseconds(facts["expires"]) == min(change.at + 1_000 * int(request["seconds"]), ceiling(facts))
        case "cancel" if "tickets" in request:
            return change.what == "cancel" and {*change.tickets} == {*request["tickets"]}
        case "cancel":
            return change.what == "cancel" and bool(facts["state"] == "cancelled")
        case cmd:
            return bool(cmd == change.what)


def _holds_for(request: Row, facts: Row) -> bool:
    seconds = request.get("seconds", HOLD_SECONDS_DEFAULT)
    return milliseconds(facts["expires"]) - milliseconds(facts["booked_at"]) == 1_000 * int(seconds)
