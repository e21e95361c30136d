"""A crowd that does all that clients can do, to daemons that are killed again and again; its history is proved right.

Connections break in the middle of requests and of replies, and what was not answered is asked again with the same ids.
"""

import asyncio
import random
import shutil
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import uvloop

from tests.daemon import running, write_events
from tests.faults.checker import check
from tests.faults.client import Client
from tests.faults.history import CHANGES, Operation, Row
from tests.faults.imbalances import check_ledger
from tests.faults.workload import CAPACITIES, HOLD_SECONDS

CLIENTS = 60
# So many of them found events that come and go.
FOUNDERS = 5
KILLS_PER_SIZE = 10
KILLS_PER_LEDGER = 20
ANSWERS_PER_LIFE = (300, 1_000)
MEETING_SECONDS_MAX = 60.0
REMEMBERED_MAX = 20_000
HOLDS_REMEMBERED_MAX = 500
# What is to be heard before it is over, so that it was not too quiet a crowd.
HAPPENS = frozenset(
    f"{cmd} {what}"
    for cmd, each in {
        "book": "changed replayed sold_out not_on_sale buyer_limit bad_request event_not_found booking_conflict",
        "hold": "changed replayed not_on_sale buyer_limit bad_request",
        "wait": "waiting held replayed not_on_sale buyer_limit booking_conflict",
        "extend": "changed replayed already_confirmed hold_expired",
        "confirm": "changed replayed already_released already_cancelled hold_expired booking_not_found",
        "confirm late": "changed",
        "release": "changed replayed already_confirmed",
        "cancel": "changed replayed already_cancelled already_redeemed already_reissued",
        "reissue": "changed replayed already_cancelled already_redeemed ticket_not_found",
        "redeem": "changed replayed already_cancelled already_redeemed already_reissued wrong_event ticket_not_found",
        "annul": "changed replayed not_redeemed",
        "amend": "changed capacity_below_sold",
        "create": "changed replayed event_exists",
        "delete": "changed event_in_use event_not_found",
        "show": "offer",
    }.items()
    for what in each.split()
)


def what_happened(operation: Operation) -> set[str]:
    """Return the names under which HAPPENS has it."""
    if operation.reply is None:
        return set()
    if operation.cmd == "show":
        return {f"show {change['what']}" for change in operation.reply.get("changes", ())}
    if operation.cmd not in CHANGES:
        return set()
    what = operation.code or ("replayed" if operation.replayed else "changed")
    if operation.cmd == "wait" and what == "changed":
        what = operation.reply["state"]
    names = {f"{operation.cmd} {what}"}
    if what == "changed" and operation.request.get("late"):
        names.add("confirm late changed")
    return names


