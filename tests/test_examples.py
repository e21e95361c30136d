"""The examples do what they say: each is run as a program against a real daemon."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.daemon import Daemon, running, write_events
from tests.thief import Thief

EXAMPLES = Path(__file__).parent.parent / "examples"
SECONDS_MAX = 30
NODE = shutil.which("node")

needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    write_events(tmp_path, 5, 1_000)
    with running(tmp_path) as daemon:
        yield daemon


def run(*command: str | int, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        cwd=EXAMPLES,
        check=False,
    )


def node(script: str, port: int) -> Any:
    """Run a script that has a client of this port, and return the JSON that it prints."""
    client = f'import {{ Ticketd }} from "{EXAMPLES}/ticketd.mjs";\nconst ticketd = new Ticketd({port});'
    done = run(str(NODE), "--input-type=module", "--eval", f"{client}\n{script}\nticketd.close();")
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout)


@pytest.fixture(
    params=[
        pytest.param([sys.executable, "checkout.py"], id="python"),
        pytest.param([str(NODE), "checkout.mjs"], id="node", marks=needs_node),
    ]
)
def checkout(request: pytest.FixtureRequest) -> list[str]:
    """The command line of a checkout, without its arguments."""
    command: list[str] = request.param
    return command


def test_a_checkout_sells_tickets_until_there_are_no_more(daemon: Daemon, checkout: list[str]) -> None:
    sold: list[str] = []
    for _ in range(2):
        done = run(*checkout, "1", 2, daemon.port)
        assert done.returncode == 0, done.stderr
        assert "is paid" in done.stderr
        sold += done.stdout.split()
    with daemon.connect() as connection:
        for ticket in sold:
            assert connection.ask(f"show {ticket}")["state"] == "valid"
        assert connection.ask("show 1")["sold"] == len(set(sold)) == 4
    done = run(*checkout, "1", 2, daemon.port)
    assert (done.returncode, done.stdout) == (1, "")
    assert "event 1 has 1 left" in done.stderr


def test_a_door_in_python_lets_in_each_ticket_once_through_lost_replies(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        single, other, *_ = connection.ask("book 1 3 --booking anna")["tickets"]
        connection.ask("book 2 1 --booking elsewhere")
    scans = "\n".join([single, single, "anna", other, "elsewhere", ""])
    with closing(Thief(daemon, "redeem", 2)) as thief:
        done = run(sys.executable, "door.py", "1", thief.port, stdin=scans)
    assert (done.returncode, done.stderr) == (0, "")
    assert [reply.get("replayed", False) for reply in thief.stolen] == [False, True]
    assert done.stdout.splitlines() == [
        f"{single}: let in 1",
        f"{single}: already_redeemed",
        "anna: let in 2",
        f"{other}: already_redeemed",
        "elsewhere: wrong_event",
    ]


@needs_node
def test_in_node_each_of_many_requests_gets_its_own_reply(daemon: Daemon) -> None:
    script = """
    const bookings = [...Array(300).keys()].map((number) => `b-${number}`);
    const replies = await Promise.all(bookings.flatMap((booking) => [
      ticketd.ask({ cmd: "book", event: "2", quantity: 1, booking }),
      ticketd.ask({ cmd: "show", id: booking, kind: "booking" }),
      ticketd.ask({ cmd: "book", event: booking, quantity: 1 }).catch((error) => error),
    ]));
    console.log(JSON.stringify(replies.map((reply) => reply.id ?? reply.code)));
    """
    expected = [[f"b-{number}", f"b-{number}", "event_not_found"] for number in range(300)]
    assert node(script, daemon.port) == [each for row in expected for each in row]


@pytest.mark.parametrize("cmd", ["hold", "confirm"])
def test_a_checkout_sells_once_through_lost_replies(daemon: Daemon, checkout: list[str], cmd: str) -> None:
    with closing(Thief(daemon, cmd, 3)) as thief:
        done = run(*checkout, "1", 2, thief.port)
    assert done.returncode == 0, done.stderr
    assert [reply.get("replayed", False) for reply in thief.stolen] == [False, True, True]
    with daemon.connect() as connection:
        assert connection.ask("show 1")["sold"] == len(done.stdout.split()) == 2


PAYING = """
import sys
import checkout

class Client(checkout.Client):
    def __init__(self, host, port):
        super().__init__(host, port, timeout=0.5)

def pay(order):
    print("paying", flush=True)
    return bool(sys.stdin.readline())

