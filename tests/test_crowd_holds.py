"""The whole life of bookings in a crowd, with kill -9 in between: the books balance, the replies tell their story."""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop

from tests.crowds import CROWD_SECONDS_MAX, copied_ledger
from tests.daemon import running, write_events

BUYERS = 100
KILLS = 9
CAPACITIES = {"1": 1_500, "2": 400}


class Buyer:
    """One connection at a time, one request after the other. It remembers all it has asked and was answered."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self._name = name
        self._chance = chance
        self._bookings: list[str] = []
        self._tickets: dict[str, list[str]] = {}
        self.unanswered: dict[str, Any] | None = None
        self.heard: list[tuple[dict[str, Any], dict[str, Any]]] = []

    async def live(self, port: int, over: Callable[[], bool]) -> None:
        """Ask for this and that until it is over or the daemon dies. What was not answered then is asked first."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(writer):
                while self.unanswered or not over():
                    self.unanswered = request = self.unanswered or self._wish()
                    writer.write(msgspec.json.encode(request) + b"\n")
                    line = await reader.readline()
                    if not line.endswith(b"\n"):
                        break
                    self.unanswered = None
                    self._hear(request, msgspec.json.decode(line))
        except OSError:
            pass

    def _hear(self, request: dict[str, Any], reply: dict[str, Any]) -> None:
        self.heard.append((request, reply))
        if reply["reply"] == "booking" and reply["id"] not in self._bookings:
            self._bookings.append(reply["id"])
        if reply.get("tickets"):
            self._tickets[reply["id"]] = reply["tickets"]

    def _wish(self) -> dict[str, Any]:
        choose = self._chance.choice
        cmd = choose(["hold", "hold", "hold", "confirm", "confirm", "release", "cancel", "redeem", "again"])
        if cmd == "again" and self.heard:
            return choose(self.heard)[0]
        if cmd == "redeem" and self._tickets:
            return {"cmd": "redeem", "ticket": choose(self._tickets[choose(list(self._tickets))])}
        if cmd in ("confirm", "release", "cancel") and self._bookings:
            booking = choose(self._bookings[-6:])
            tickets = self._tickets.get(booking, [])
            if cmd == "cancel" and tickets and choose([True, False]):
                some = self._chance.sample(tickets, self._chance.randint(1, len(tickets)))
                return {"cmd": "cancel", "booking": booking, "tickets": some}
            return {"cmd": cmd, "booking": booking}
        return {
            "cmd": "hold",
            "event": choose("12"),
            "quantity": self._chance.randint(1, 4),
            "seconds": choose([1, 1, 300]),
            "booking": f"{self._name}-{len(self.heard)}",
        }


class Step(NamedTuple):
    """One change of an event: what it was, how many tickets are available after it, how many more, whose they are."""

    what: str
    available: int
    moved: int
    bookings: list[str]


