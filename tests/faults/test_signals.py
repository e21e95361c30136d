"""What is promised about signals, and about a log that nobody can write."""

import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import SECONDS_MAX, ctl, start_ctl
from tests.daemon import Connection, running, until, write_events
from tests.faults import signals
from tests.faults.daemon import Machine
from tests.postgres import free_port


def test_no_signal_loses_an_acknowledged_booking(chance: random.Random, tmp_path: Path) -> None:
    assert signals.run(chance, 1, tmp_path)["acknowledged"] > 0


def test_sigterm_during_a_commit_waits_for_it_and_answers(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    write_events(tmp_path, 5)
    with running(tmp_path, module=machine.module, env=machine.env) as daemon, daemon.connect() as connection:
        with machine.syncs_stall():
            connection.send(b"book 1 2 --booking mine\n")
            until(machine.stalled)
            daemon.process.send_signal(signal.SIGTERM)
            daemon.wait_line("draining")
        assert connection.read()["available"] == 3
        assert connection.read()["code"] == "shutting_down"
        assert daemon.wait() == 0


def test_sighup_changes_nothing(tmp_path: Path) -> None:
    write_events(tmp_path, 5)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        daemon.process.send_signal(signal.SIGHUP)
        assert connection.ask("book 1 2")["available"] == 3
        assert daemon.end() == 0


def test_a_second_sigterm_ends_at_once_and_a_retry_settles_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    write_events(tmp_path, 5)
    with (
        running(tmp_path, module=machine.module, env=machine.env) as daemon,
        daemon.connect() as connection,
        machine.syncs_stall(),
    ):
        connection.send(b"book 1 2 --booking mine\n")
        until(machine.stalled)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_line("draining")
        assert daemon.end(signal.SIGTERM) == 128 + signal.SIGTERM
    with running(tmp_path) as daemon, daemon.connect() as connection:
        assert connection.ask("book 1 2 --booking mine")["version"] == 1
        assert connection.ask("show 1")["sold"] == 2


def test_a_paused_process_does_not_count_as_a_disk_failure(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    write_events(tmp_path, 5)
    limits = ("--commit-seconds-max", "0.5")
    with running(tmp_path, *limits, module=machine.module, env=machine.env) as daemon, daemon.connect() as connection:
        with machine.syncs_stall():
            connection.send(b"book 1 2 --booking mine\n")
            until(machine.stalled)
            daemon.process.send_signal(signal.SIGSTOP)
        # As when the lid of a laptop is closed: time goes on, and the process does not.
        time.sleep(1)
        daemon.process.send_signal(signal.SIGCONT)
        assert connection.read()["available"] == 3
        assert daemon.end() == 0


@pytest.mark.parametrize("stderr", ["/dev/full", "closed"])
def test_sales_go_on_when_stderr_cannot_be_written(tmp_path: Path, stderr: str) -> None:
    write_events(tmp_path, 5)
    port = free_port()
    where = "2>&-" if stderr == "closed" else f"2>{stderr}"
    command = f'exec "{sys.executable}" -m ticketd --port {port} --events "{tmp_path}/events.json" {where}'
    daemon = subprocess.Popen(["/bin/sh", "-c", command])
    try:
        until(lambda: _answers(port))
        with Connection(port) as connection:
            assert connection.ask("book 1 2 --booking mine")["version"] == 1
        daemon.terminate()
        assert daemon.wait(30) == 0
    finally:
        daemon.kill()
        daemon.wait()
    with running(tmp_path) as again, again.connect() as connection:
        assert connection.ask("book 1 2 --booking mine")["replayed"]


def _answers(port: int) -> bool:
    try:
        with Connection(port) as connection:
            return connection.ask("ping") == {"reply": "pong"}
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize("end", ["killed", "disk fails"])
def test_ticketctl_prints_the_command_that_settles_a_cut_booking(tmp_path: Path, end: str) -> None:
    machine = Machine(tmp_path)
    write_events(tmp_path, 5)
    with running(tmp_path, module=machine.module, env=machine.env) as daemon:
        with machine.syncs_stall():
            booking = start_ctl("book", "1", "2", port=daemon.port)
            until(machine.stalled)
            daemon.kill() if end == "killed" else machine.fail_syncs()
        _, said = booking.communicate(timeout=SECONDS_MAX)
    assert booking.returncode == 4
    command = shlex.split(said.splitlines()[-1])
    assert command[:3] == ["ticketctl", "--port", str(daemon.port)]
    with running(tmp_path) as again, again.connect() as connection:
        settled = ctl(*command[3:], "--json", port=again.port)
        assert settled.returncode == 0
        assert connection.ask("show 1")["sold"] == 2
