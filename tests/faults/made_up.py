"""A history that is made up: what a daemon would tell that counts right, and knows no other rule."""

from typing import Any

from tests.faults.checker import check
from tests.faults.history import Operation, Row, milliseconds
from tests.faults.recorded import time_of

BEGAN = milliseconds("2027-03-11T19:00:00Z")
EVENT = {"id": "1", "name": "Event 1", "date": "2027-03-11T20:00:00Z", "capacity": 10, "version": 0}
EVENT = {**EVENT, "available": 10, "held": 0, "sold": 0}


class Sale:
    """What a daemon tells one client, who asks for one thing after the other, a second for each.

    It counts right, and sells whatever it is asked for.
    """

    def __init__(self) -> None:
        self.history: list[Operation] = []
        self.event: Row = dict(EVENT)
        self.bookings: dict[str, Row] = {}
        self.now = BEGAN

    def say(self, request: Row, reply: Row) -> None:
        """Let the client ask, and the daemon reply."""
        turn = len(self.history)
        self.now += 1_000
        times = {"since": self.now - 500, "until": self.now + 499}
        self.history.append(Operation("anybody", 0, 0, request, turn, turn + 0.9, reply, **times))

    def time(self, seconds: float) -> str:
        """Return the time so many seconds after the next request."""
        return time_of(self.now + 1_000 + 1_000 * seconds)

    def refuse(self, request: Row, code: str, **more: object) -> None:
        """Refuse a request, with the version of the event."""
        now = {name: self.event[name] for name in ("available", "version")}
        self.say(request, {"reply": "error", "code": code, **now, **more})

    def amend(self, **terms: Any) -> None:
        self.event = {**self.event, "version": self.event["version"] + 1, **terms}
        self.event = {name: value for name, value in self.event.items() if value is not None and value is not False}
        self.say({"cmd": "amend", "event": "1", **terms}, {"reply": "event", **self.event})

    def buy(self, cmd: str, quantity: int, buyer: str | None, **more: Any) -> str:
        """Book or hold tickets, and return the id of the booking."""
        id = f"b{len(self.history):02}"
        who = {"buyer": buyer} if buyer else {}
        self._move(**{"available": -quantity, "sold" if cmd == "book" else "held": quantity})
        booking = {"id": id, "event": "1", "quantity": quantity, **self._version(), "booked_at": self.time(0), **who}
        if cmd == "book":
            booking |= {"state": "confirmed", "tickets": self._tickets(id, quantity)}
        else:
            booking |= {"state": "held", "tickets": [], "expires": self.time(more["seconds"])}
        self.bookings[id] = {**booking, "made": {**self._version(), **_held(booking, more)}, "changes": []}
        request = {"cmd": cmd, "event": "1", "quantity": quantity, "booking": id, **who, **more}
        self.say(request, {"reply": "booking", **booking})
        return id

    def confirm(self, id: str, *, late: bool = False) -> None:
        quantity = self.bookings[id]["quantity"]
        self._move(sold=quantity, **{"available" if late else "held": -quantity})
        self._change(id, "confirm", state="confirmed", tickets=self._tickets(id, quantity))
        told = {name: value for name, value in self.bookings[id].items() if name not in ("made", "changes")}
        self.say({"cmd": "confirm", "booking": id, **({"late": True} if late else {})}, {"reply": "booking", **told})

    def expire(self, id: str) -> None:
        """Let a hold run out, of which nobody hears at once."""
        quantity = self.bookings[id]["quantity"]
        self._move(available=quantity, held=-quantity)
        self._change(id, "expire", state="expired")

    def check(self) -> None:
        """Read all, and check the history."""
        self.say({"cmd": "list"}, {"reply": "events", "events": [self.event]})
        self.say({"cmd": "bookings"}, {"reply": "bookings", "bookings": list(self.bookings.values())})
        check(self.history, [EVENT])

    def _move(self, **more: int) -> None:
        self.event["version"] += 1
        for name, count in more.items():
            self.event[name] += count

    def _version(self) -> Row:
        return {name: self.event[name] for name in ("available", "version")}

    def _tickets(self, id: str, quantity: int) -> list[str]:
        return [f"{id}.{number:012x}" for number in range(quantity)]

    def _change(self, id: str, what: str, **more: Any) -> None:
        booking = self.bookings[id]
        change = {"what": what, "at": self.time(0), **self._version()}
        self.bookings[id] = {**booking, **self._version(), **more, "changes": [*booking["changes"], change]}
        self.bookings[id].pop("expires", None)


def _held(booking: Row, more: Row) -> Row:
    return {**more, "expires": booking["expires"]} if "expires" in booking else {}