class Ledger:
    """What the database says, having seen that it balances."""

    def __init__(self, path: Path) -> None:
        with sqlite3.connect(path) as database:
            database.row_factory = sqlite3.Row
            self.events, self.bookings, self.tickets = (
                {row["id"]: dict(row) for row in database.execute(f"SELECT * FROM {table}")}
                for table in ("events", "bookings", "tickets")
            )
            assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        database.close()
        for booking in self.bookings.values():
            booking["tickets"] = booking["tickets"].split()
            booking["changes"] = msgspec.json.decode(booking["changes"] or "[]")
        self._check_tickets()
        self._check_counts()
        self.story = {event: self._story_of(event) for event in self.events}

    def changes(self, booking: str, what: str) -> list[list[Any]]:
        return [change for change in self.bookings[booking]["changes"] if change[0] == what]

    def cancelled(self, booking: str) -> list[str]:
        return [ticket for change in self.changes(booking, "cancel") for ticket in change[3]]

    def _check_tickets(self) -> None:
        of_bookings = [ticket for booking in self.bookings.values() for ticket in booking["tickets"]]
        assert sorted(of_bookings) == sorted(self.tickets)
        for booking in self.bookings.values():
            cancelled = self.cancelled(booking["id"])
            assert len(cancelled) == len(set(cancelled))
            assert len(booking["tickets"]) == (booking["quantity"] if self.changes(booking["id"], "confirm") else 0)
            for ticket in map(self.tickets.__getitem__, booking["tickets"]):
                assert (ticket["booking"], ticket["event"]) == (booking["id"], booking["event"])
                assert (ticket["state"] == "cancelled") == (ticket["id"] in cancelled)
                assert (ticket["state"] == "redeemed") == (ticket["redeemed_at"] is not None)
                assert ticket["state"] in ("valid", "redeemed", "cancelled")

    def _check_counts(self) -> None:
        for event in self.events.values():
            mine = [booking for booking in self.bookings.values() if booking["event"] == event["id"]]
            tickets = Counter(ticket["state"] for ticket in self.tickets.values() if ticket["event"] == event["id"])
            assert event["sold"] + event["held"] + event["available"] == event["capacity"] == CAPACITIES[event["id"]]
            assert event["sold"] == tickets["valid"] + tickets["redeemed"]
            assert event["held"] == sum(booking["quantity"] for booking in mine if booking["state"] == "held")

    def _story_of(self, event: str) -> dict[int, Step]:
        """Return the changes of an event by version, having seen that each follows from the one before."""
        steps: dict[int, Step] = {}
        for booking in self.bookings.values():
            if booking["event"] != event:
                continue
            state = "held"
            first = ["hold", booking["available"], booking["version"], []]
            for what, available, version, tickets in [first, *booking["changes"]]:
                quantity: int = booking["quantity"]
                moved: int = {"hold": -quantity, "confirm": 0, "cancel": len(tickets)}.get(what, quantity)
                if version in steps:
                    # Only what runs out together is one change.
                    assert (what, available) == ("expire", steps[version].available)
                    assert steps[version].what == "expire"
                    moved += steps[version].moved
                before = steps[version].bookings if version in steps else []
                steps[version] = Step(what, available, moved, [*before, booking["id"]])
                state = {"confirm": "confirmed", "release": "released", "expire": "expired"}.get(what, state)
            if booking["tickets"] and len(self.cancelled(booking["id"])) == booking["quantity"]:
                state = "cancelled"
            assert booking["state"] == state
        available = CAPACITIES[event]
        assert sorted(steps) == list(range(1, self.events[event]["version"] + 1))
        for version in sorted(steps):
            available += steps[version].moved
            assert steps[version].available == available >= 0
        assert self.events[event]["available"] == available
        return steps


def check_replies(ledger: Ledger, buyers: Sequence[Buyer]) -> None:
    """See that what was answered is true in the ledger, and that the answers in order of version tell the same."""
    first: dict[tuple[str, int], dict[str, Any]] = {}
    done: set[tuple[str, int]] = set()
    for request, reply in (heard for buyer in buyers for heard in buyer.heard):
        match reply["reply"]:
            case "booking":
                change = (reply["event"], reply["version"])
                result = {name: value for name, value in reply.items() if name != "replayed"}
                # One change per version, and whoever asks again is told the same.
                assert first.setdefault(change, result) == result
                if "replayed" not in reply:
                    assert change not in done
                    done.add(change)
                check_booking(ledger, request, reply)
            case "ticket":
                ticket = ledger.tickets[request["ticket"]]
                assert (reply["id"], reply["state"], ticket["state"]) == (ticket["id"], "redeemed", "redeemed")
                assert milliseconds(reply["redeemed_at"]) == ticket["redeemed_at"]
            case _:
                check_refusal(ledger, request, reply)
    unanswered = [(buyer.unanswered["cmd"], buyer.unanswered.get("booking")) for buyer in buyers if buyer.unanswered]
    for event, steps in ledger.story.items():
        for version, step in steps.items():
            assert (event, version) in first or step.what == "expire" or (step.what, step.bookings[0]) in unanswered


