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

    It counts right, sells whatever it is asked for, and offers what it is told to offer to those who wait.
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

    def wait(self, quantity: int, buyer: str | None = None, *, seconds: int = 900, at_once: bool = False) -> str:
        """Let a booking join the line, and return its id. If ``at_once``, it gets its tickets by that."""
        # Who comes later has a smaller one.
        id = f"w{99 - len(self.history)}"
        who = {"buyer": buyer} if buyer else {}
        self._move(waiting=1)
        booking = {"id": id, "event": "1", "quantity": quantity, "state": "waiting", "tickets": [], **self._version()}
        booking |= {"booked_at": self.time(0), **who}
        self.bookings[id] = {**booking, "made": {**self._version(), "seconds": seconds}, "changes": []}
        request = {"cmd": "wait", "event": "1", "quantity": quantity, "booking": id, "seconds": seconds, **who}
        if at_once:
            self.offer(id, self.time(0))
            booking = self._told(id)
        else:
            booking["position"] = self.event["waiting"]
        self.say(request, {"reply": "booking", **booking})
        return id

    def offer(self, id: str, at: str | None = None, *, lasts: int | None = None) -> None:
        """Offer tickets to somebody in line, of which nobody hears at once: with the last request, or ``at`` a time."""
        at = at or time_of(self.now)
        quantity, seconds = self.bookings[id]["quantity"], self.bookings[id]["made"]["seconds"]
        expires = time_of(milliseconds(at) + 1_000 * (lasts or seconds))
        self._move(available=-quantity, held=quantity, waiting=-1)
        self._change(id, "offer", at, state="held", expires=expires)

    def leave(self, id: str, at: str | None = None) -> None:
        """Let somebody leave the line who would have too many tickets, of which nobody hears at once."""
        self._move(waiting=-1)
        self._change(id, "leave", at or time_of(self.now), state="released")

    def release(self, id: str) -> None:
        if self.bookings[id]["state"] == "waiting":
            self.leave(id, self.time(0))
        else:
            self._move(available=self.bookings[id]["quantity"], held=-self.bookings[id]["quantity"])
            self._change(id, "release", state="released")
        self.say({"cmd": "release", "booking": id}, {"reply": "booking", **self._told(id)})

    def extend(self, id: str, seconds: int, until: str) -> None:
        self._move()
        self._change(id, "extend", state="held", expires=until)
        self.say({"cmd": "extend", "booking": id, "seconds": seconds}, {"reply": "booking", **self._told(id)})

    def cancel(self, id: str, count: int) -> None:
        """Cancel so many of the tickets of a booking that are left."""
        booking = self.bookings[id]
        gone = booking.get("cancelled", [])
        tickets = booking["tickets"][len(gone) : len(gone) + count]
        self._move(available=count, sold=-count)
        state = "cancelled" if len(gone) + count == booking["quantity"] else "confirmed"
        self._change(id, "cancel", state=state, cancelled=gone + tickets)
        self.bookings[id]["changes"][-1]["tickets"] = tickets
        self.say({"cmd": "cancel", "booking": id, "tickets": tickets}, {"reply": "booking", **self._told(id)})

    def show(self, id: str, position: int | None = None) -> None:
        """Show a booking, at this place in line."""
        place = {} if position is None else {"position": position}
        shown = {name: value for name, value in self.bookings[id].items() if name != "made"}
        self.say({"cmd": "show", "id": id}, {"reply": "booking", **shown, **place})

    def look(self) -> None:
        self.say({"cmd": "list"}, {"reply": "events", "events": [dict(self.event)]})

    def again(self, id: str, changes: int = 0) -> None:
        """Let somebody ask again who has joined the line, and be told of the booking after so many of its changes."""
        first = next(of for of in self.history if of.cmd == "wait" and of.request["booking"] == id)
        booking = {name: value for name, value in self.bookings[id].items() if name not in ("made", "changes")}
        if changes:
            change = self.bookings[id]["changes"][changes - 1]
            told = {name: change[name] for name in ("available", "version", "expires")}
        else:
            told = {name: self.bookings[id]["made"][name] for name in ("available", "version")}
            booking.pop("expires", None)
        state = "held" if changes else "waiting"
        self.say(
            first.request, {"reply": "booking", **booking, **told, "state": state, "tickets": [], "replayed": True}
        )

    def confirm(self, id: str, *, late: bool = False) -> None:
        quantity = self.bookings[id]["quantity"]
        self._move(sold=quantity, **{"available" if late else "held": -quantity})
        self._change(id, "confirm", state="confirmed", tickets=self._tickets(id, quantity))
        request = {"cmd": "confirm", "booking": id, **({"late": True} if late else {})}
        self.say(request, {"reply": "booking", **self._told(id)})

    def expire(self, id: str) -> None:
        """Let a hold run out, just before the next request, of which nobody hears at once."""
        quantity = self.bookings[id]["quantity"]
        self._move(available=quantity, held=-quantity)
        self._change(id, "expire", state="expired")

    def check(self) -> None:
        """Read all, and check the history."""
        self.say({"cmd": "list"}, {"reply": "events", "events": [self.event]})
        line = [id for id, booking in self.bookings.items() if booking["state"] == "waiting"]
        places = {id: {"position": place} for place, id in enumerate(line, 1)}
        page = [{**booking, **places.get(id, {})} for id, booking in sorted(self.bookings.items())]
        self.say({"cmd": "bookings"}, {"reply": "bookings", "bookings": page})
        check(self.history, [EVENT])

    def _move(self, **more: int) -> None:
        self.event["version"] += 1
        for name, count in more.items():
            self.event[name] = self.event.get(name, 0) + count

    def _version(self) -> Row:
        return {name: self.event[name] for name in ("available", "version")}

    def _tickets(self, id: str, quantity: int) -> list[str]:
        return [f"{id}.{number:012x}" for number in range(quantity)]

    def _told(self, id: str) -> Row:
        return {name: value for name, value in self.bookings[id].items() if name not in ("made", "changes")}

    def _change(self, id: str, what: str, at: str | None = None, **more: Any) -> None:
        booking = {name: value for name, value in self.bookings[id].items() if name != "expires"}
        expires = {name: value for name, value in more.items() if name == "expires"}
        change = {"what": what, "at": at or self.time(0), **self._version(), **expires}
        self.bookings[id] = {**booking, **self._version(), **more, "changes": [*booking["changes"], change]}


def _held(booking: Row, more: Row) -> Row:
    return {**more, "expires": booking["expires"]} if "expires" in booking else {}


def sold_out(sale: Sale) -> tuple[str, str]:
    """Sell all tickets but two, which are held."""
    return sale.buy("book", 8, "ben"), sale.buy("hold", 2, None, seconds=60)


def line(sale: Sale) -> tuple[str, str, str, str]:
    """Return what was sold, and those who wait for four, two and one, in this order."""
    sold, _ = sold_out(sale)
    return sold, sale.wait(4), sale.wait(2, "anna"), sale.wait(1, "anna")
