"""What whoever starts the daemon is told about who can do what: flags, refusals and warnings."""

import re
from pathlib import Path

import pytest

from tests.daemon import running, write_events
from tests.secured import EC, LOCKED_KEY, RSA, over_tls, plain, tls_context, write_access
from tests.test_cli import ended
from ticketd.config import STATUS_CANNOT_LISTEN, STATUS_USAGE

NO_PEM = Path(__file__).with_name("daemon.py")
CERTIFICATE_ALONE = "a certificate without its key"
# An address that no machine has: a daemon that may listen on it cannot.
ELSEWHERE = "192.0.2.1"


def start(folder: Path, *arguments: str, **env: str) -> tuple[int, list[str]]:
    return ended("--port", "0", "--events", str(folder / "events.json"), *arguments, **env)


@pytest.mark.parametrize("host", [ELSEWHERE, "0.0.0.0", "::", "::ffff:127.0.0.1", "2001:db8::1"])
@pytest.mark.parametrize("flags", [(), ("--tls-certificate", str(RSA)), ("--plain-tokens",)], ids=["", "TLS", "plain"])
def test_other_addresses_are_refused_with_both_ways_out(tmp_path: Path, host: str, flags: tuple[str, ...]) -> None:
    status, lines = start(tmp_path, "--host", host, *flags)
    assert status == STATUS_CANNOT_LISTEN
    [told] = [line for line in lines if line.startswith("ticketd: ")]
    assert host in told
    assert "--access FILE" in told
    assert "--open-to-the-network" in told
    assert "ready" not in "".join(lines)


def test_what_is_open_to_the_network_says_so_at_every_start(tmp_path: Path) -> None:
    for _ in range(2):
        _, lines = start(tmp_path, "--host", ELSEWHERE, "--open-to-the-network")
        [warning] = [line for line in lines if "open to the network" in line]
        assert "WARNING" in warning
        assert f"whoever reaches {ELSEWHERE}:0 can sell, cancel and let in" in warning


@pytest.mark.parametrize(
    ("flags", "warned"),
    [((), True), (("--plain-tokens",), False), (("--tls-certificate", str(RSA)), False)],
    ids=["plain", "allowed", "TLS"],
)
def test_it_says_that_tokens_need_tls(tmp_path: Path, flags: tuple[str, ...], warned: bool) -> None:
    file = write_access(tmp_path / "access.json")
    _, lines = start(tmp_path, "--host", ELSEWHERE, "--access", file, *flags)
    said = [line for line in lines if "takes no tokens from other machines" in line]
    assert bool(said) == warned
    assert all("--tls-certificate" in line and "--plain-tokens" in line for line in said)
    assert not [line for line in lines if "open to the network" in line]


@pytest.mark.parametrize("flags", [(), ("--open-to-the-network",)])
def test_on_loopback_everybody_may_do_everything(tmp_path: Path, flags: tuple[str, ...]) -> None:
    write_events(tmp_path, 5)
    with running(tmp_path, "--host", "127.0.0.1", *flags) as daemon, daemon.connect() as connection:
        assert connection.ask("book 1 1")["state"] == "confirmed"
        assert connection.ask("stats")["reply"] == "stats"
        # A client that has a token may send it all the same.
        assert connection.ask(f"auth {'x' * 43}") == {"reply": "welcome", "name": "anybody", "role": "admin"}
        assert not [line for line in daemon.lines if "open to the network" in line]


@pytest.mark.parametrize("content", ["{", '{"tokens":[{"name":"x"}]}'])
def test_an_access_file_that_is_not_valid_stops_the_start(tmp_path: Path, content: str) -> None:
    file = tmp_path / "access.json"
    file.write_text(content)
    file.chmod(0o600)
    status, lines = start(tmp_path, "--access", str(file))
    assert status == STATUS_USAGE
    assert len(lines) == 1
    assert lines[0].startswith(f"ticketd: the access file {file} is not valid: ")
    assert not (tmp_path / "events.db").exists()


