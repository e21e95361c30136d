"""Daemons that share a ledger and are killed again and again: in a sale to a great crowd, and in one that does all.

What all of them answered is one history, and it is proved right.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.daemon import Daemon, write_events
from tests.faults.checker import check
from tests.faults.client import Client
from tests.faults.crowd import Crowd, figures_of
from tests.faults.fleet import Fleet
from tests.faults.history import NOT_DONE
from tests.faults.order import Change
from tests.faults.talk import Connection
from tests.faults.workload import CAPACITIES
from tests.postgres import Postgres

DAEMONS = 3
BUYERS = 300
TICKETS = 5_000
WANTED = 20_000
KILLS = 5
ANSWERS_PER_LIFE = (300, 1_000)


class Buyer(Client):
    """Somebody who buys what is ``unsettled``, one after the other, and looks at the event after each."""

    def _has_more(self) -> bool:
        return bool(self.unsettled)

    async def _converse(self, connection: Connection) -> None:
        while not connection.broken and self._has_more():
            operation, _ = await connection.ask([self.unsettled[-1], {"cmd": "show", "id": "1"}])
            if not operation.unknown and operation.code not in NOT_DONE:
                self.unsettled.pop()


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Do both, ``size`` times."""
    figures: Counter[str] = Counter()
    with Postgres() as postgres:
        for _ in range(size):
            for attack in (sell_out, do_all):
                figures += attack(chance, folder, postgres.new_database())
    return dict(figures)


def sell_out(chance: random.Random, folder: Path, url: str) -> Counter[str]:
    """Sell TICKETS to BUYERS who want WANTED of them, while one daemon is killed and started again all the time."""
    write_events(folder, TICKETS)
    with Fleet(folder, url, DAEMONS) as fleet:
        crowd = Crowd(chance, fleet.events())
        crowd.clients = [Buyer(crowd, f"b{number}") for number in range(BUYERS)]
        for number in range(WANTED):
            request = {"cmd": "book", "event": "1", "quantity": 1, "booking": f"b{number}"}
            crowd.clients[number % BUYERS].unsettled.append(request)

        async def kill_the_last() -> None:
            while any(buyer.unsettled for buyer in crowd.clients):
                await replace(crowd, fleet, fleet.living[-1])

        crowd.meet(fleet.ports, kill_the_last)
        return prove(crowd, fleet)


def do_all(chance: random.Random, folder: Path, url: str) -> Counter[str]:
    """Let a crowd do all that clients can do, while one daemon or another is killed and started again."""
    write_events(folder, *CAPACITIES)
    with Fleet(folder, url, DAEMONS) as fleet:
        crowd = Crowd(chance, fleet.events())

        async def kill_anyone() -> None:
            for _ in range(KILLS):
                await crowd.hear(chance.randint(*ANSWERS_PER_LIFE))
                await replace(crowd, fleet, chance.choice(fleet.living))
            await crowd.hear(chance.randint(*ANSWERS_PER_LIFE))

        crowd.meet(fleet.ports, kill_anyone)
        return prove(crowd, fleet)


async def replace(crowd: Crowd, fleet: Fleet, daemon: Daemon) -> None:
    """Kill a daemon, and start another one in its place."""
    await asyncio.to_thread(fleet.kill, daemon)
    crowd.ports.append((await asyncio.to_thread(fleet.start)).port)


def prove(crowd: Crowd, fleet: Fleet, changes: Sequence[Change] = ()) -> Counter[str]:
    """Prove that all replies are right, and return what it came to. ``changes`` are those of the primary."""
    crowd.settle(fleet.ports)
    fleet.see_no_bug()
    check(crowd.history, crowd.events, fleet.began, changes)
    sold = sum(event["sold"] for event in fleet.events())
    fleet.end()
    return figures_of(crowd.history) + Counter({"daemons": len(fleet.began), "sold": sold})