def check_booking(ledger: Ledger, request: dict[str, Any], reply: dict[str, Any]) -> None:
    booking = ledger.bookings[request["booking"]]
    step = ledger.story[booking["event"]][reply["version"]]
    assert (step.what, step.available, step.bookings) == (request["cmd"], reply["available"], [reply["id"]])
    assert (reply["id"], reply["event"], reply["quantity"]) == (booking["id"], booking["event"], booking["quantity"])
    match request["cmd"]:
        case "hold":
            assert (reply["state"], reply["tickets"]) == ("held", [])
            assert milliseconds(reply["expires"]) == booking["expires"]
        case "confirm":
            assert (reply["state"], reply["tickets"]) == ("confirmed", booking["tickets"])
        case "release":
            assert (reply["state"], booking["state"]) == ("released", "released")
        case "cancel":
            assert reply["tickets"] == booking["tickets"]
            assert {*request.get("tickets", [])} <= {*reply["cancelled"]} <= {*ledger.cancelled(booking["id"])}
            assert reply["state"] == ("cancelled" if reply["cancelled"] == reply["tickets"] else "confirmed")


def check_refusal(ledger: Ledger, request: dict[str, Any], refusal: dict[str, Any]) -> None:
    booking = ledger.bookings.get(request.get("booking", ""), {})
    named = [request["ticket"]] if "ticket" in request else request.get("tickets")
    tickets = [ledger.tickets[ticket] for ticket in named or booking.get("tickets", [])]
    match refusal["code"]:
        case "sold_out":
            steps = ledger.story[request["event"]]
            assert refusal["available"] == steps[refusal["version"]].available < request["quantity"]
        case "hold_expired":
            assert booking["state"] == "expired"
        case "already_confirmed":
            assert ledger.changes(booking["id"], "confirm")
        case "already_released":
            assert booking["state"] == "released"
        case "already_cancelled":
            assert any(ticket["state"] == "cancelled" for ticket in tickets)
        case "already_redeemed":
            assert milliseconds(refusal["redeemed_at"]) in [ticket["redeemed_at"] for ticket in tickets]
        case "bad_request":
            assert (request["cmd"], "is only held" in refusal["message"]) == ("cancel", True)
        case unexpected:
            raise AssertionError(unexpected)


def milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1_000)


async def crowd(port: int, buyers: Sequence[Buyer], enough: int, then: Callable[[], None]) -> None:
    """Let everybody live until there are enough answers; do ``then`` in the middle of it."""
    before = sum(len(buyer.heard) for buyer in buyers)

    def over() -> bool:
        if sum(len(buyer.heard) for buyer in buyers) < before + enough:
            return False
        then()
        return True

    async with asyncio.timeout(CROWD_SECONDS_MAX):
        await asyncio.gather(*(buyer.live(port, over) for buyer in buyers))


def test_kill_9_in_a_crowd_that_holds_confirms_releases_cancels_and_redeems_leaves_books_that_balance(
    tmp_path: Path,
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    write_events(tmp_path, *CAPACITIES.values())
    buyers = [Buyer(f"b{number}", chance) for number in range(BUYERS)]
    for _ in range(KILLS):
        with running(tmp_path) as daemon:
            uvloop.run(crowd(daemon.port, buyers, chance.randint(300, 2_000), daemon.process.kill))
        check_replies(Ledger(copied_ledger(tmp_path)), buyers)
    with running(tmp_path) as daemon:
        uvloop.run(crowd(daemon.port, buyers, 1_000, lambda: None))
        assert daemon.end() == 0
    ledger = Ledger(copied_ledger(tmp_path))
    check_replies(ledger, buyers)
    assert not [buyer for buyer in buyers if buyer.unanswered]
    # It was not too quiet a crowd: everything happened.
    codes = {reply.get("code") for buyer in buyers for _, reply in buyer.heard}
    assert {"sold_out", "hold_expired", "already_confirmed", "already_redeemed"} <= codes
    assert {booking["state"] for booking in ledger.bookings.values()} == {
        "held",
        "confirmed",
        "released",
        "expired",
        "cancelled",
    }
    assert {ticket["state"] for ticket in ledger.tickets.values()} == {"valid", "redeemed", "cancelled"}
