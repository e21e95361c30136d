"""Ends the connections of daemons in PostgreSQL, and PostgreSQL itself, at any moment; it starts again at once.

Requests wait for it. What all daemons answered is one history, and it is proved right.
"""

import asyncio
import random
from collections import Counter
from pathlib import Path

from tests.daemon import write_events
from tests.faults.crowd import Crowd
from tests.faults.fleet import Fleet
from tests.faults.history import Operation
from tests.faults.many import prove
from tests.faults.workload import CAPACITIES
from tests.postgres import Postgres

DAEMONS = 2
ENDS_PER_SIZE = 20
# Between two of them.
ANSWERS = (50, 500)
# However slow the machine is, PostgreSQL is back before nobody waits for it any more.
PATIENCE = ("--queue-seconds-max", "60")


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """End something ``size`` times ENDS_PER_SIZE."""
    figures: Counter[str] = Counter()
    with Postgres() as postgres:
        for _ in range(size):
            figures += end_again_and_again(chance, ENDS_PER_SIZE, folder, postgres)
    return dict(figures)


def end_again_and_again(chance: random.Random, times: int, folder: Path, postgres: Postgres) -> Counter[str]:
    """Let a crowd do all that clients can do, while so many times something ends in PostgreSQL."""
    write_events(folder, *CAPACITIES)
    database = postgres.new_database()
    ended: Counter[str] = Counter()
    with Fleet(folder, database) as fleet:
        for _ in range(DAEMONS):
            fleet.start(*PATIENCE)
        crowd = Crowd(chance, fleet.events())

        async def end() -> None:
            for _ in range(times):
                await crowd.hear(chance.randint(*ANSWERS))
                if chance.random() < 0.5:
                    ended["connections ended"] += await asyncio.to_thread(postgres.terminate_backends, database)
                else:
                    ended["restarts"] += 1
                    await asyncio.to_thread(postgres.stop, "immediate")
                    await asyncio.to_thread(postgres.start)

        crowd.meet(fleet.ports, end)
        return prove(crowd, fleet) + ended + Counter({"refused by outage": sum(map(_refused_by_outage, crowd.history))})


def _refused_by_outage(operation: Operation) -> bool:
    """Whether a request got ``busy`` because PostgreSQL was away, not because tickets go to a waiting list first."""
    return operation.code == "busy" and "waiting list" not in str(operation.reply)