class Crowd:
    """What the clients know of each other, and the history of all they asked. ``ports`` are those that answer."""

    def __init__(self, chance: random.Random, events: Sequence[Row]) -> None:
        self.chance = chance
        self.events = events
        self.history: list[Operation] = []
        self.ports: list[int] = []
        # Where connections broke that no client closed.
        self.broken: set[int] = set()
        self.over = False
        self._missing = 0
        self._enough = asyncio.Event()
        self.connections = count()
        # What was done last: enough to be found again by others, and for holds to run out before they are found.
        self.bookings: deque[str] = deque(maxlen=REMEMBERED_MAX)
        self.holds: deque[str] = deque(maxlen=HOLDS_REMEMBERED_MAX)
        self.tickets: deque[tuple[str, str, list[str]]] = deque(maxlen=REMEMBERED_MAX)
        self.done: deque[Row] = deque(maxlen=REMEMBERED_MAX)
        self.late_events: list[str] = []
        self.clients = [Client(self, f"c{number}") for number in range(CLIENTS)]
        # Whoever organizes an event is the only one to amend it: of an amendment there is no memory but the event.
        for client, event in zip(self.clients, events, strict=False):
            client.workload.organizes = event["id"]
        for client in self.clients[-FOUNDERS:]:
            client.workload.founds = True

    def meet(self, ports: Sequence[int], story: Callable[[], Awaitable[None]]) -> None:
        """Let all ask this and that while the story happens; then it is over."""
        self.ports = list(ports)
        self.over = False
        uvloop.run(self._meet(story))

    async def hear(self, answers: int) -> None:
        """Wait until so many more answers were heard."""
        self._missing = answers
        self._enough.clear()
        async with asyncio.timeout(MEETING_SECONDS_MAX):
            await self._enough.wait()

    def settle(self, ports: Sequence[int]) -> None:
        """Let all ask again what was not answered; then read everything that there is."""
        self.ports = list(ports)
        self.over = True
        uvloop.run(self._settle())

    async def _settle(self) -> None:
        async with asyncio.timeout(MEETING_SECONDS_MAX):
            await asyncio.gather(*(client.live() for client in self.clients))
            assert not any(client.unsettled for client in self.clients), "what was not answered is answered in the end"
            await self.clients[0].read_all()

    async def _meet(self, story: Callable[[], Awaitable[None]]) -> None:
        self._enough = asyncio.Event()
        async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as living:
            for client in self.clients:
                living.create_task(client.live())
            await story()
            self.over = True
            patience.reschedule(asyncio.get_running_loop().time() + MEETING_SECONDS_MAX)

    def count_answer(self) -> None:
        """Note that somebody was answered."""
        self._missing -= 1
        if self._missing == 0:
            self._enough.set()


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Kill daemons in the middle of a crowd, ``size`` times KILLS_PER_SIZE, and prove the histories of the ledgers."""
    figures: Counter[str] = Counter()
    kills = size * KILLS_PER_SIZE
    for done in range(0, kills, KILLS_PER_LEDGER):
        ledger = folder / f"ledger-{done}"
        ledger.mkdir()
        crowd = record(chance, min(KILLS_PER_LEDGER, kills - done), ledger)
        check(crowd.history, crowd.events)
        figures.update(figures_of(crowd.history))
        shutil.rmtree(ledger)
    return {"kills": kills, **figures}


def record(chance: random.Random, kills: int, folder: Path) -> Crowd:
    """Return a crowd with its whole history on one ledger, whose daemon was killed so many times."""
    write_events(folder, *CAPACITIES)
    with running(folder) as daemon, daemon.connect() as connection:
        events = connection.ask("list")["events"]
        assert [event["available"] for event in events] == list(CAPACITIES)
    crowd = Crowd(chance, events)
    for _ in range(kills):
        with running(folder) as daemon:
            crowd.meet([daemon.port], partial(_hear_and, crowd, daemon.process.kill))
        check_ledger(folder)
    # Most holds run out before the last life, or else it would be long: no answer tells that one has.
    time.sleep(HOLD_SECONDS)
    with running(folder) as daemon:
        crowd.meet([daemon.port], partial(_hear_all_and, crowd, daemon.process.terminate))
        assert daemon.wait() == 0
    with running(folder) as daemon:
        crowd.settle([daemon.port])
        assert daemon.end() == 0
    check_ledger(folder)
    return crowd


async def _hear_and(crowd: Crowd, end: Callable[[], None]) -> None:
    """End a daemon in the middle of everything."""
    await crowd.hear(crowd.chance.randint(*ANSWERS_PER_LIFE))
    end()


async def _hear_all_and(crowd: Crowd, end: Callable[[], None]) -> None:
    """End a daemon once everything has happened."""
    await _hear_and(crowd, nothing)
    while HAPPENS.difference(*map(what_happened, crowd.history)):
        await crowd.hear(ANSWERS_PER_LIFE[0])
    end()


def nothing() -> None: ...


def figures_of(operations: Sequence[Operation]) -> Counter[str]:
    """Return how often what came of requests."""
    figures = Counter(operation.code or (operation.reply or {}).get("reply", "unanswered") for operation in operations)
    figures.update(name for operation in operations for name in what_happened(operation))
    figures["operations"] = len(operations)
    figures["changes"] = sum(operation.changed for operation in operations)
    figures["replayed"] = sum(operation.replayed for operation in operations)
    return figures
