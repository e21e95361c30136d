"""A sold-out event: many wait for it in line while its bookings are cancelled, and the daemon is killed (kill -9).

Those who are offered tickets confirm them, give them back, or let them run out, and others try to book what is free. A
checker proves from the replies alone that each ticket went to the first in line whom it was enough for: no crash loses
a place, or offers anything twice.
"""

import random
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.daemon import Daemon, running, write_events
from tests.faults.checker import check
from tests.faults.client import Client
from tests.faults.crowd import Crowd
from tests.faults.fleet import Fleet
from tests.faults.history import NOT_DONE, Operation, Row, bookings_in
from tests.faults.imbalances import check_ledger
from tests.faults.many import replace
from tests.faults.talk import Connection
from tests.postgres import Postgres

WAITING_PER_SIZE = 1_000
# A transaction of PostgreSQL with a sync for a few clients takes as long as a commit of a file for many.
WAITING_PER_SIZE_SHARED = 100
# For so many who wait, one booking is cancelled.
WAITING_PER_BOOKING = 20
TICKETS_PER_BOOKING = 6
CLIENTS = 20
DAEMONS = 2
# While they join, and while bookings are cancelled.
KILLS_PER_SIZE = 2
AT_ONCE_MAX = 10
LOOKS_AT_ONCE = 4
# A booking is read once a second for those who watch it.
WATCH_SECONDS_MAX = 1.5
# Most offers last, so that the line comes to rest.
SHORT_SECONDS = 2
SECONDS = (1, SHORT_SECONDS, 900, 900, 900, 900, 900)


class Party(Client):
    """Somebody who does what is ``unsettled``, some of it at once, and sees what has become of those in line."""

    def __init__(self, crowd: Crowd, name: str, line: Sequence[str]) -> None:
        super().__init__(crowd, name)
        self._line = line
        self._answered: set[str] = set()

    def _has_more(self) -> bool:
        return bool(self.unsettled)

    async def _converse(self, connection: Connection) -> None:
        while not connection.broken and self.unsettled:
            if self._chance.random() < 0.02:
                booking = self._chance.choice(self._line) if self._line else None
                await connection.watch(self._chance.randint(1, 2), booking, WATCH_SECONDS_MAX)
                continue
            requests = [*self.unsettled[: self._chance.randint(1, AT_ONCE_MAX)], *self._looks()]
            breaks = self._chance.random() < 0.02
            for operation in await (connection.ask_and_break(requests) if breaks else connection.ask(requests)):
                if operation.cmd == "show":
                    self._answer(operation)
                elif not operation.unknown and operation.code not in NOT_DONE:
                    self.unsettled.remove(operation.request)

    def _looks(self) -> list[Row]:
        looks: list[Row] = [
            {"cmd": "show", "id": id} for id in self._chance.sample(self._line, min(len(self._line), LOOKS_AT_ONCE))
        ]
        return [*looks, {"cmd": "show", "id": "1"}]

    def _answer(self, operation: Operation) -> None:
        """Confirm what somebody in line was offered, or give it back, or let it run out."""
        for facts in bookings_in(operation):
            if facts["state"] == "held" and facts["id"] not in self._answered:
                self._answered.add(facts["id"])
                cmd = self._chance.choice(["confirm", "confirm", "release", "extend", None])
                if cmd:
                    more = {"seconds": 2} if cmd == "extend" else {}
                    self.unsettled.append({"cmd": cmd, "booking": facts["id"], **more})


