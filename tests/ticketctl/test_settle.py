"""A write whose reply does not come: ticketctl sends it again if it may, or prints the command that settles it."""

import shlex
from pathlib import Path

import msgspec
import pytest

from tests.conftest import BREAK, FLOOD, SILENCE, answer, booked, ctl, lying
from tests.daemon import running, write_events

EVENT = answer(
    "event", id="1", name="E", date="2027-03-11T20:00:00Z", capacity=7, available=7, held=0, sold=0, version=1
)


TICKET = answer("ticket", id="t0", event="1", booking="b", state="redeemed")
# Each write that may be sent again, a reply to it, and the command that settles it.
WRITES = {
    "hold 1 2 --seconds 60 --booking b": (booked(state="held"), "hold 1 2 --seconds 60 --booking b"),
    "hold 1 2 --booking=-h": (booked(state="held"), "hold 1 2 --booking=-h"),
    "book 1 1 --booking=-h": (booked(), "book 1 1 --booking=-h"),
    "confirm b": (booked(), "confirm b"),
    "confirm -- -h": (booked(), "confirm -- -h"),
    "release b": (booked(state="released"), "release b"),
    "cancel b": (booked(state="cancelled"), "cancel b"),
    "cancel b --tickets=-t,u": (booked(), "cancel b --tickets=-t,u"),
    "hold 1 2 --booking b --buyer 'Anna B.'": (
        booked(state="held"),
        "hold 1 2 --booking b --buyer 'Anna B.'",
    ),
    "extend b 60": (booked(state="held"), "extend b 60"),
    "confirm b --late": (booked(), "confirm b --late"),
    "redeem t0 --scan s --event 1": (TICKET, "redeem t0 --event 1 --scan s"),
    "redeem b --scan=-s": (booked(), "redeem b --scan=-s"),
    "reissue t0": (TICKET, "reissue t0"),
}


@pytest.mark.parametrize("command", WRITES)
def test_an_idempotent_write_is_retried_once_when_cut_off(command: str) -> None:
    reply, _ = WRITES[command]
    with lying(BREAK, reply) as liar:
        done = ctl(*shlex.split(command), port=liar.port)
        assert liar.asked() == liar.asked()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", WRITES)
def test_an_unanswered_write_prints_the_command_that_settles_it(command: str) -> None:
    _, settles = WRITES[command]
    with lying(BREAK, BREAK) as liar:
        done = ctl(*shlex.split(command), port=liar.port)
        sent = liar.asked()
        assert liar.asked() == sent
        assert not liar.asked_more()
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[1] == f"  ticketctl --port {liar.port} {settles}"
    with lying() as liar:
        ctl(*shlex.split(settles), port=liar.port)
        assert liar.asked() == sent


def test_an_unanswered_hold_is_settled_with_its_generated_id(tmp_path: Path) -> None:
    with lying(BREAK, BREAK) as liar:
        done = ctl("hold", "1", "2", port=liar.port)
        sent = liar.asked()
    assert done.returncode == 4
    write_events(tmp_path, 10)
    with running(tmp_path, "--port", str(liar.port)):
        settled = ctl(*shlex.split(done.stderr.splitlines()[1])[1:])
    assert settled.stdout.startswith(f"{sent['booking']}\t1\t2\theld\t8\t")


@pytest.mark.parametrize(
    ("command", "settles"),
    [
        ("annul t0", "show t0"),
        ("annul -- -h", "show -- -h"),
        ("delete 1", "show 1"),
        ("amend 1 --capacity 7 --name 'Two Words'", "amend 1 --name 'Two Words' --capacity 7"),
        ("amend 1 --opens none --no-paused --per-buyer 4", "amend 1 --opens none --no-paused --per-buyer 4"),
    ],
)
def test_what_could_undo_another_change_is_not_retried(command: str, settles: str) -> None:
    with lying(BREAK) as liar:
        done = ctl(*shlex.split(command), port=liar.port)
        liar.asked()
        assert not liar.asked_more()
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[1] == f"  ticketctl --port {liar.port} {settles}"


