"""What is promised about clocks."""

import random
from datetime import timedelta
from pathlib import Path

import pytest

from tests.daemon import running, write_events
from tests.faults import clocks
from tests.faults.daemon import Machine

DAY = timedelta(days=1)
TEN_YEARS = timedelta(days=3_652)


def test_holds_follow_the_wall_clock_and_stay_expired(chance: random.Random, tmp_path: Path) -> None:
    figures = clocks.run(chance, 1, tmp_path)
    assert figures["ran out"] > 0


@pytest.mark.parametrize("jump", [DAY, TEN_YEARS, -DAY, -TEN_YEARS])
def test_connection_deadlines_ignore_wall_clock_jumps(tmp_path: Path, jump: timedelta) -> None:
    machine = Machine(tmp_path)
    write_events(tmp_path, 5)
    # One that waits for long would be ended by a jump forward, one that waits briefly be forgotten by a jump back.
    with running(tmp_path, "--idle-seconds-max", "3600", module=machine.module, env=machine.env) as daemon:
        with daemon.connect() as silent, daemon.connect() as dribbling:
            dribbling.send(b'{"cmd":')
            assert silent.ask("ping") == {"reply": "pong"}
            machine.move_clock(jump)
            assert silent.ask("book 1 1")["version"] == 1
            dribbling.send(b'"ping"}\n')
            assert dribbling.read() == {"reply": "pong"}
        assert daemon.end() == 0
    brief = ("--idle-seconds-max", "1", "--frame-seconds-max", "1")
    with (
        running(tmp_path, *brief, module=machine.module, env=machine.env) as daemon,
        daemon.connect() as silent,
        daemon.connect() as dribbling,
    ):
        dribbling.send(b"x")
        machine.move_clock(jump)
        assert silent.read()["code"] == "idle_timeout"
        assert dribbling.read()["code"] == "idle_timeout"


def test_watchers_see_holds_that_a_clock_jump_expires(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    write_events(tmp_path, 5)
    with (
        running(tmp_path, module=machine.module, env=machine.env) as daemon,
        daemon.connect() as watcher,
        daemon.connect() as buyer,
    ):
        buyer.ask("hold 1 5 --seconds 86400 --booking h")
        assert watcher.ask("watch 1")["held"] == 5
        machine.move_clock(DAY)
        assert watcher.read()["available"] == 5
        machine.move_clock(-TEN_YEARS)
        assert buyer.ask("confirm h")["code"] == "hold_expired"