checkout.Client, checkout.pay = Client, pay
sys.exit(checkout.main(*sys.argv[1:]))
"""


def test_a_buyer_who_paid_while_the_daemon_was_gone_gets_the_tickets(tmp_path: Path) -> None:
    write_events(tmp_path, 5)
    with running(tmp_path) as daemon:
        words = (sys.executable, "-c", PAYING, "1", "2", str(daemon.port), "127.0.0.1", "order-1")
        with subprocess.Popen(
            words, cwd=EXAMPLES, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as program:
            assert program.stdin
            assert program.stdout
            assert program.stderr
            try:
                assert program.stdout.readline() == "paying\n"
                daemon.end()
                program.stdin.write("paid\n")
                program.stdin.flush()
                # Past the time for which the client itself tries again.
                assert program.stderr.readline() == "order order-1 is held\n"
                assert program.stderr.readline().startswith("once more: ")
                with running(tmp_path, "--port", str(daemon.port)) as again:
                    out, err = program.communicate(timeout=SECONDS_MAX)
                    assert program.returncode == 0, err
                    # An order that is done already is not sold again.
                    once_more = run(*(sys.executable, "checkout.py", "1", 2, again.port, "127.0.0.1", "order-1"))
                    assert out.split() == once_more.stdout.split()
                    with again.connect() as connection:
                        assert connection.ask("show 1")["sold"] == 2
            finally:
                program.kill()


def test_a_buyer_in_line_keeps_the_place_through_a_crash_and_gets_the_tickets(daemon: Daemon) -> None:
    words = (sys.executable, "waiting.py", "1", "2", str(daemon.port), "127.0.0.1", "order-1")
    in_line = "order order-1 is number 1 in line\n"
    with daemon.connect() as connection:
        connection.ask("book 1 5 --booking all")
        for last in (False, True):
            with subprocess.Popen(
                words, cwd=EXAMPLES, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as program:
                try:
                    assert program.stderr
                    assert program.stderr.readline() == in_line
                    if last:
                        connection.ask("cancel all")
                        out, err = program.communicate(timeout=SECONDS_MAX)
                        assert program.returncode == 0, err
                finally:
                    program.kill()
            connection.ask("wait 1 2 --booking later")
        assert err.replace(in_line, "").splitlines() == ["order order-1 is held", "order order-1 is paid"]
        assert connection.ask("show order-1")["tickets"] == out.split()
        assert connection.ask("show later")["state"] == "held"


def test_whoever_interrupts_the_waiting_is_told_how_to_go_on(daemon: Daemon) -> None:
    words = ("waiting.py", "1", "2", str(daemon.port), "127.0.0.1", "order-2")
    with daemon.connect() as connection:
        connection.ask(f"book 1 {connection.ask('show 1')['available']}")
        with subprocess.Popen(
            (sys.executable, *words), cwd=EXAMPLES, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as program:
            try:
                assert program.stderr
                assert program.stderr.readline().endswith(" in line\n")
                program.send_signal(signal.SIGINT)
                _, err = program.communicate(timeout=SECONDS_MAX)
                assert err == f"order order-2 keeps its place; to go on: python {' '.join(words)}\n"
                assert program.returncode == 130
            finally:
                program.kill()
        assert connection.ask("show order-2")["state"] == "waiting"


def test_an_example_says_what_it_needs() -> None:
    done = run(sys.executable, "waiting.py")
    assert done.returncode == 1
    assert "python waiting.py EVENT QUANTITY [PORT [HOST [ORDER]]]" in done.stderr


@needs_node
def test_in_node_an_error_that_nobody_asked_for_is_no_reply(tmp_path: Path) -> None:
    script = """
    await ticketd.ask({ cmd: "ping" });
    // Past the time that a connection may be silent.
    await new Promise((resolve) => setTimeout(resolve, 600));
    const first = await ticketd.settle({ cmd: "book", event: "1", quantity: 1, booking: "late" });
    console.log(JSON.stringify([first.id, first.replayed ?? false]));
    """
    write_events(tmp_path, 5)
    with running(tmp_path, "--idle-seconds-max", "0.2") as daemon:
        assert node(script, daemon.port) == ["late", False]


@needs_node
def test_in_node_what_is_on_the_way_when_the_daemon_dies_is_lost(daemon: Daemon) -> None:
    script = f"""
    await ticketd.ask({{ cmd: "ping" }});
    process.kill({daemon.process.pid}, "SIGSTOP");
    const asked = ticketd.ask({{ cmd: "ready" }}).then(() => "answered", (error) => error.constructor.name);
    process.kill({daemon.process.pid}, "SIGKILL");
    console.log(JSON.stringify(await asked));
    """
    assert node(script, daemon.port) == "Lost"
