"""SIGHUP in a storm: who may do what, and the certificate, are replaced again and again while a crowd sells.

Nobody who is still allowed is dropped, who is not any more is ended, and nothing that was sold is lost.
"""

import asyncio
import random
import signal
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, get_args

import uvloop

from tests.daemon import until
from tests.faults.certificates import new_certificate
from tests.faults.guarded import Guard, Guarded, Talk, Way, auth

SELLERS_OF_A_WAY = 5
PASSING_OF_A_WAY = 3
CROWD_SECONDS_MAX = 60.0


class Seller:
    """Somebody with a token, who sells over one connection at a time for as long as it is taken."""

    def __init__(self, guard: Guard, daemon: Guarded, way: Way, name: str) -> None:
        self.daemon = daemon
        self.name = name
        self.secret = guard.add(name, "seller")
        self._way: Way = way
        # What was asked for, with the tickets if they are known.
        self.booked: dict[str, list[str]] = {}
        self.connections = 0
        # Whether the daemon has ended its connection, and takes its token no more.
        self.refused = asyncio.Event()
        self.let_in = asyncio.Event()

    async def sell(self, over: asyncio.Event) -> None:
        """Sell until it is over; wait to be let in again when the token is not taken any more."""
        numbers = count()
        while not over.is_set():
            async with await self.daemon.connect(self._way) as talk:
                self.connections += 1
                welcome = await talk.ask(auth(self.secret))
                if welcome["reply"] == "welcome":
                    await self._sell_over(talk, numbers, over)
                    continue
                assert welcome["code"] == "unauthorized", f"{self.name} was answered {welcome}"
            self.refused.set()
            await self.let_in.wait()

    async def _sell_over(self, talk: Talk, numbers: "count[int]", over: asyncio.Event) -> None:
        while not over.is_set():
            booking = f"{self.name}-{next(numbers)}"
            self.booked.setdefault(booking, [])
            reply = await talk.ask(f"book 1 1 --booking {booking}".encode())
            if reply.get("reply") != "booking":
                assert reply.get("code", "unauthorized") == "unauthorized", f"{self.name} was answered {reply}"
                return
            self.booked[booking] = reply["tickets"]


class Storm:
    """What is replaced, and what it must do."""

    def __init__(self, chance: random.Random, guard: Guard, daemons: list[Guarded], passing: list[Seller]) -> None:
        self._chance = chance
        self._guard = guard
        self._daemons = daemons
        self._passing = passing
        self._more = count()
        self.figures: Counter[str] = Counter()

    async def rage(self, turns: int) -> None:
        """Replace something, so many times, and see what comes of it."""
        acts = {
            "remove": self._remove,
            "break": self._break,
            "renew": self._renew,
            "add": self._add,
            "again": self._again,
        }
        for _ in range(turns):
            what = self._chance.choice(list(acts))
            self.figures[what] += 1
            await acts[what]()

    async def _remove(self) -> None:
        gone = self._chance.choice(self._passing)
        gone.refused.clear()
        gone.let_in.clear()
        # Its old secret stays wrong when it gets another one.
        self._guard.remove(gone.name)
        await self.read_again()
        await gone.refused.wait()
        gone.secret = self._guard.add(gone.name, "seller")
        await self.read_again()
        gone.let_in.set()

    async def _break(self) -> None:
        """Let the file be one that cannot be read, or that others can write: nobody is worse off."""
        content = self._guard.access.read_bytes()
        if self._chance.random() < 0.5:
            self._guard.access.write_bytes(content[: self._chance.randint(0, len(content) - 3)])
        else:
            self._guard.access.chmod(0o666)
        await self.read_again()
        self._guard.access.chmod(0o600)
        self._guard.access.write_bytes(content)
        await self.read_again()

    async def _renew(self) -> None:
        """Renew the certificate and its key, one after the other, with a signal in between too."""
        for path, content in zip((self._guard.certificate, self._guard.key), new_certificate(), strict=True):
            new = path.with_suffix(".new")
            new.write_text(content)
            new.replace(path)
            if self._chance.random() < 0.5:
                self._signal()
                await asyncio.sleep(0)
        await self.read_again()

    async def _add(self) -> None:
        self._guard.add(f"more-{next(self._more)}", "reader")
        await self.read_again()

    async def _again(self) -> None:
        for _ in range(5):
            self._signal()
            await asyncio.sleep(0)

    def _signal(self) -> None:
        self.figures["signals"] += len(self._daemons)
        for each in self._daemons:
            each.daemon.process.send_signal(signal.SIGHUP)

    async def read_again(self) -> None:
        """Let the daemons read again what is there now, and wait until they have."""
        # Twice, for the first that they tell may have been on the way before.
        for each in self._daemons * 2:
            more = _times_read(each) + 1
            each.daemon.process.send_signal(signal.SIGHUP)
            self.figures["signals"] += 1
            await asyncio.to_thread(until, partial(_has_read, each, more))