def test_an_empty_variable_does_not_take_the_protection_away(tmp_path: Path) -> None:
    for variable in ("TICKETD_ACCESS", "TICKETD_TLS_CERTIFICATE", "TICKETD_TLS_KEY"):
        status, lines = start(tmp_path, **{variable: ""})
        assert status == STATUS_USAGE
        assert f"{variable} is empty" in lines[-1]


def test_the_start_says_who_may_do_what(tmp_path: Path) -> None:
    file = write_access(tmp_path / "access.json", anonymous="reader")
    with running(tmp_path, "--access", file, "--tls-certificate", str(RSA)) as daemon:
        ready = daemon.wait_line("^ready")
        assert ready.endswith(f" tls=yes access={file} tokens=5 anonymous=reader")
        assert not [line for line in daemon.lines if "no access file" in line]
    with running(tmp_path) as daemon:
        assert "tls=" not in daemon.wait_line("^ready")
        told = daemon.wait_line("no access file")
        assert told.endswith(f": whoever reaches 127.0.0.1:{daemon.port} may do everything")


def test_an_address_of_ipv6_is_told_in_brackets(tmp_path: Path) -> None:
    _, lines = start(tmp_path, "--host", "::")
    assert "whoever reaches [::]:0 could sell" in lines[-1]


def test_what_every_user_can_read_is_warned_of(tmp_path: Path) -> None:
    file, key = tmp_path / "access.json", tmp_path / "key.pem"
    write_access(file, users={"nobody-at-all": "seller", "12345": "seller"})
    key.write_bytes(EC.read_bytes())
    flags = ("--access", str(file), "--tls-certificate", str(EC), "--tls-key", str(key))
    for each, mode, warned in ((file, 0o644, True), (key, 0o604, True), (file, 0o640, False), (key, 0o640, False)):
        file.chmod(0o600)
        key.chmod(0o600)
        each.chmod(mode)
        _, lines = start(tmp_path, "--host", ELSEWHERE, *flags)
        assert [line.endswith(f": chmod 600 {each}") for line in lines if "can read" in line] == [True] * warned
    assert len([line for line in lines if "whom this machine does not know" in line]) == 1


def test_an_access_file_that_others_can_write_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    write_access(file)
    file.chmod(0o622)
    status, lines = start(tmp_path, "--access", str(file))
    assert (status, len(lines)) == (STATUS_USAGE, 1)
    assert lines[0].endswith(f"take that away: chmod 600 {file}")


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        ("nope.pem", None, "cannot read the certificate nope.pem (No such file or directory)"),
        (NO_PEM, None, f"{NO_PEM} has no certificate in it; it must be a PEM file"),
        (EC, RSA, f"the key in {RSA} is not that of the certificate {EC}"),
        (RSA, LOCKED_KEY, f"the key {LOCKED_KEY} has a password; give one without: openssl pkey -in {LOCKED_KEY} -out"),
        (RSA, "nope.pem", "cannot read the key nope.pem (No such file or directory)"),
        (RSA, NO_PEM, f"{NO_PEM} has no key in it; it must be a PEM file"),
        (CERTIFICATE_ALONE, None, "has no key in it; give it with --tls-key"),
        ("/", None, "the certificate / is no regular file"),
    ],
    ids=["none", "no PEM", "another key", "a password", "no key", "no PEM for a key", "alone", "a folder"],
)
def test_a_certificate_that_cannot_be_used_stops_the_start(
    tmp_path: Path, certificate: object, key: object, told: str
) -> None:
    if certificate is CERTIFICATE_ALONE:
        certificate = tmp_path / "alone.pem"
        certificate.write_text(re.sub("(?s)-----BEGIN PRIVATE.*?-----END PRIVATE KEY-----", "", EC.read_text()))
    flags = ["--tls-certificate", str(certificate), *(["--tls-key", str(key)] if key else [])]
    status, lines = start(tmp_path, *flags)
    assert status == STATUS_CANNOT_LISTEN
    assert lines[-1].startswith("ticketd: ")
    assert told in lines[-1]
    assert "Traceback" not in "".join(lines)
    assert not (tmp_path / "events.db").exists()


