"""Who ticketctl says it is: the token comes from a file, goes to the daemon only, and is never shown."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tests.conftest import BREAK, SECONDS_MAX, SILENCE, answer, booked, ctl, environment, interrupt, lying, start_ctl
from tests.guarded import Guarded, guarded, write_token
from ticketctl.client import CannotConnectError, Client
from ticketctl.link import Token
from ticketd.wire.replies import PongReply
from ticketd.wire.requests import List, Ping

SECRET = "Sn0wWh1te-and-the-seven_dwarfs-in-the-woods"
WELCOME = answer("welcome", name="shop", role="seller")
UNAUTHORIZED = answer("error", code="unauthorized", message="this token is not valid; ask for another one")
# A connection to this address is one to 127.0.0.1, but does not look like it.
LOOKS_REMOTE = "::ffff:127.0.0.1"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A daemon with an access file, for all tests that change no tokens."""
    with guarded(tmp_path_factory.mktemp("shop"), "--log-level", "debug") as shop:
        yield shop


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    return write_token(tmp_path / "token", SECRET)


def test_each_role_may_do_what_is_its_own(shop: Guarded) -> None:
    sold = ctl("--token-file", shop.token_file("seller"), "book", "1", "1", "--booking", "anna", port=shop.port)
    assert sold.stdout.startswith("anna\t1\t1\tconfirmed\t")
    ticket = sold.stdout.split("\t")[6]
    let_in = ctl("--token-file", shop.token_file("door"), "redeem", ticket, port=shop.port)
    assert let_in.stdout.split("\t")[:4] == [ticket, "1", "anna", "redeemed"]
    done = ctl("--token-file", shop.token_file("reader"), "book", "1", "1", port=shop.port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ticketctl: unauthorized: book needs the role seller, and you are reader\n"


def test_without_a_token_nothing_is_done(shop: Guarded) -> None:
    give = "give your token with --token-file (or TICKETD_TOKEN_FILE)"
    for words, why in (
        (["list"], f"list needs the role reader; {give}"),
        (["door", "1"], f"door needs the role door; {give}"),
        # The daemon answers the ping that comes before it, and then hears no more of a stranger.
        (["watch"], give),
    ):
        done = ctl(*words, port=shop.port)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"ticketctl: unauthorized: {why}\n"
    assert give in msgspec.json.decode(ctl("--json", "list", port=shop.port).stdout)["message"]


def test_the_environment_names_the_token_file_and_the_flag_wins(shop: Guarded) -> None:
    env = {"TICKETD_TOKEN_FILE": shop.token_file("reader")}
    assert ctl("stats", port=shop.port, env=env).returncode == 1
    assert ctl("list", port=shop.port, env=env).returncode == 0
    assert ctl("--token-file", shop.token_file("admin"), "stats", port=shop.port, env=env).returncode == 0


def test_a_token_may_come_from_a_pipe(shop: Guarded) -> None:
    done = ctl("--token-file", "/dev/stdin", "list", port=shop.port, stdin=shop.secrets["reader"] + "\r\n")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o610])
def test_a_token_file_that_others_can_use_is_refused(mode: int, token_file: str) -> None:
    Path(token_file).chmod(mode)
    with lying() as liar:
        done = ctl("--token-file", token_file, "list", port=liar.port)
        assert not liar.asked_more()
    assert (done.returncode, done.stdout) == (2, "")
    # The usage of ticketctl would hide it.
    assert done.stderr == (
        f"ticketctl: others can read the token file {token_file}; take that away: chmod 600 {token_file}\n"
    )


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"short", SECRET.encode() + b" " + b"x" * 20, SECRET.encode() + b"\n\nmore", b"\xff" * 40]
)
def test_a_token_file_with_anything_else_is_refused(content: bytes, token_file: str) -> None:
    Path(token_file).write_bytes(content)
    with lying() as liar:
        done = ctl("--token-file", token_file, "list", port=liar.port)
        assert not liar.asked_more()
    assert (done.returncode, done.stdout) == (2, "")
    assert f"the token file {token_file} must have one line" in done.stderr
    assert SECRET[:8] not in done.stderr


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name, why in ((str(tmp_path / "none"), "no such file or directory"), (str(tmp_path), "is a directory")):
        done = ctl("--token-file", name, "list", port=1)
        assert done.returncode == 2
        assert f"cannot read the token file {name} ({why})" in done.stderr