@pytest.mark.parametrize(
    "answers", [(BREAK, BREAK), (SILENCE,), (BREAK, SILENCE), (FLOOD,), (b"HTTP/1.1 400 Bad Request\r\n",)]
)
def test_an_unanswered_booking_is_settled_by_the_printed_command(
    answers: tuple[bytes | None, ...], tmp_path: Path
) -> None:
    with lying(*answers) as liar:
        done = ctl("book", "1", "2", "--timeout", "0.5", port=liar.port)
        sent = liar.asked()
    assert (done.returncode, done.stdout) == (4, "")
    said, command = done.stderr.splitlines()
    assert said.endswith("Whether it was done is unknown; this settles it:")
    words = shlex.split(command)
    assert words[0] == "ticketctl"
    assert sent["booking"] in words

    write_events(tmp_path, 10)
    with running(tmp_path, "--port", str(liar.port)):
        once = ctl(*words[1:])
        again = ctl(*words[1:])
    assert once.returncode == again.returncode == 0
    assert once.stdout.startswith(f"{sent['booking']}\t1\t2\tconfirmed\t8\t")
    # The column in which a reply is marked is always there.
    assert once.stdout.split("\t")[11] == ""
    assert again.stdout.split("\t") == [*once.stdout.split("\t")[:11], "replayed", *once.stdout.split("\t")[12:]]


@pytest.mark.parametrize("name", ["""--"Fête" d'été $HOME `id`""", "-q"])
def test_the_settling_command_quotes_awkward_event_names(name: str, tmp_path: Path) -> None:
    with lying(SILENCE) as liar:
        done = ctl("create", "--timeout", "0.5", "--", name, "2027-03-11T21:00:00+01:00", "5", port=liar.port)
        sent = liar.asked()
    assert done.returncode == 4
    write_events(tmp_path)
    with running(tmp_path, "--port", str(liar.port)):
        settled = ctl(*shlex.split(done.stderr.splitlines()[1])[1:])
    assert settled.returncode == 0
    assert settled.stdout == f"{sent['id']}\t{name}\t2027-03-11T20:00:00Z\t5\t5\t0\t0\t0\t\t\tfalse\t\t0\n"


def test_an_outcome_unknown_reply_exits_with_status_4() -> None:
    with lying(answer("error", code="outcome_unknown", message="the disk failed; send it again")) as liar:
        done = ctl("book", "1", "2", "--booking", "mine", port=liar.port)
    assert done.returncode == 4
    assert done.stderr == (
        "ticketctl: the disk failed; send it again:\n"
        f"  ticketctl --port {liar.port} book 1 2 --booking mine\n"
    )  # fmt: skip


def test_a_newline_in_a_message_cannot_forge_a_settling_command() -> None:
    with lying(answer("error", code="outcome_unknown", message="see below\n  sudo reboot\n")) as liar:
        done = ctl("confirm", "b", port=liar.port)
    said, command = done.stderr.splitlines()
    assert said == r"ticketctl: see below\u000a  sudo reboot\u000a:"
    assert command == f"  ticketctl --port {liar.port} confirm b"


def test_json_gives_the_settling_command_as_a_field() -> None:
    with lying(SILENCE) as liar:
        done = ctl("book", "1", "2", "--json", "--timeout", "0.5", port=liar.port)
        sent = liar.asked()
    assert (done.returncode, done.stderr) == (4, "")
    error = msgspec.json.decode(done.stdout)
    assert (error["reply"], error["code"]) == ("error", "outcome_unknown")
    assert error["settle"] == f"ticketctl --port {liar.port} book 1 2 --booking {sent['booking']}"


@pytest.mark.parametrize("code", ["busy", "too_many_connections", "shutting_down", "storage_full", "idle_timeout"])
def test_a_refused_retry_leaves_the_booking_outcome_unknown(code: str) -> None:
    with lying(BREAK, answer("error", code=code, message="full")) as liar:
        done = ctl("book", "1", "1", port=liar.port)
        sent = liar.asked()
    assert done.returncode == 4
    assert done.stderr.endswith(f"\n  ticketctl --port {liar.port} book 1 1 --booking {sent['booking']}\n")


def test_the_settling_command_names_the_host_it_was_sent_to() -> None:
    with lying(SILENCE) as liar:
        elsewhere = {"TICKETD_HOST": "ticketd.invalid", "TICKETD_PORT": "9"}
        words = ["book", "1", "1", "--host", "127.0.0.1", "--timeout", "0.5"]
        done = ctl(*words, port=liar.port, env=elsewhere)
    assert done.stderr.splitlines()[1].startswith(f"  ticketctl --host 127.0.0.1 --port {liar.port} book ")