def _has_read(each: Guarded, times: int) -> bool:
    return _times_read(each) >= times


def _times_read(each: Guarded) -> int:
    lines = each.daemon.lines
    return sum("read the access file" in line or "access file that was read before" in line for line in lines)


def run(chance: random.Random, turns: int, folder: Path) -> dict[str, float]:
    """Let a crowd sell over TCP, TLS and unix sockets through so many turns, and then look at what was sold."""
    guard = Guard(folder)
    with guard.daemon("p") as plain, guard.daemon("t", tls=True) as encrypted:
        return uvloop.run(_storm(chance, turns, guard, [plain, encrypted]))


async def _storm(chance: random.Random, turns: int, guard: Guard, daemons: list[Guarded]) -> dict[str, float]:
    plain, encrypted = daemons
    steady, passing = [
        [
            Seller(guard, encrypted if way == "tls" else plain, way, f"{kind}-{way}-{number}")
            for way in get_args(Way)
            for number in range(people)
        ]
        for kind, people in (("steady", SELLERS_OF_A_WAY), ("passing", PASSING_OF_A_WAY))
    ]
    storm = Storm(chance, guard, daemons, passing)
    await storm.read_again()
    over = asyncio.Event()
    async with asyncio.TaskGroup() as crowd:
        for seller in steady + passing:
            crowd.create_task(seller.sell(over))
        newcomers = crowd.create_task(_come_and_go(guard, daemons, over))
        async with asyncio.timeout(CROWD_SECONDS_MAX + turns):
            await storm.rage(turns)
        over.set()
    dropped = [seller.name for seller in steady if seller.connections != 1]
    assert not dropped, f"these may still sell, and were dropped: {dropped}"
    sold = 0
    for each in daemons:
        sellers = [seller for seller in steady + passing if seller.daemon is each]
        sold += await _check_sold(
            guard, each, {key: value for seller in sellers for key, value in seller.booked.items()}
        )
    return {"newcomers": newcomers.result(), "sold": sold, **storm.figures}


async def _come_and_go(guard: Guard, daemons: list[Guarded], over: asyncio.Event) -> int:
    """Connect in every way again and again; return how often. Each time, the right token is let in."""
    ways: list[Way] = ["plain", "unix", "tls"]
    come = 0
    while not over.is_set():
        for each in daemons:
            for way in ways[:2] if each.way == "plain" else ways[1:]:
                async with await each.known(guard.secrets["admin"], way):
                    come += 1
    return come


async def _check_sold(guard: Guard, daemon: Guarded, booked: dict[str, list[str]]) -> int:
    """Ask again for everything: what was sold is the same, and nothing more is. Returns how many are sold."""
    async with await daemon.known(guard.secrets["admin"]) as talk:
        for booking, tickets in booked.items():
            reply: dict[str, Any] = await talk.ask(f"book 1 1 --booking {booking}".encode())
            assert reply["reply"] == "booking", f"{booking} was answered {reply}"
            assert tickets in ([], reply["tickets"]), f"{booking} had {tickets}, and has {reply['tickets']}"
        event = await talk.ask(b"show 1")
    assert event["sold"] == len(booked), f"{event['sold']} are sold, of {len(booked)} that were asked for"
    sold: int = event["sold"]
    return sold
