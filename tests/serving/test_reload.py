"""SIGHUP: the access file and the certificate are read again, and drop nobody who is still allowed. A real daemon."""

import os
import re
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon import Daemon, running, unasked, until, write_events
from tests.secured import EC, LOCKED_KEY, ME, ROLES, RSA, Reached, over_tls, over_unix, plain, tls_context, write_access

AGAIN = r"read the (access file|certificate) .* again"


def reload(daemon: Daemon, line: str = AGAIN) -> None:
    """Send SIGHUP, and wait until the daemon says that it has read what it reads, or another new line."""
    before = len(daemon.lines)
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: any(re.search(line, each) for each in daemon.lines[before:]))


def known(daemon: Daemon, name: str, connect: Callable[[Daemon], Reached] = plain) -> Reached:
    connection = connect(daemon)
    assert connection.auth(name)["reply"] == "welcome"
    return connection


def test_a_removed_token_ends_its_connections_and_no_others(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    file = tmp_path / "access.json"
    with running(tmp_path, "--access", write_access(file, {"one": "seller", "two": "seller"})) as daemon:
        one, same, two = known(daemon, "one"), known(daemon, "one"), known(daemon, "two")
        with one, same, two:
            write_access(file, {"two": "seller", "three": "seller"})
            reload(daemon)
            for connection in (one, same):
                refusal = connection.read()
                assert unasked(refusal) == "unauthorized"
                assert "taken back" in refusal["message"]
                assert connection.rest() == b""
            assert two.ask("book 1 1")["state"] == "confirmed"
        with plain(daemon) as connection:
            assert connection.auth("one")["code"] == "unauthorized"
        with plain(daemon) as connection:
            assert connection.auth("three")["reply"] == "welcome"


def test_the_same_name_with_another_secret_is_another_token(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    with running(tmp_path, "--access", write_access(file, ["seller"])) as daemon, known(daemon, "seller") as seller:
        file.write_text(re.sub(r"[0-9a-f]{64}", "0" * 64, file.read_text()))
        reload(daemon)
        assert unasked(seller.read()) == "unauthorized"
        assert seller.rest() == b""


def test_a_watcher_whose_access_is_taken_back_sees_no_more(tmp_path: Path, short_path: Path) -> None:
    write_events(tmp_path, 100)
    file = tmp_path / "access.json"
    write_access(file, {"watcher": "reader", "seller": "seller"}, anonymous="reader")
    with running(tmp_path, "--access", str(file), "--unix", str(short_path)) as daemon:
        by_token, anonymous, seller = known(daemon, "watcher"), plain(daemon), known(daemon, "seller")
        with by_token, anonymous, seller:
            for watcher in (by_token, anonymous):
                assert watcher.ask("watch 1")["available"] == 100
            write_access(file, {"seller": "seller"})
            reload(daemon)
            assert seller.ask("book 1 1")["available"] == 99
            for watcher in (by_token, anonymous):
                assert unasked(watcher.read()) == "unauthorized"
                assert watcher.rest() == b""


def test_a_watcher_of_a_booking_needs_its_role_all_the_time(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    file = tmp_path / "access.json"
    tokens = {"one": "seller", "two": "door", "three": "seller"}
    with running(tmp_path, "--access", write_access(file, tokens)) as daemon:
        one, two, three = (known(daemon, name) for name in tokens)
        with one, two, three:
            assert three.ask("hold 1 2 --booking b")["state"] == "held"
            assert [each.ask("watch --booking b")["state"] for each in (one, two)] == ["held", "held"]
            write_access(file, {**tokens, "one": "reader"})
            reload(daemon)
            assert unasked(refusal := one.read()) == "unauthorized"
            assert "does not allow" in refusal["message"]
            assert one.rest() == b""
            three.ask("release b")
            assert two.read()["state"] == "released"


def test_a_role_that_changes_counts_from_then_on(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    file = tmp_path / "access.json"
    with running(tmp_path, "--access", write_access(file, {"one": "seller"})) as daemon, known(daemon, "one") as one:
        assert one.ask("book 1 1")["state"] == "confirmed"
        write_access(file, {"one": "reader"})
        reload(daemon)
        assert one.ask("book 1 1")["code"] == "unauthorized"
        assert one.ask("list")["reply"] == "events"
        write_access(file, {"one": "manager"})
        reload(daemon)
        assert one.ask("create Jazz 2027-03-11T20:00:00Z 5")["reply"] == "event"


def test_users_of_the_socket_are_renewed_too(tmp_path: Path, short_path: Path) -> None:
    write_events(tmp_path, 100)
    file = tmp_path / "access.json"
    write_access(file, [], users={ME: "seller"}, anonymous="reader")
    with running(tmp_path, "--access", str(file), "--unix", str(short_path)) as daemon, over_unix(short_path) as user:
        assert user.ask("book 1 1 --booking a")["state"] == "confirmed"
        assert f"by=user:{ME}" in daemon.wait_line("booking=a")
        write_access(file, [], anonymous="seller")
        reload(daemon)
        # Nobody knows a name for this user any more.
        assert user.ask("book 1 1 --booking b")["state"] == "confirmed"
        assert "by=" not in daemon.wait_line("booking=b")
        write_access(file, [])
        reload(daemon)
        assert user.read()["code"] == "unauthorized"
        assert user.rest() == b""


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"tokens":[{"name":"x","role":"king","sha256":"00"}]}', b'{"token":[]}', None],
    ids=["empty", "half", "an array", "no role", "no field", "gone"],
)
def test_an_access_file_that_is_not_valid_changes_nothing(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "access.json"
    with running(tmp_path, "--access", write_access(file)) as daemon, known(daemon, "seller") as seller:
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        reload(daemon, "access file .*; the access file that was read before stays in use$")
        assert seller.ask("ping") == {"reply": "pong"}
        with known(daemon, "admin") as later:
            assert later.ask("stats")["reply"] == "stats"


def test_an_access_file_that_others_can_write_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    with running(tmp_path, "--access", write_access(file)) as daemon, known(daemon, "seller") as seller:
        write_access(file, {"intruder": "admin"})
        file.chmod(0o620)
        reload(daemon, "others can write .*; the access file that was read before stays in use$")
        assert seller.ask("ping") == {"reply": "pong"}
        with plain(daemon) as intruder:
            assert intruder.auth("intruder")["code"] == "unauthorized"


def test_a_bad_certificate_saves_no_token_that_is_taken_back(tmp_path: Path) -> None:
    file, certificate = tmp_path / "access.json", tmp_path / "tls.pem"
    certificate.write_bytes(EC.read_bytes())
    flags = ("--access", write_access(file), "--tls-certificate", str(certificate))
    context = tls_context(EC)
    with running(tmp_path, *flags) as daemon, known(daemon, "seller", lambda _: over_tls(daemon, context)) as seller:
        write_access(file, ["admin"])
        certificate.write_text("nonsense")
        reload(daemon, "certificate .*; the certificate that was read before stays in use$")
        assert seller.read()["code"] == "unauthorized"
        with over_tls(daemon, context) as later:
            assert later.auth("seller")["code"] == "unauthorized"
        with over_tls(daemon, context) as later:
            assert later.auth("admin")["reply"] == "welcome"


def test_a_bad_access_file_holds_up_no_certificate(tmp_path: Path) -> None:
    file, certificate = tmp_path / "access.json", tmp_path / "tls.pem"
    certificate.write_bytes(EC.read_bytes())
    with running(tmp_path, "--access", write_access(file), "--tls-certificate", str(certificate)) as daemon:
        file.write_text("{")
        certificate.write_bytes(RSA.read_bytes())
        reload(daemon, "read the certificate .* again")
        with over_tls(daemon, tls_context(RSA)) as later:
            assert later.auth("seller")["reply"] == "welcome"


def test_the_log_says_what_was_changed(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    write_access(file, {"shop": "seller", "door": "door", "board": "reader"})
    with running(tmp_path, "--access", str(file)) as daemon:
        shops = [known(daemon, "shop") for _ in range(3)]
        write_access(file, {"shop-2": "seller", "shop-3": "seller", "door": "manager", "board": "reader"})
        reload(daemon)
        line = daemon.wait_line("read the access file")
        assert line.endswith(" again tokens=4 added=shop-2,shop-3 removed=shop changed=door connections_ended=3")
        for shop in shops:
            shop.close()
        seen = len(daemon.lines)
        reload(daemon)
        assert daemon.wait_line_after(seen, "read the access").endswith(" again tokens=4 connections_ended=0")


def test_without_either_sighup_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as daemon, daemon.connect() as connection:
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_line("neither an access file nor a certificate to read again")
        assert connection.ask("ping") == {"reply": "pong"}
        assert daemon.end() == 0


def is_blocked(process: int, signum: signal.Signals) -> bool:
    [mask] = re.findall(r"^SigBlk:\s*(\S+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (signum - 1) & 1)


def test_sighup_during_the_start_is_not_lost(tmp_path: Path) -> None:
    file = write_access(tmp_path / "access.json")
    daemon = Daemon("--port", "0", "--events", str(tmp_path / "events.json"), "--access", file)
    try:
        until(lambda: is_blocked(daemon.process.pid, signal.SIGHUP))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_ready()
        daemon.wait_line("read the access file .* again")
        reload(daemon)
    finally:
        daemon.kill()


# Certificates


def test_a_new_certificate_is_shown_and_drops_nobody(tmp_path: Path) -> None:
    certificate = tmp_path / "tls.pem"
    certificate.write_bytes(RSA.read_bytes())
    with running(tmp_path, "--tls-certificate", str(certificate)) as daemon, over_tls(daemon) as before:
        certificate.write_bytes(EC.read_bytes())
        reload(daemon)
        assert before.ask("ping") == {"reply": "pong"}
        with over_tls(daemon, tls_context(EC)) as after:
            assert after.ask("ping") == {"reply": "pong"}
        # Not even those who could only check the old one are shown it: its key may have been stolen.
        old = tls_context(RSA)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("aRSA")
        with pytest.raises(ssl.SSLError):
            over_tls(daemon, old)
        assert before.ask("ping") == {"reply": "pong"}


@pytest.mark.parametrize("how", ["gone", "nonsense", "no key", "key with a password", "a pipe"])
def test_a_certificate_that_cannot_be_used_changes_nothing(tmp_path: Path, how: str) -> None:
    certificate, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    certificate.write_bytes(RSA.read_bytes())
    key.write_bytes(RSA.read_bytes())
    with running(tmp_path, "--tls-certificate", str(certificate), "--tls-key", str(key)) as daemon:
        if how in ("gone", "a pipe"):
            certificate.unlink()
            if how == "a pipe":
                os.mkfifo(certificate)
        elif how == "nonsense":
            certificate.write_text("nonsense")
        elif how == "no key":
            key.write_bytes(EC.read_bytes())
        else:
            key.write_bytes(LOCKED_KEY.read_bytes())
        reload(daemon, "; the certificate that was read before stays in use$")
        with over_tls(daemon) as connection:
            assert connection.ask("ping") == {"reply": "pong"}


# In a storm


def test_a_storm_of_reloads_drops_nobody_who_is_allowed(tmp_path: Path) -> None:
    write_events(tmp_path, 1_000_000)
    file = tmp_path / "access.json"
    staying = {name: name for name in ROLES}
    with running(tmp_path, "--access", write_access(file, {**staying, "leaving": "seller"})) as daemon:
        sellers = [known(daemon, "seller") for _ in range(8)]
        leaving, watcher = known(daemon, "leaving"), known(daemon, "reader")
        assert watcher.ask("watch 1")["available"] == 1_000_000
        for number in range(30):
            write_access(file, {**staying, "leaving": "seller", f"new-{number}": "seller"})
            for seller in (*sellers, leaving):
                seller.send(b"book 1 1\n" * 20)
            daemon.process.send_signal(signal.SIGHUP)
            for seller in (*sellers, leaving):
                assert {seller.read()["state"] for _ in range(20)} == {"confirmed"}
        write_access(file, staying)
        daemon.process.send_signal(signal.SIGHUP)
        assert b'"unauthorized"' in leaving.rest()
        for seller in sellers:
            assert seller.ask("book 1 1")["state"] == "confirmed"
        left = 1_000_000 - 30 * 9 * 20 - 8
        while watcher.read()["available"] != left:
            pass
        for connection in (*sellers, leaving, watcher):
            connection.close()


def test_what_is_under_way_when_a_token_goes_is_answered(tmp_path: Path) -> None:
    write_events(tmp_path, 1_000_000)
    file = tmp_path / "access.json"
    with running(tmp_path, "--access", write_access(file)) as daemon, known(daemon, "seller") as seller:
        seller.send(b"book 1 1\n" * 5_000)
        assert seller.read()["state"] == "confirmed"
        write_access(file, ["admin"])
        daemon.process.send_signal(signal.SIGHUP)
        *done, last = seller.rest().splitlines()
        assert b'"unauthorized"' in last
        with known(daemon, "admin") as admin:
            sold = admin.ask("show 1")["sold"]
        # Each booking that was made was answered, and the others were not made.
        assert sold == 1 + len(done)
        assert all(b'"confirmed"' in line for line in done)