def test_certificate_and_key_may_be_two_files_or_variables(tmp_path: Path) -> None:
    env = {"TICKETD_TLS_CERTIFICATE": str(EC), "TICKETD_TLS_KEY": str(EC)}
    with running(tmp_path, env=env) as daemon, over_tls(daemon, tls_context(EC)) as connection:
        assert connection.ask("ping") == {"reply": "pong"}


def test_without_words_only_json_is_taken(tmp_path: Path) -> None:
    write_events(tmp_path, 5)
    with running(tmp_path, "--no-words") as daemon, daemon.connect() as connection:
        refusal = connection.ask("book 1 1")
        assert refusal["code"] == "bad_frame"
        assert "JSON" in refusal["message"]
        # What a shop joins to a line of words is a value and nothing else.
        assert connection.ask(b'{"cmd":"show","id":"1 --kind booking"}')["code"] == "bad_request"
        assert connection.ask(b'{"cmd":"show","id":"1"}')["sold"] == 0


def test_sales_of_a_token_are_limited_on_all_its_connections(tmp_path: Path) -> None:
    write_events(tmp_path, 10_000)
    file = write_access(tmp_path / "access.json")
    with running(tmp_path, "--access", file, "--sales-per-second-max", "5") as daemon:
        one, two, other = plain(daemon), plain(daemon), plain(daemon)
        with one, two, other:
            for connection, name in ((one, "seller"), (two, "seller"), (other, "manager")):
                connection.auth(name)
            # In one packet, so within a moment.
            for connection in (one, two):
                connection.send(b"book 1 1\nhold 1 1\n" * 20)
            replies = [connection.read() for connection in (one, two) for _ in range(40)]
            refused = [reply for reply in replies if reply["reply"] == "error"]
            assert {(reply["code"], reply["retry_after"]) for reply in refused} == {("busy", 1)}
            assert all("5 times a second" in reply["message"] for reply in refused)
            shown = other.ask("show 1")
            assert shown["sold"] + shown["held"] == 80 - len(refused) < 40
            assert other.ask("book 1 1")["state"] == "confirmed"


def test_who_was_refused_is_in_the_log_and_counted(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    file = write_access(tmp_path / "access.json")
    with running(tmp_path, "--access", file, "--sales-per-second-max", "1") as daemon, plain(daemon) as admin:
        admin.auth("admin")
        with plain(daemon) as seller, plain(daemon) as guesser:
            seller.auth("seller")
            seller.send(b"cancel x\n" * 50 + b"book 1 1\n" * 3)
            assert [seller.read()["reply"] for _ in range(53)] == ["error"] * 50 + ["booking"] + ["error"] * 2
            guesser.auth("nobody")
            assert admin.ask("stats")["refused"] == 53
            [own] = seller.socket.getsockname()[1:]
            assert daemon.wait_line("refused cancel").endswith(f" code=unauthorized peer=127.0.0.1:{own} by=seller")
            assert daemon.wait_line("refused book").endswith(f" code=busy peer=127.0.0.1:{own} by=seller")
            [own] = guesser.socket.getsockname()[1:]
            assert daemon.wait_line("refused auth").endswith(f" code=unauthorized peer=127.0.0.1:{own}")
            daemon.wait_line(r"refused code=unauthorized requests=\d+")
            # Not one for each of them.
            assert len([line for line in daemon.lines if "refused cancel" in line]) <= 2


def test_a_limit_of_sales_needs_an_access_file(tmp_path: Path) -> None:
    status, lines = start(tmp_path, "--sales-per-second-max", "5")
    assert status == STATUS_USAGE
    assert "--sales-per-second-max needs --access" in lines[-1]


def test_what_is_written_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    write_access(file)
    with running(tmp_path, "--access", str(file)) as daemon, plain(daemon) as connection:
        connection.auth("manager")
        assert connection.ask("create Jazz 2027-03-11T20:00:00Z 5")["reply"] == "event"
        modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir() if each.is_file()}
        assert {"events.db", "events.db-wal", "events.db-seal"} <= set(modes)
        assert set(modes.values()) == {0o600}
