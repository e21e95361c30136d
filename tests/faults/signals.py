"""Sends signals in the middle of things: once, twice, SIGSTOP and SIGCONT, while a commit waits for the disk.

Whatever was acknowledged is there at the next start, and asking again settles the rest.
"""

import random
import signal
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec

from tests.daemon import Connection, running, until, write_events
from tests.faults.daemon import Machine

CAPACITY = 1_000_000
BOOKINGS = 20
CYCLES_OF_A_SIZE = 8

ENDINGS: dict[str, list[signal.Signals]] = {
    "ended in good order": [signal.SIGTERM],
    "interrupted": [signal.SIGINT],
    "ended at once": [signal.SIGTERM, signal.SIGTERM],
    "stopped, continued and ended": [signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM],
    "stopped and killed": [signal.SIGSTOP, signal.SIGKILL],
}


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """End a daemon again and again while bookings are under way, half of the time while the disk is slow."""
    machine = Machine(folder)
    write_events(folder, CAPACITY)
    acknowledged: dict[str, dict[str, Any]] = {}
    asked: list[str] = []
    figures: Counter[str] = Counter()
    for cycle in range(CYCLES_OF_A_SIZE * size):
        ending = chance.choice(list(ENDINGS))
        with running(folder, module=machine.module, env=machine.env) as daemon, daemon.connect() as connection:
            for booking in asked:
                settled = connection.ask(f"book 1 1 --booking {booking}")
                first = acknowledged.setdefault(booking, settled)
                assert {**settled, "replayed": True} == {**first, "replayed": True}, f"{booking} was forgotten"
            asked = [f"b-{cycle}-{number}" for number in range(BOOKINGS)]
            slow = chance.random() < 0.5
            with machine.syncs_stall() if slow else nullcontext():
                connection.send("".join(f"book 1 1 --booking {booking}\n" for booking in asked).encode())
                if slow:
                    until(machine.stalled)
                for signum in ENDINGS[ending]:
                    daemon.process.send_signal(signum)
            for reply in _rest(connection):
                if reply["reply"] == "booking":
                    acknowledged[reply["id"]] = reply
            status = daemon.wait()
            assert status in (0, -signal.SIGKILL, 128 + signal.SIGTERM), f"ended with status {status}"
        figures[ending] += 1
    with running(folder) as daemon, daemon.connect() as connection:
        for booking, reply in acknowledged.items():
            shown = connection.ask(f"show {booking}")
            assert (shown["tickets"], shown["version"]) == (reply["tickets"], reply["version"])
        event = connection.ask("show 1")
        assert event["sold"] >= len(acknowledged)
    return {"cycles": sum(figures.values()), "acknowledged": len(acknowledged), **figures}


def _rest(connection: Connection) -> list[dict[str, Any]]:
    """Return the replies that still came, and go."""
    try:
        return [msgspec.json.decode(line) for line in connection.rest().splitlines(keepends=True) if line[-1:] == b"\n"]
    except ConnectionResetError:
        return []
    finally:
        connection.close()