class Story:
    """What happens: so many wait, and one of WAITING_PER_BOOKING bookings is cancelled, whole or ticket by ticket."""

    def __init__(self, chance: random.Random, events: Sequence[Row], waiting: int) -> None:
        self._chance = chance
        self.crowd = Crowd(chance, events)
        self._sold = [f"b{number}" for number in range(waiting // WAITING_PER_BOOKING)]
        # Their ids tell nothing of the order in which they come.
        self._line = chance.sample([f"w{number}" for number in range(waiting)], waiting)

    def sell_out(self) -> None:
        self._let([{"cmd": "book", "event": "1", "quantity": TICKETS_PER_BOOKING, "booking": id} for id in self._sold])

    def join(self) -> None:
        self._let([self._wait(id) for id in self._line])

    def _wait(self, id: str) -> Row:
        # The same each time it is asked.
        chance = random.Random(id)
        quantity, seconds = chance.randint(1, 8), chance.choice(SECONDS)
        return {"cmd": "wait", "event": "1", "quantity": quantity, "booking": id, "seconds": seconds}

    def cancel(self) -> None:
        """Cancel all that is sold. Some in line lose patience, or ask again, and others want what becomes available.

        Meanwhile the sale pauses, and in the end there are more tickets than one commit offers, if many wait.
        """
        tickets = {
            facts["id"]: facts["tickets"]
            for operation in self.crowd.history
            if operation.cmd == "book"
            for facts in bookings_in(operation)
        }
        requests: list[Row] = []
        for id in self._sold:
            cancel = {"cmd": "cancel", "booking": id}
            parts = [{**cancel, "tickets": [ticket]} for ticket in tickets[id]]
            requests += self._chance.choice([[cancel], parts, [*parts[:2], {**cancel, "tickets": tickets[id][2:]}]])
        some = len(self._line) // 20
        requests += [{"cmd": "release", "booking": id} for id in self._chance.sample(self._line, some)]
        requests += [self._wait(id) for id in self._chance.sample(self._line[: some * 4], some)]
        book = {"cmd": "book", "event": "1", "quantity": 1}
        requests += [{**book, "booking": f"rival{number}"} for number in range(some)]
        self._let(self._chance.sample(requests, len(requests)))
        # Nobody else amends the event, so that the checker can tell its amendments apart.
        amends: list[Row] = [{"paused": True}, {"paused": False}] * 3
        more = {"capacity": len(self._sold) * TICKETS_PER_BOOKING + len(self._line) * 3 // 2}
        for place, terms in enumerate([*amends, more]):
            self.crowd.clients[0].unsettled.insert(3 * place, {"cmd": "amend", "event": "1", **terms})

    def _let(self, requests: Sequence[Row]) -> None:
        line = self._line if any(request["cmd"] == "cancel" for request in requests) else []
        self.crowd.clients = [Party(self.crowd, f"p{number}", line) for number in range(CLIENTS)]
        for number, request in enumerate(requests):
            self.crowd.clients[number % CLIENTS].unsettled.append(request)

    async def hear(self) -> None:
        """Wait until some of it is done."""
        left = sum(len(client.unsettled) for client in self.crowd.clients)
        if left:
            await self.crowd.hear(self._chance.randint(1, left // 2 + 1))

    def prove(self, daemons: dict[int, float] | None = None) -> Counter[str]:
        """Prove that all replies are right, and return what it came to."""
        history = self.crowd.history
        check(history, self.crowd.events, daemons)
        last = {facts["id"]: facts for operation in history for facts in bookings_in(operation) if "made" in facts}
        changes = Counter(change["what"] for id in self._line for change in last[id].get("changes", ()))
        told = [facts["position"] for operation in history for facts in bookings_in(operation) if facts.get("position")]
        return Counter(
            {
                "waited": len(self._line),
                "longest line": max(told),
                "offered": changes["offer"],
                "offers that ran out": changes["expire"],
                "left the line": changes["leave"],
                "still in line": sum(last[id]["state"] == "waiting" for id in self._line),
                "cancels": sum(operation.cmd == "cancel" and operation.changed for operation in history),
                "places shown": len(told),
                "operations": len(history),
            }
        )


def wait_for_a_file(chance: random.Random, waiting: int, kills: int, folder: Path) -> Counter[str]:
    """Let so many wait for an event in a file, whose daemon is killed so often while they join, and again later."""
    write_events(folder, waiting // WAITING_PER_BOOKING * TICKETS_PER_BOOKING)
    with running(folder) as daemon, daemon.connect() as connection:
        story = Story(chance, connection.ask("list")["events"], waiting)
    for phase, kills_now in ((story.sell_out, 0), (story.join, kills), (story.cancel, kills)):
        phase()
        for _ in range(kills_now):
            with running(folder) as daemon:
                story.crowd.meet([daemon.port], partial(_hear_and_kill, story, daemon))
            check_ledger(folder)
        with running(folder) as daemon:
            story.crowd.meet([daemon.port], nothing)
    # No answer tells that an offer has run out, and on a fast machine it would be over before.
    time.sleep(SHORT_SECONDS)
    with running(folder) as daemon:
        story.crowd.settle([daemon.port])
        assert daemon.end() == 0
    check_ledger(folder)
    return story.prove() + Counter({"kills": 2 * kills})


async def nothing() -> None: ...


async def _hear_and_kill(story: Story, daemon: Daemon) -> None:
    await story.hear()
    daemon.process.kill()


def wait_for_a_database(chance: random.Random, waiting: int, kills: int, folder: Path, url: str) -> Counter[str]:
    """Let so many wait for an event of daemons that share a PostgreSQL, one of which is killed so often, and again."""
    write_events(folder, waiting // WAITING_PER_BOOKING * TICKETS_PER_BOOKING)
    with Fleet(folder, url, DAEMONS) as fleet:
        story = Story(chance, fleet.events(), waiting)

        async def kill_anyone() -> None:
            for _ in range(kills):
                await story.hear()
                await replace(story.crowd, fleet, chance.choice(fleet.living))

        story.sell_out()
        story.crowd.meet(fleet.ports, nothing)
        for phase in (story.join, story.cancel):
            phase()
            story.crowd.meet(fleet.ports, kill_anyone)
        story.crowd.settle(fleet.ports)
        fleet.see_no_bug()
        figures = story.prove(fleet.began) + Counter({"kills": 2 * kills})
        fleet.end()
    return Counter({f"shared: {name}": figure for name, figure in figures.items()})


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Let a thousand wait for an event in a file, and a hundred for one in PostgreSQL, for each of ``size``."""
    kills = KILLS_PER_SIZE * size
    figures = wait_for_a_file(chance, WAITING_PER_SIZE * size, kills, folder)
    with Postgres() as postgres:
        url = postgres.new_database()
        return {**figures, **wait_for_a_database(chance, WAITING_PER_SIZE_SHARED * size, kills, folder, url)}
