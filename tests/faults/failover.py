"""Fails over from a primary to its synchronous standby again and again, under load; the old primary comes back.

The operator does what Patroni or a careful person does. When the primary is killed, hangs or is cut off, they promote
the standby. Later they rebuild the old primary as the new standby, so that the roles swap. Before that it may come back
as it was: a primary whose commits hang, by its ``synchronous_standby_names``, or one that sells alone, without them.

What is promised: SALES_SECONDS_MAX after the promotion, every daemon that can reach the new primary sells on it. From
then on nothing is acknowledged that only the old one has, not by a daemon that starts while both answer either. Until
then the old primary must not sell alone, which its ``synchronous_standby_names`` prevent. For a daemon that itself hung
at the promotion, this time begins when it goes on. A daemon that never saw the new primary and cannot reach it sells on
the old one, if that sells alone: only fencing prevents that.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import count, islice
from pathlib import Path

from tests.daemon import Daemon, write_events
from tests.faults.crowd import Crowd
from tests.faults.fleet import Fleet
from tests.faults.history import NOT_DONE, Operation
from tests.faults.many import prove
from tests.faults.order import Change
from tests.faults.pair import Pair
from tests.faults.talk import connect
from tests.faults.workload import CAPACITIES
from tests.postgres import Postgres, Row, name_of, query

DAEMONS = 2
# Few, so that on a small machine the database and the daemons have the time that they need.
CLIENTS = 20
ROUNDS_PER_SIZE = 20
ROUNDS_PER_LEDGER = 5
ANSWERS = (100, 500)
# From a promotion until every daemon sells.
SALES_SECONDS_MAX = 3.0
# After this time, give up.
PATIENCE_SECONDS = 10.0
# How long the operator does nothing.
OPERATOR_WAITS_SECONDS_MAX = 2.0
CONNECTIONS_PER_DAEMON_MAX = 10
NEWCOMER_EVERY_SECONDS = 0.5
# So that a client is soon told that it has to wait.
OPTIONS = ("--queue-seconds-max", "2")
# Codes that a client which retries must never get.
FORBIDDEN_CODES = {*NOT_DONE, "outcome_unknown"} - {"busy"}

_MISSING = "SELECT unnest($1::text[]) AS id EXCEPT SELECT id FROM ticketd.bookings"
_FOUND = "SELECT id FROM ticketd.bookings WHERE id = ANY($1)"
_CONNECTIONS = """
SELECT application_name, count(*) FROM pg_stat_activity WHERE datname = $1 AND starts_with(application_name, 'daemon-')
GROUP BY application_name
"""


class Story:
    """What happens to a pair, and to the daemons of a fleet that sell to a crowd.

    ``slowest_seconds`` is the longest that it took from a promotion until all daemons sold.
    """

    def __init__(self, chance: random.Random, pair: Pair, fleet: Fleet, database: str) -> None:
        self._chance = chance
        self._pair = pair
        self._fleet = fleet
        self._database = database
        for _ in range(DAEMONS):
            self._start_daemon()
        self.crowd = Crowd(chance, fleet.events())
        self.crowd.clients = self.crowd.clients[:CLIENTS]
        self._newcomers = count()
        self.slowest_seconds = 0.0
        # From before each promotion until all daemons sold after it, by the monotonic clock.
        self.changes: list[Change] = []
        self.figures: Counter[str] = Counter()

    async def live(self, rounds: Iterator[tuple[str, "Round"]]) -> None:
        """Let ROUNDS_PER_LEDGER of these happen, and check after each that nothing is missing."""
        for what, happen in islice(rounds, ROUNDS_PER_LEDGER):
            await self.crowd.hear(self._chance.randint(*ANSWERS))
            try:
                await happen(self)
                await self._check()
            except Exception as error:
                error.add_note(f"In this round {what}.")
                raise
            self.figures[what] += 1

    async def fail_over(self, fault: str, old_comes_back: str) -> None:
        """Let the primary fail, and promote the standby; then the old primary comes back in one way or another."""
        old = self._pair.primary
        proxy = self._pair.proxies[old]
        begin, end = {
            "is killed": (old.kill, old.start),
            "hangs": (old.suspend, old.resume),
            "is cut off": (proxy.partition, proxy.heal),
        }[fault]
        await asyncio.to_thread(begin)
        asleep = self._chance.choice([None, *self._fleet.living])
        if asleep:
            asleep.process.send_signal(signal.SIGSTOP)
        await self._pass_time()
        if old_comes_back == "fenced" and fault != "is killed":
            await asyncio.to_thread(old.kill)
        await self._promote(asleep)
        if old_comes_back != "fenced":
            await asyncio.to_thread(end)
            if old_comes_back == "without its settings":
                await asyncio.to_thread(old.configure, synchronous_standby_names="")
            await self._provoke()
            await self._check(old)
            await asyncio.to_thread(old.kill)
        await asyncio.to_thread(self._pair.rebuild)

    async def lose_standby(self, fault: str, then: str) -> None:
        """Let the standby be away, so that nothing can be sold, until it comes back, is given up, or is needed."""
        primary, standby = self._pair.primary, self._pair.standby
        begin, end = {"is killed": (standby.kill, standby.start), "hangs": (standby.suspend, standby.resume)}[fault]
        await asyncio.to_thread(begin)
        async with asyncio.TaskGroup() as newcomers:
            arrivals = newcomers.create_task(self._let_newcomers_ask(newcomers))
            await self._hear_of_all("is busy", lambda operation: operation.code == "busy")
            arrivals.cancel()
            await self._pass_time()
            await self._check()
            if then == "takes over":
                await asyncio.to_thread(primary.kill)
                await asyncio.to_thread(end)
                await self._promote()
                await asyncio.to_thread(self._pair.rebuild)
            else:
                if then == "is given up":
                    await asyncio.to_thread(primary.configure, synchronous_standby_names="")
                    await self._see_sales()
                await asyncio.to_thread(end)
                await self._see_sales()
                await asyncio.to_thread(self._pair.follow)

    async def lose_daemon(self, fault: str) -> None:
        """Let a daemon die or hang, while the other one sells."""
        daemon = self._chance.choice(self._fleet.living)
        if fault == "is killed":
            await self._replace(daemon)
        else:
            daemon.process.send_signal(signal.SIGSTOP)
            await self._see_sales(asleep=daemon)
            daemon.process.send_signal(signal.SIGCONT)
        await self._see_sales()

    async def _provoke(self) -> None:
        """Give daemons reasons to connect anew, while the old primary answers."""
        primary = self._pair.primary
        disturbances: list[Callable[[], Awaitable[object]]] = [
            partial(self._replace, self._chance.choice(self._fleet.living)),
            partial(asyncio.to_thread, primary.terminate_backends, primary.url(self._database)),
            partial(self._crash, primary),
        ]
        for disturb in self._chance.sample(disturbances, 2):
            await disturb()
            await self._see_sales()

    async def _crash(self, server: Postgres) -> None:
        await asyncio.to_thread(server.kill)
        await self._pass_time()
        await asyncio.to_thread(server.start)

    async def _replace(self, daemon: Daemon) -> None:
        await asyncio.to_thread(self._fleet.kill, daemon)
        self.crowd.ports.append((await asyncio.to_thread(self._start_daemon)).port)

    def _start_daemon(self) -> Daemon:
        name = f"daemon-{len(self._fleet.began)}"
        return self._fleet.start(*OPTIONS, url=self._pair.url(self._database, self._chance, application_name=name))

    async def _let_newcomers_ask(self, newcomers: asyncio.TaskGroup, asleep: Daemon | None = None) -> None:
        """Let them ask all daemons, but for one. All others may wait for commits or a daemon that hang."""
        while True:
            for daemon in self._fleet.living:
                if daemon is not asleep:
                    newcomers.create_task(self._book(daemon.port))
            await asyncio.sleep(NEWCOMER_EVERY_SECONDS)

    async def _book(self, port: int) -> None:
        name = f"newcomer-{next(self._newcomers)}"
        events = map(str, range(1, len(CAPACITIES) + 1))
        with closing(await connect(self.crowd, name, port)) as connection:
            # Of some event there are tickets.
            await connection.ask(
                [
                    {"cmd": "book", "event": event, "quantity": 1, "booking": f"{name}-{event}", "buyer": name}
                    for event in events
                ]
            )

    async def _pass_time(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, OPERATOR_WAITS_SECONDS_MAX))

    async def _promote(self, asleep: Daemon | None = None) -> None:
        """Promote the standby, and wake a daemon that slept meanwhile. Soon, all sell."""
        began = time.monotonic()
        await asyncio.to_thread(self._pair.promote)
        if asleep:
            asleep.process.send_signal(signal.SIGCONT)
        seconds = await self._see_sales()
        self.changes.append((began, time.monotonic()))
        self.slowest_seconds = max(self.slowest_seconds, seconds)
        assert seconds <= SALES_SECONDS_MAX, f"only {seconds:.1f} s after the promotion all daemons sold"

    async def _see_sales(self, asleep: Daemon | None = None) -> float:
        """Wait until all daemons, but for one, have sold; return how many seconds it took.

        Newcomers ask them: those of the crowd seldom leave the daemon that they talk to, and one may have none of them.
        """
        async with asyncio.TaskGroup() as newcomers:
            arrivals = newcomers.create_task(self._let_newcomers_ask(newcomers, asleep))
            seconds = await self._hear_of_all("sells", lambda operation: operation.changed, asleep)
            arrivals.cancel()
        return seconds

    async def _hear_of_all(self, what: str, said: Callable[[Operation], bool], asleep: Daemon | None = None) -> float:
        """Wait until all daemons, but for one, say this to what is asked from now on; return how many seconds it took.

        A daemon that never does ends the story.
        """
        began, seen = time.monotonic(), len(self.crowd.history)
        silent = {daemon.port: daemon for daemon in self._fleet.living if daemon is not asleep}
        asked: list[Operation] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while silent:
                    await self.crowd.hear(1)
                    asked += self.crowd.history[seen:]
                    seen = len(self.crowd.history)
                    for operation in filter(said, asked):
                        silent.pop(operation.port, None)
                    asked = [operation for operation in asked if operation.reply is None]
        seconds = time.monotonic() - began
        for daemon in silent.values():
            raise AssertionError("\n  ".join([f"after {seconds:.0f} s a daemon never {what}:", *daemon.lines[-9:]]))
        return seconds

    async def _check(self, old: Postgres | None = None) -> None:
        """Check that what was acknowledged is on the primary, and that no client was told more than ``busy``.

        If not, say how much is on an ``old`` primary.
        """
        history = self.crowd.history
        booked = [
            operation.reply["id"]
            for operation in history
            if operation.cmd in ("book", "hold", "wait") and operation.reply and operation.code is None
        ]
        if missing := await self._query(self._pair.primary, _MISSING, booked):
            found = await self._query(old, _FOUND, [id for (id,) in missing]) if old else []
            raise AssertionError(f"{len(missing)} bookings are missing; {len(found)} of them are on an old primary")
        told = {operation.code for operation in history} & FORBIDDEN_CODES
        assert not told, f"clients were told {told}"
        broken = self.crowd.broken & {*self._fleet.ports}
        assert not broken, f"the daemons at {broken} broke connections"
        for daemon, connections in await self._query(self._pair.primary, _CONNECTIONS, self._database):
            assert connections <= CONNECTIONS_PER_DAEMON_MAX, f"{daemon} has {connections} connections"

    async def _query(self, server: Postgres, statement: str, value: object) -> list[Row]:
        return await asyncio.to_thread(query, server.url(self._database), statement, value)


Round = Callable[[Story], Awaitable[None]]


def rounds(chance: random.Random) -> Iterator[tuple[str, Round]]:
    """Draw what happens, without end. Of each five, three lose the primary, one the standby, and one a daemon."""
    while True:
        faults = chance.sample(["is killed", "hangs", "is cut off"], 3)
        returns = ["fenced", "with its settings", "without its settings"]
        deck: list[tuple[str, Round]] = [
            (f"the primary {fault} and comes back {old}", partial(Story.fail_over, fault=fault, old_comes_back=old))
            for fault, old in zip(faults, returns, strict=True)
        ]
        fault, then = chance.choice(["is killed", "hangs"]), chance.choice(["comes back", "is given up", "takes over"])
        deck.append((f"the standby {fault} and {then}", partial(Story.lose_standby, fault=fault, then=then)))
        fault = chance.choice(["is killed", "hangs"])
        deck.append((f"a daemon {fault}", partial(Story.lose_daemon, fault=fault)))
        yield from chance.sample(deck, len(deck))


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Let ``size`` times ROUNDS_PER_SIZE rounds happen."""
    figures: Counter[str] = Counter()
    slowest_seconds = 0.0
    with Pair() as pair:
        drawn = rounds(chance)
        for _ in range(0, size * ROUNDS_PER_SIZE, ROUNDS_PER_LEDGER):
            more, seconds = fail_over_again_and_again(chance, folder, pair, drawn)
            figures += more
            slowest_seconds = max(slowest_seconds, seconds)
    return {**figures, "seconds at most from a promotion to sales": slowest_seconds}


def fail_over_again_and_again(
    chance: random.Random, folder: Path, pair: Pair, drawn: Iterator[tuple[str, Round]]
) -> tuple[Counter[str], float]:
    """Let a crowd do all that clients can do on a new ledger, while ROUNDS_PER_LEDGER rounds happen.

    Return figures, and the longest that it took from a promotion until all daemons sold, in seconds.
    """
    write_events(folder, *CAPACITIES)
    database = name_of(pair.primary.new_database())
    with Fleet(folder, pair.url(database, chance, target_session_attrs="primary")) as fleet:
        story = Story(chance, pair, fleet, database)
        story.crowd.meet(fleet.ports, partial(story.live, drawn))
        figures = prove(story.crowd, fleet, story.changes) + story.figures
    # Or else each promoted standby would have more to copy.
    pair.primary.drop(pair.primary.url(database))
    return figures, story.slowest_seconds
