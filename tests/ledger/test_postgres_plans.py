"""PostgreSQL finds rows by an index, however its statistics are when it makes the plan that it keeps."""

import re
from collections.abc import Iterator
from itertools import chain

from ticketd.ledger.postgres import ledger, load, sale, save
from ticketd.ledger.postgres.pool import Pool

GROW = """
INSERT INTO events (id, name, date, capacity, available, held, sold, version, sold_elsewhere)
SELECT 'e' || i, 'Jazz', now(), 1000, 1000, 0, 0, 0, 0 FROM generate_series(1, 1000) AS i;
INSERT INTO bookings (id, event, quantity, state, tickets, available, version)
SELECT 'b' || i, 'e' || i % 1000, 1, 'confirmed', '[]', 1, 1 FROM generate_series(1, 20000) AS i;
"""


def statements() -> Iterator[str]:
    """All but the one that looks at all events."""
    for module in (ledger, load, sale, save):
        for value in vars(module).values():
            if isinstance(value, str) and re.match(r"\s*(SELECT|WITH) ", value) and "xid8" not in value:
                yield value


async def test_every_row_is_found_by_an_index(database: str) -> None:
    pool = Pool(database)
    await pool.open()
    found = set(statements())
    assert len(found) >= 9
    async with pool.lend() as connection:
        for grow in ("SELECT", GROW, "ANALYZE"):
            await connection.execute(grow)
            for number, statement in enumerate(found):
                name = f"s{number}_{len(grow)}"
                count = max(map(int, re.findall(r"\$(\d+)", statement)), default=0)
                await connection.execute(f"PREPARE {name} AS {statement}")
                arguments = f"({', '.join(['NULL'] * count)})" if count else ""
                plan = "\n".join(chain.from_iterable(await connection.fetch(f"EXPLAIN EXECUTE {name}{arguments}")))
                assert not re.search(r"Seq Scan|Hash Join|Merge Join", plan), f"{statement}\n{plan}"
    pool.close()
