"""ticketctl door when replies are lost or the daemon is away: the guest waits, and gets in once."""

import signal
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tests.conftest import SILENCE, answer, ctl, lying
from tests.daemon import Daemon, running, write_events
from tests.thief import Thief
from tests.ticketctl.test_door import EVENT, at_end_of_input, door, notice, scan, tickets_of, verdict


def test_nobody_is_turned_away_when_the_daemon_is_killed(tmp_path: Path) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as daemon, door("--json", "door", "1", port=daemon.port) as process:
        tickets = tickets_of(daemon, "1", 4, "anna")
        scan(process, tickets[0])
        assert verdict(process)["verdict"] == "OK"
        for ticket in tickets[1:3]:
            daemon.kill()
            scan(process, ticket)
            said = notice(process)
            assert f"{ticket} waits, and is sent again until it is answered: " in said
            with running(tmp_path, "--port", str(daemon.port)) as daemon:
                assert verdict(process)["verdict"] == "OK"
                # It is used now, for whoever comes next with it.
                scan(process, ticket)
                assert verdict(process)["verdict"] == "USED"
                if ticket == tickets[2]:
                    scan(process, "anna")
                    assert verdict(process)["let_in"] == 4
                    assert at_end_of_input(process)[0] == 0


@pytest.mark.parametrize("thefts", [1, 2, 3])
@pytest.mark.parametrize("whole", [False, True])
def test_a_lost_reply_turns_nobody_away_and_lets_no_second_in(daemon: Daemon, thefts: int, whole: bool) -> None:
    booking = f"stolen-{thefts}-{whole}"
    tickets = tickets_of(daemon, "1", 2, booking)
    scanned = booking if whole else tickets[0]
    with closing(Thief(daemon, "redeem", thefts)) as thief:
        done = ctl("--json", "door", "1", port=thief.port, stdin=f"{scanned}\n{scanned}\n")
    assert done.returncode == 0
    first, second = map(msgspec.json.decode, done.stdout.splitlines())
    assert [reply.get("replayed", False) for reply in thief.stolen] == [number > 0 for number in range(thefts)]
    assert (first["verdict"], first["tickets"]) == ("OK", tickets if whole else tickets[:1])
    assert (second["verdict"], second["let_in"]) == ("USED", len(first["tickets"]))
    # After one lost reply, door asks again at once and says nothing.
    assert done.stderr.count("waits") == (thefts > 1)


@pytest.mark.parametrize("code", ["busy", "storage_full", "shutting_down", "outcome_unknown", "too_many_connections"])
def test_a_daemon_that_cannot_answer_now_makes_the_guest_wait(code: str) -> None:
    error = answer("error", code=code, message="not now", retry_after=0.01)
    redeemed = answer("ticket", id="t", event="1", booking="b", state="redeemed", redeemed_at="2026-03-11T20:00:00Z")
    with lying(EVENT, error, error, redeemed) as liar:
        done = ctl("door", "1", port=liar.port, stdin="t\n")
        liar.asked()
        first, second, third = (liar.asked() for _ in range(3))
    assert (done.returncode, done.stdout) == (0, "OK\tt\t1\n")
    assert first["scan"]
    assert first == second == third
    assert done.stderr == "ticketctl: t waits, and is sent again until it is answered: not now\n"


def test_an_error_without_a_verdict_shows_and_the_door_goes_on() -> None:
    bug = answer("error", code="internal", message="a bug")
    redeemed = answer("ticket", id="u", event="1", booking="b", state="redeemed", redeemed_at="2026-03-11T20:00:00Z")
    with lying(EVENT, bug, redeemed) as liar:
        done = ctl("--json", "door", "1", port=liar.port, stdin="t\nu\n")
    first, second = map(msgspec.json.decode, done.stdout.splitlines())
    assert (first["verdict"], first["code"], first["message"]) == ("ERROR", "internal", "a bug")
    assert (second["verdict"], second["let_in"]) == ("OK", 1)


def test_a_pipe_gets_the_message_of_an_error_without_a_verdict() -> None:
    with lying(EVENT, answer("error", code="internal", message="a bug")) as liar:
        done = ctl("door", "1", port=liar.port, stdin="t\n")
    assert done.stdout == "ERROR\tt\t0\ta bug\n"
    # A script must not take this for a door that worked.
    assert done.returncode == 1


def test_ctrl_c_while_a_guest_waits_prints_how_to_settle_it() -> None:
    with lying(EVENT, SILENCE) as liar, door("door", "1", port=liar.port) as process:
        scan(process, "t")
        liar.asked()
        sent = liar.asked()
        process.send_signal(signal.SIGINT)
        status, out, err = at_end_of_input(process)
    assert (status, out) == (130, "")
    assert err.endswith(f"\n  ticketctl --port {liar.port} redeem t --event 1 --scan {sent['scan']}\n")


def test_ctrl_c_before_a_scan_was_sent_leaves_nothing_to_settle(tmp_path: Path) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as daemon, door("door", "1", port=daemon.port) as process:
        [ticket] = tickets_of(daemon, "1", 1, "anna")
        scan(process, ticket)
        assert process.stdout
        process.stdout.readline()
        daemon.kill()
        scan(process, ticket)
        notice(process)
        process.send_signal(signal.SIGINT)
        # Nothing was sent, so there is nothing to settle.
        assert at_end_of_input(process) == (130, "", "")
