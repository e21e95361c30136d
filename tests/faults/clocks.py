"""Sets the wall clock forward and back, by seconds and by years, under a daemon that holds tickets.

Holds follow the wall clock, and what has run out never comes back to life. No deadline of a connection moves.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tests.daemon import Connection, running, write_events
from tests.faults.daemon import Machine

CAPACITY = 1_000_000
JUMPS = [timedelta(seconds=1), timedelta(hours=1), timedelta(days=1), timedelta(days=3_652)]
SECONDS = [30, 3_600, 86_400]
JUMPS_OF_A_SIZE = 40


@dataclass
class Held:
    """A hold as the clock must have it: over once it was seen to be over, or else until ``expires``."""

    expires: datetime
    over: bool = False


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Make holds, set the clock, look at them, end some, and restart now and then."""
    machine = Machine(folder)
    write_events(folder, CAPACITY)
    holds: dict[str, Held] = {}
    figures = {"jumps": 0, "holds": 0, "ran out": 0, "restarts": 0}
    for restart in range(2 * size):
        figures["restarts"] += restart > 0
        with running(folder, module=machine.module, env=machine.env) as daemon, daemon.connect() as connection:
            for _ in range(JUMPS_OF_A_SIZE // 2):
                _hold(connection, holds, chance)
                machine.move_clock(chance.choice(JUMPS) * chance.choice([-1, 1]))
                figures["jumps"] += 1
                _look(connection, holds, machine)
                if ended := [name for name, held in holds.items() if not held.over and chance.random() < 0.1]:
                    _end(connection, holds, chance.choice(ended), chance)
    figures["holds"] = len(holds)
    figures["ran out"] = sum(held.over for held in holds.values())
    return dict(figures)


def _hold(connection: Connection, holds: dict[str, Held], chance: random.Random) -> None:
    name = f"h-{len(holds)}"
    reply = connection.ask(f"hold 1 1 --seconds {chance.choice(SECONDS)} --booking {name}")
    holds[name] = Held(datetime.fromisoformat(reply["expires"]))


def _look(connection: Connection, holds: dict[str, Held], machine: Machine) -> None:
    # Whatever is due at this moment is over from now on; what is due within the next moments may be or not.
    before = machine.now()
    event = connection.ask("show 1")
    after = machine.now()
    for name, held in holds.items():
        state = connection.ask(f"show {name}")["state"]
        if held.over or held.expires <= before:
            assert state in ("expired", "released"), f"{name} has come back to life"
        elif held.expires > after + timedelta(seconds=10):
            assert state in ("held", "released"), f"{name} ran out before its time"
        held.over = state != "held"
    assert event["sold"] == 0
    assert event["held"] + event["available"] == CAPACITY


def _end(connection: Connection, holds: dict[str, Held], name: str, chance: random.Random) -> None:
    assert connection.ask(f"release {name}")["state"] == "released"
    holds[name].over = True