def test_a_file_that_is_named_by_nothing_is_refused() -> None:
    for variable in ("TICKETD_TOKEN_FILE", "TICKETD_TLS_CA"):
        done = ctl("list", port=1, env={variable: ""})
        why = f"{variable} is set but empty; unset it, or name a file"
        assert (done.returncode, done.stderr) == (2, f"ticketctl: {why}\n")
    for option in ("--token-file", "--tls-ca"):
        done = ctl(option, "", "list", port=1)
        assert (done.returncode, done.stderr) == (2, f"ticketctl: {option} needs the name of a file\n")


def test_a_token_in_the_place_of_its_file_is_not_repeated() -> None:
    given: list[tuple[list[str], dict[str, str]]] = [
        (["--token-file", SECRET, "list"], {}),
        (["list"], {"TICKETD_TOKEN_FILE": SECRET}),
        ([f"--token={SECRET}", "list"], {}),
        (["--token", SECRET, "list"], {}),
        (["list", f"--token={SECRET}"], {}),
    ]
    for words, env in given:
        done = ctl(*words, port=1, env=env)
        assert done.returncode == 2
        assert SECRET[:8] not in done.stdout + done.stderr, words


def test_a_token_goes_unencrypted_to_this_machine_only(token_file: str) -> None:
    with lying(WELCOME, answer("pong")) as liar:
        words = ("--host", LOOKS_REMOTE, "--token-file", token_file)
        done = ctl(*words, "book", "1", "1", port=liar.port)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == (
            f"ticketctl: the token would go to [{LOOKS_REMOTE}]:{liar.port} unencrypted, for others to read;"
            " use --tls, or --plain-token\n"
        )
        assert not liar.asked_more()
        allowed = ctl(*words, "--plain-token", "ping", port=liar.port)
        assert (allowed.returncode, allowed.stdout) == (0, "pong\n")
        assert liar.asked() == {"cmd": "auth", "token": SECRET}


def test_a_refused_token_says_so_and_nothing_more_is_sent(shop: Guarded, token_file: str) -> None:
    done = ctl("--token-file", token_file, "book", "1", "1", port=shop.port)
    assert (done.returncode, done.stdout) == (1, "")
    why = f"the token in {token_file} is not valid; ask whoever runs the daemon for another one"
    assert done.stderr == f"ticketctl: unauthorized: {why}\n"
    with lying(UNAUTHORIZED) as liar:
        ctl("--token-file", token_file, "book", "1", "1", port=liar.port)
        assert liar.asked()["cmd"] == "auth"
        assert not liar.asked_more()


@pytest.mark.parametrize("command", [["import", "-"], ["export", "events"], ["watch"], ["door", "1"], ["bookings"]])
def test_every_command_says_that_the_token_is_refused(shop: Guarded, token_file: str, command: list[str]) -> None:
    counts = {"capacity": 1, "available": 1, "held": 0, "sold": 0, "version": 0}
    events = msgspec.json.encode({"id": "n", "name": "N", "date": "2037-03-11T20:00:00Z", **counts})
    done = ctl("--token-file", token_file, *command, port=shop.port, stdin=events)
    assert done.returncode == 1
    assert f"the token in {token_file} is not valid" in done.stderr + done.stdout


