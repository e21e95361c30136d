"""Breaks and freezes the connections between a daemon and PostgreSQL at any byte and message, COMMIT included.

Another daemon on the same ledger is not disturbed. What both of them answered is one history, and it is proved right.
"""

import random
from collections import Counter
from pathlib import Path

from tests.daemon import write_events
from tests.faults.crowd import Crowd
from tests.faults.fleet import Fleet
from tests.faults.many import prove
from tests.faults.proxy import Proxy, faults
from tests.faults.workload import CAPACITIES
from tests.postgres import Postgres

FAULTS_PER_SIZE = 200
FAULTS_PER_LEDGER = 250
ANSWERS_PER_LOOK = 20


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Break connections ``size`` times FAULTS_PER_SIZE."""
    figures: Counter[str] = Counter()
    with Postgres() as postgres:
        for _ in range(0, size * FAULTS_PER_SIZE, FAULTS_PER_LEDGER):
            figures += break_connections(chance, FAULTS_PER_LEDGER, folder, postgres.new_database())
    return dict(figures)


def break_connections(chance: random.Random, times: int, folder: Path, url: str) -> Counter[str]:
    """Let a crowd do all that clients can do, while connections to the database break so many times."""
    write_events(folder, *CAPACITIES)
    with Proxy(url) as proxy, Fleet(folder, url, 1) as fleet:
        fleet.start(url=proxy.url)
        crowd = Crowd(chance, fleet.events())

        async def be_broken() -> None:
            proxy.inject(faults(random.Random(chance.random())))
            while proxy.struck.qsize() < times:
                await crowd.hear(ANSWERS_PER_LOOK)
            proxy.inject(())

        crowd.meet(fleet.ports, be_broken)
        figures = prove(crowd, fleet)
        struck = [proxy.struck.get() for _ in range(proxy.struck.qsize())]
    figures.update(fault.how for fault in struck)
    return figures + Counter({"faults": len(struck), "at COMMIT": sum(fault.what == "commit" for fault in struck)})
