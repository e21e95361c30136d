"""ticketctl over TLS: it talks only to whom it can check, and says what is wrong otherwise."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest

from tests.conftest import BREAK, Liar, answer, ctl, interrupt, start_ctl, terminal
from tests.guarded import Guarded, certificate, guarded, write_token
from tests.ticketctl.test_door import at_end_of_input, door, notice, scan, verdict

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

SECRET = "Sn0wWh1te-and-the-seven_dwarfs-in-the-woods"
WELCOME = answer("welcome", name="shop", role="seller")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[str, str]:
    """The certificate of the daemon, for 127.0.0.1, and its key."""
    return certificate(folder, "daemon", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def shop(folder: Path, pair: tuple[str, str]) -> Iterator[Guarded]:
    """A daemon that speaks TLS, with an access file."""
    with guarded(folder, "--tls-certificate", pair[0], "--tls-key", pair[1], "--log-level", "debug") as shop:
        yield shop


class TlsLiar(Liar):
    """A Liar that speaks TLS."""

    def __init__(self, pair: tuple[str, str], *answers: bytes | None) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*pair)
        super().__init__(*answers)

    def _talk(self, connection: socket.socket) -> None:
        # At its end it connects to itself without TLS.
        with suppress(OSError), self._context.wrap_socket(connection, server_side=True) as encrypted:
            super()._talk(encrypted)


def test_ticketctl_sells_over_tls_by_flags_or_environment(shop: Guarded, pair: tuple[str, str]) -> None:
    token = shop.token_file("seller")
    by_flags = ctl("--tls-ca", pair[0], "--token-file", token, "book", "1", "2", "--booking", "anna", port=shop.port)
    assert (by_flags.returncode, by_flags.stderr) == (0, "")
    assert by_flags.stdout.startswith("anna\t1\t2\tconfirmed\t")
    env = {"TICKETD_TLS_CA": pair[0], "TICKETD_TOKEN_FILE": token}
    for words in ((), ("--tls",)):
        assert ctl(*words, "show", "anna", port=shop.port, env=env).stdout.startswith("anna\t1\t2\tconfirmed\t")


def test_a_certificate_that_nobody_vouches_for_is_refused(shop: Guarded, folder: Path) -> None:
    other, _ = certificate(folder, "other", "IP:127.0.0.1")
    for words in (("--tls-ca", other), ("--tls",)):
        done = ctl(*words, "--token-file", shop.token_file("seller"), "book", "1", "1", port=shop.port)
        assert (done.returncode, done.stdout) == (3, "")
        said = f"ticketctl: cannot talk to 127.0.0.1:{shop.port}: its certificate is not accepted: self"
        assert done.stderr.startswith(said)
        assert done.stderr.endswith(" certificate; if it is yours, trust a copy of it with --tls-ca FILE\n")


def test_a_certificate_of_another_host_is_refused(shop: Guarded, pair: tuple[str, str]) -> None:
    words = ("--host", "localhost", "--tls-ca", pair[0], "--token-file", shop.token_file("seller"))
    done = ctl(*words, "list", port=shop.port)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"ticketctl: cannot talk to localhost:{shop.port}: its certificate is not accepted: hostname mismatch,"
        " certificate is not valid for 'localhost'; connect by a name that is in it\n"
    )


def test_nothing_is_sent_to_whom_cannot_be_checked(folder: Path, pair: tuple[str, str], tmp_path: Path) -> None:
    other, _ = certificate(folder, "another", "IP:127.0.0.1")
    token = write_token(tmp_path / "token", SECRET)
    with closing(TlsLiar(pair, WELCOME)) as liar:
        assert ctl("--tls-ca", other, "--token-file", token, "book", "1", "1", port=liar.port).returncode == 3
        assert not liar.asked_more()


def test_a_plain_client_on_a_tls_port_is_told_so(shop: Guarded) -> None:
    reader = ("--token-file", shop.token_file("reader"))
    for words in (["list"], [*reader, "list"], [*reader, "watch"], [*reader, "door", "1"], [*reader, "bookings"]):
        done = ctl(*words, port=shop.port)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == "ticketctl: bad_frame: this port speaks TLS; connect with TLS, as ticketctl --tls does\n"


def test_tls_on_a_plain_port_is_told_so(pair: tuple[str, str], tmp_path: Path) -> None:
    with guarded(tmp_path) as shop:
        words = ("--tls-ca", pair[0], "--token-file", shop.token_file("reader"))
        done = ctl(*words, "list", port=shop.port)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"ticketctl: cannot talk to 127.0.0.1:{shop.port}: it does not speak TLS;"
        " leave out --tls and --tls-ca (TICKETD_TLS_CA)\n"
    )


def test_whoever_says_nothing_to_tls_cannot_outlast_the_timeout(pair: tuple[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        done = ctl("--timeout", "0.5", "--tls-ca", pair[0], "list", port=port)
    assert (done.returncode, done.stdout) == (3, "")
    assert "it did not answer TLS in time" in done.stderr


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot read the certificates in {} (no such file or directory)"),
        ("", "{} has no certificate in it; it must be a PEM file"),
        (
            "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
            "{} has a damaged certificate in it; it must be a PEM file",
        ),
    ],
)
def test_a_file_without_certificates_is_named(content: str | None, why: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    for words, env in ((("--tls-ca", str(file)), {}), ((), {"TICKETD_TLS_CA": str(file)})):
        done = ctl(*words, "list", port=1, env=env)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"ticketctl: {why.format(file)}\n"


def test_the_settling_command_repeats_whom_to_trust(pair: tuple[str, str], tmp_path: Path) -> None:
    token = write_token(tmp_path / "token", SECRET)
    with closing(TlsLiar(pair, WELCOME, BREAK, WELCOME, BREAK)) as liar:
        words = ("--tls", "--tls-ca", pair[0], "--token-file", token)
        done = ctl(*words, "book", "1", "1", "--booking", "b", port=liar.port)
        asked = [liar.asked() for _ in range(4)]
    assert asked[0] == asked[2] == {"cmd": "auth", "token": SECRET}
    assert asked[1] == asked[3]
    assert done.returncode == 4
    repeated = f"--tls --tls-ca {pair[0]} --token-file {token}"
    assert done.stderr.splitlines()[1] == f"  ticketctl --port {liar.port} {repeated} book 1 1 --booking b"


def test_watch_and_the_shell_work_over_tls(shop: Guarded, pair: tuple[str, str], tmp_path: Path) -> None:
    options = ("--tls-ca", pair[0], "--token-file", shop.token_file("seller"))
    watching = start_ctl(*options, "--json", "watch", "2", port=shop.port)
    assert watching.stdout
    assert msgspec.json.decode(watching.stdout.readline())["available"] == 200
    with terminal(*options, port=shop.port, env={"XDG_STATE_HOME": str(tmp_path)}) as screen:
        screen.expect_exact("Type help")
        # The second one goes over the same connection.
        for left in (199, 198):
            screen.send("book 2 1\r")
            screen.expect_exact(f"{left} left")
            assert msgspec.json.decode(watching.stdout.readline())["available"] == left
    assert interrupt(watching)[0] == 130


def test_a_door_over_tls_works_on_when_the_daemon_is_back(pair: tuple[str, str], tmp_path: Path) -> None:
    tls = ("--tls-certificate", pair[0], "--tls-key", pair[1])
    with guarded(tmp_path, *tls) as shop:
        seller = ("--tls-ca", pair[0], "--token-file", shop.token_file("seller"))
        ctl(*seller, "book", "1", "1", "--booking", "anna", port=shop.port)
        ctl(*seller, "book", "1", "1", "--booking", "ben", port=shop.port)
        options = ("--tls-ca", pair[0], "--token-file", shop.token_file("door"), "--json")
        with door(*options, "door", "1", port=shop.port) as process:
            scan(process, "anna")
            assert verdict(process)["verdict"] == "OK"
            shop.daemon.kill()
            scan(process, "ben")
            assert "ben waits, and is sent again until it is answered: " in notice(process)
            with shop.again(*tls):
                assert verdict(process)["let_in"] == 2
                assert at_end_of_input(process)[0] == 0