def test_what_is_refused_is_named_as_it_was_typed(shop: Guarded) -> None:
    seller, reader = ("--token-file", shop.token_file("seller")), ("--token-file", shop.token_file("reader"))
    give = "give your token with --token-file (or TICKETD_TOKEN_FILE)"
    for words, why in (
        ([*seller, "report", "1"], "report needs the role manager, and you are seller"),
        ([*seller, "export", "bookings"], "export needs the role manager, and you are seller"),
        ([*reader, "export", "tickets", "--event", "1"], "export needs the role manager, and you are reader"),
        (["report", "1"], f"report needs the role manager; {give}"),
        (["export", "events"], f"export needs the role reader; {give}"),
        ([*seller, "import", "-"], "import needs the role manager, and you are seller"),
    ):
        events = (
            b'{"events":[{"ID":"9","Name":"N","Date":"2037-03-11T20:00:00Z","TotalTickets":9,"AvailableTickets":9}]}'
        )
        done = ctl(*words, port=shop.port, stdin=events)
        assert (done.returncode, done.stderr) == (1, f"ticketctl: unauthorized: {why}\n")


def test_after_a_lost_connection_the_token_is_sent_again(token_file: str) -> None:
    with lying(WELCOME, BREAK, WELCOME, booked()) as liar:
        done = ctl("--token-file", token_file, "book", "1", "1", port=liar.port)
        asked = [liar.asked() for _ in range(4)]
    assert (done.returncode, done.stderr) == (0, "")
    assert asked[0] == asked[2] == {"cmd": "auth", "token": SECRET}
    assert asked[1] == asked[3]


def test_a_broken_connection_during_auth_is_no_unknown_outcome(token_file: str) -> None:
    with lying(BREAK, BREAK) as liar:
        done = ctl("--token-file", token_file, "book", "1", "1", port=liar.port)
        assert liar.asked() == liar.asked() == {"cmd": "auth", "token": SECRET}
    assert done.returncode == 3
    with lying(BREAK, WELCOME, booked()) as liar:
        assert ctl("--token-file", token_file, "book", "1", "1", port=liar.port).returncode == 0


@pytest.mark.parametrize("second", [[UNAUTHORIZED], [WELCOME, UNAUTHORIZED]])
def test_a_refusal_says_nothing_about_the_try_before(second: list[bytes], token_file: str) -> None:
    with lying(WELCOME, BREAK, *second) as liar:
        done = ctl("--token-file", token_file, "book", "1", "1", "--booking", "b", port=liar.port)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.endswith(
        "Whether it was done is unknown; this settles it:\n"
        f"  ticketctl --port {liar.port} --token-file {token_file} book 1 1 --booking b\n"
    )


def test_the_settling_command_repeats_what_says_who_one_is(token_file: str, tmp_path: Path) -> None:
    awkward = write_token(tmp_path / "-my token", SECRET)
    options = {
        (f"--token-file={token_file}", "--plain-token"): f"--plain-token --token-file {token_file}",
        (f"--token-file={awkward}",): f"--token-file '{awkward}'",
    }
    for given, repeated in options.items():
        with lying(WELCOME, BREAK, WELCOME, BREAK) as liar:
            done = ctl(*given, "book", "1", "1", "--booking", "b", port=liar.port)
        settling = done.stderr.splitlines()[1]
        assert settling == f"  ticketctl --port {liar.port} {repeated} book 1 1 --booking b"
    with lying(WELCOME, BREAK, WELCOME, BREAK) as liar:
        env = {"TICKETD_TOKEN_FILE": token_file}
        done = ctl("book", "1", "1", "--booking", "b", port=liar.port, env=env)
    assert done.stderr.splitlines()[1] == f"  ticketctl --port {liar.port} book 1 1 --booking b"


