"""The stampede and the crash: what the whole thing exists for, against real daemons in processes of their own."""

import asyncio
import random
from contextlib import closing
from pathlib import Path

import uvloop

from tests.daemon import running, write_events
from tests.faults import crowd
from tests.faults.checker import check
from tests.faults.crowd import Crowd
from tests.faults.history import Operation, Row
from tests.faults.talk import connect

BUYERS = 200
TURNS = 15


def book(quantity: int, booking: str, event: str = "1") -> Row:
    return {"cmd": "book", "event": event, "quantity": quantity, "booking": booking}


def test_kill_9_loses_and_doubles_no_acknowledged_change(tmp_path: Path, chance: random.Random) -> None:
    figures = crowd.run(chance, 1, tmp_path)
    assert figures.keys() >= crowd.HAPPENS


def test_3000_requests_for_1000_tickets_sell_exactly_1000(tmp_path: Path) -> None:
    write_events(tmp_path, 1_000)

    async def buy(buyer: int, port: int) -> None:
        with closing(await connect(buyers, f"b{buyer}", port)) as connection:
            for turn in range(TURNS):
                await connection.ask([book(1, f"b{buyer}-{turn}")])

    async def buy_together(port: int) -> None:
        async with asyncio.timeout(crowd.MEETING_SECONDS_MAX), asyncio.TaskGroup() as buying:
            for buyer in range(BUYERS):
                buying.create_task(buy(buyer, port))

    with running(tmp_path) as daemon, daemon.connect() as clerk:
        buyers = Crowd(random.Random(), clerk.ask("list")["events"])
        uvloop.run(buy_together(daemon.port))
        first = list(buyers.history)
        # Everybody asks again, with the same ids: the same tickets, and nothing new.
        uvloop.run(buy_together(daemon.port))
        second = buyers.history[len(first) :]
    check(buyers.history, buyers.events)
    assert [len(first), len(second)] == [BUYERS * TURNS] * 2
    assert (count(first, "changed"), count(second, "replayed"), count(second, "changed")) == (1_000, 1_000, 0)
    assert {operation.code for operation in buyers.history} == {None, "sold_out"}


def count(operations: list[Operation], what: str) -> int:
    return sum(getattr(operation, what) for operation in operations)


def test_requests_of_a_connection_take_effect_in_the_order_sent(tmp_path: Path) -> None:
    write_events(tmp_path, 10, 100_000)

    async def ask(port: int) -> list[Operation]:
        with closing(await connect(buyers, "b", port)) as connection:
            return await connection.ask([book(4, f"b-{turn}", "12"[turn % 2]) for turn in range(500)])

    with running(tmp_path) as daemon, daemon.connect() as clerk:
        buyers = Crowd(random.Random(), clerk.ask("list")["events"])
        operations = uvloop.run(asyncio.wait_for(ask(daemon.port), crowd.MEETING_SECONDS_MAX))
    check(buyers.history, buyers.events)
    assert [operation.code for operation in operations[::2]] == [None, None] + ["sold_out"] * 248
    assert [operation.reply and operation.reply["version"] for operation in operations[1::2]] == list(range(1, 251))
