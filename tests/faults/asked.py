"""What was asked for: whether a change of a booking is just that, and whether a reply tells the past. Pure."""

from tests.faults.history import Change, Life, Operation, Row, milliseconds
from tests.faults.lives import ceiling
from ticketd.model import HOLD_SECONDS_DEFAULT, WAIT_SECONDS_DEFAULT

_SECONDS = {"hold": HOLD_SECONDS_DEFAULT, "wait": WAIT_SECONDS_DEFAULT}


def only_reads(operation: Operation) -> bool:
    """Whether a reply that shows a booking shows it as it was then, and not as it was once."""
    asks = operation.cmd in ("show", "watch", "bookings", "redeem")
    return asks or (operation.cmd == "extend" and operation.replayed)


def asks_for(request: Row, change: Change, life: Life) -> bool:
    """Whether a request asks for the change that was made in the life of a booking."""
    facts = change.facts
    match request["cmd"]:
        case "book" | "hold" | "wait":
            mine = (request["cmd"], request["event"], request["quantity"], request.get("buyer"))
            same = bool(mine == (change.what, facts["event"], facts["quantity"], facts.get("buyer")))
            return same and (life.held is None or _holds_for(request, life.held))
        case "confirm":
            return change.what == "confirm" or (change.what == "late" and bool(request.get("late")))
        case "extend" if change.what == "extend" and change.at is not None:
            return milliseconds(facts["expires"]) == min(change.at + 1_000 * int(request["seconds"]), ceiling(life))
        case "cancel" if "tickets" in request:
            return change.what == "cancel" and {*change.tickets} == {*request["tickets"]}
        case "cancel":
            return change.what == "cancel" and bool(facts["state"] == "cancelled")
        case "release":
            return change.what in ("release", "leave")
        case cmd:
            return bool(cmd == change.what)


def _holds_for(request: Row, held: Change) -> bool:
    seconds = request.get("seconds", _SECONDS.get(request["cmd"], 0))
    return held.at is None or milliseconds(held.facts["expires"]) - held.at == 1_000 * int(seconds)