def test_a_token_file_that_begins_with_a_dash_can_be_named_again(tmp_path: Path) -> None:
    write_token(tmp_path / "-t", SECRET)
    with lying(WELCOME, BREAK, WELCOME, BREAK) as liar:
        done = subprocess.run(
            [sys.executable, "-m", "ticketctl", "--port", str(liar.port), "--token-file=-t", "confirm", "b"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=SECONDS_MAX,
        )
    assert done.stderr.splitlines()[1] == f"  ticketctl --port {liar.port} --token-file=-t confirm b"


def test_no_request_goes_where_authentication_was_cut_short() -> None:
    with lying(SILENCE, WELCOME, answer("pong")) as liar:
        client = Client("127.0.0.1", liar.port, timeout=0.5, token=Token(SECRET))
        with closing(client):
            with pytest.raises(CannotConnectError):
                list(client.ask_all([List()]))
            client.timeout = SECONDS_MAX
            assert client.ask(Ping()) == PongReply()
        assert [liar.asked()["cmd"] for _ in range(3)] == ["auth", "auth", "ping"]


@pytest.mark.parametrize("command", [["auth"], ["auto", "auth"], ["AUTH"]])
@pytest.mark.parametrize("token", [SECRET, "too-short", f"{SECRET}!", f"--token={SECRET}"])
def test_a_typed_token_is_refused_and_not_repeated(command: list[str], token: str) -> None:
    rest = ["1", "0"] if command[0] == "auto" else []
    with lying() as liar:
        typed = ctl(*command, token, *rest, port=liar.port)
        in_script = ctl(port=liar.port, stdin=" ".join([*command, token, *rest]))
        assert not liar.asked_more()
    for done in (typed, in_script):
        assert (done.returncode, done.stdout) == (2, "")
        assert "a token is not typed: put it into a file that only you can read" in done.stderr
        assert token not in done.stderr


def test_a_token_is_seen_neither_in_ps_nor_in_the_log(shop: Guarded) -> None:
    secret = shop.secrets["reader"]
    watching = start_ctl("--token-file", shop.token_file("reader"), "--json", "watch", port=shop.port)
    assert watching.stdout
    assert "event" in watching.stdout.readline()
    for file in ("cmdline", "environ"):
        assert secret.encode() not in Path(f"/proc/{watching.pid}/{file}").read_bytes()
    assert interrupt(watching)[0] == 130
    with shop.daemon.connect() as connection:
        assert connection.ask(f"auth {secret}x")["code"] == "unauthorized"
    ctl("--token-file", shop.token_file("reader"), "book", "1", "1", port=shop.port)
    shop.reload()
    assert [line for line in shop.daemon.lines if secret[:20] in line] == []


def test_a_token_does_not_show_what_it_is() -> None:
    assert SECRET not in f"{Token(SECRET)} {Token(SECRET)!r} {[Token(SECRET)]}"


def test_watch_ends_when_its_token_is_removed(tmp_path: Path) -> None:
    with guarded(tmp_path) as shop:
        watching = start_ctl("--token-file", shop.token_file("reader"), "--json", "watch", "1", port=shop.port)
        assert watching.stdout
        assert msgspec.json.decode(watching.stdout.readline())["available"] == 100
        ctl("--token-file", shop.token_file("seller"), "book", "1", "2", port=shop.port)
        assert msgspec.json.decode(watching.stdout.readline())["available"] == 98
        shop.remove("reader")
        out, _ = watching.communicate(timeout=SECONDS_MAX)
    assert watching.returncode == 1
    assert msgspec.json.decode(out)["code"] == "unauthorized"


def test_a_door_needs_the_role_and_says_who_let_in(shop: Guarded) -> None:
    ctl("--token-file", shop.token_file("seller"), "book", "1", "2", "--booking", "dora", port=shop.port)
    refused = ctl("--token-file", shop.token_file("seller"), "door", "1", port=shop.port, stdin="dora\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "ticketctl: unauthorized: door needs the role door, and you are seller (seller)\n"
    done = ctl("--token-file", shop.token_file("door"), "door", "1", port=shop.port, stdin="dora\ndora\n")
    assert done.returncode == 0
    verdicts = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert verdicts[0] == "OK 2 TICKETS"
    assert verdicts[1].startswith("USED ")


@pytest.mark.parametrize("option", [[], ["--token-file"]])
def test_ping_does_not_wait_for_the_import_of_tls(shop: Guarded, option: list[str]) -> None:
    program = (
        "import sys; from ticketctl.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, sorted({'ssl', 'asyncio', 'rich'} & set(sys.modules)))"
    )
    words = [*option, *([shop.token_file("reader")] if option else []), "ping"]
    ran = subprocess.run(
        [sys.executable, "-c", program, "--port", str(shop.port), *words],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=SECONDS_MAX,
    )
    assert ran.stdout == "pong\n0 []\n", ran.stderr
