"""What ticketctl does when the daemon is away, breaks off, stays silent or talks nonsense."""

import pytest

from tests.conftest import BREAK, FLOOD, SILENCE, answer, booked, ctl, interrupt, lying, nobody, start_ctl


def test_ticketctl_names_the_address_it_cannot_reach() -> None:
    with nobody() as port:
        done = ctl("book", "1", "1", port=port)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == f"ticketctl: cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?\n"


def test_an_unresolvable_host_exits_with_status_3() -> None:
    for host, shown in (("a" * 64, "a" * 64), ("::g", "[::g]")):
        done = ctl("--host", host, "ping", port=1)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith(f"ticketctl: cannot reach {shown}:1 (")
        assert done.stderr.endswith("); check --host (TICKETD_HOST)\n")


def test_a_booking_is_retried_once_with_the_same_id() -> None:
    with lying(BREAK, booked("b", quantity=2)) as liar:
        done = ctl("book", "1", "2", port=liar.port)
        first, second = liar.asked(), liar.asked()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("b\t1\t2\tconfirmed")
    assert first["booking"]
    assert first == second


def test_a_create_is_retried_once_with_the_same_id() -> None:
    with lying(BREAK, answer("error", code="event_exists", message="it is there")) as liar:
        done = ctl("create", "Jazz Night", "2027-03-11T20:00:00Z", "5", port=liar.port)
        first, second = liar.asked(), liar.asked()
    assert done.returncode == 1
    assert first["id"].startswith("jazz-night-")
    assert first == second


def test_a_read_is_retried_once_when_the_connection_breaks() -> None:
    with lying(BREAK, answer("pong")) as liar:
        done = ctl("ping", port=liar.port)
    assert (done.returncode, done.stdout) == (0, "pong\n")


def test_a_script_reconnects_when_its_connection_breaks() -> None:
    with lying(answer("pong"), BREAK, answer("pong"), answer("pong")) as liar:
        done = ctl(port=liar.port, stdin="ping\nping\nping\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "pong\n" * 3, "")


def test_a_read_that_breaks_twice_exits_with_status_3() -> None:
    with lying() as liar:
        done = ctl("list", port=liar.port)
        assert [liar.asked(), liar.asked()] == [{"cmd": "list"}] * 2
    assert done.returncode == 3
    assert done.stderr == f"ticketctl: 127.0.0.1:{liar.port} closed the connection without a reply\n"


def test_without_a_reply_a_backup_may_still_be_written() -> None:
    with lying(SILENCE) as liar:
        done = ctl("--timeout", "0.5", "backup", "friday", port=liar.port)
    assert (done.returncode, done.stdout) == (3, "")
    assert "within 0.5 s; the backup may still be written: send it again with the same name" in done.stderr


def test_a_read_that_times_out_exits_with_status_3_without_retry() -> None:
    with lying(SILENCE) as liar:
        done = ctl("--timeout", "0.5", "list", port=liar.port)
        liar.asked()
        assert not liar.asked_more()
    assert done.returncode == 3
    assert done.stderr == f"ticketctl: no reply from 127.0.0.1:{liar.port} within 0.5 s\n"


def test_an_endless_reply_line_cannot_outlast_the_timeout() -> None:
    with lying(FLOOD) as liar:
        done = ctl("--timeout", "0.5", "list", port=liar.port)
    assert done.returncode == 3
    assert done.stderr == f"ticketctl: no reply from 127.0.0.1:{liar.port} within 0.5 s\n"


@pytest.mark.parametrize("code", ["busy", "too_many_connections", "shutting_down", "storage_full"])
def test_a_busy_daemon_exits_with_status_5_and_when_to_retry(code: str) -> None:
    with lying(answer("error", code=code, message="full", retry_after=1.5)) as liar:
        done = ctl("book", "1", "1", port=liar.port)
        liar.asked()
        assert not liar.asked_more()
    assert (done.returncode, done.stderr) == (5, f"ticketctl: {code}: full (again after 1.5 s)\n")


def test_a_server_that_is_not_ticketd_is_reported_as_such() -> None:
    with lying(b"HTTP/1.1 400 Bad Request\r\n") as liar:
        done = ctl("list", port=liar.port)
    assert done.returncode == 3
    assert done.stderr == f"ticketctl: what answers at 127.0.0.1:{liar.port} does not speak ticketd's protocol\n"


@pytest.mark.parametrize("nonsense", [b"\n", b"{}\n", b"[]\n", b"\xff\n", b'{"reply":"zzz"}\n', b"[" * 50_000 + b"\n"])
def test_a_nonsense_reply_exits_with_status_3_and_no_traceback(nonsense: bytes) -> None:
    with lying(nonsense) as liar:
        done = ctl("ping", port=liar.port)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("other", [answer("pong"), answer("events", events=[]), answer("bookings", bookings=[])])
def test_a_reply_of_another_kind_leaves_a_booking_unknown(other: bytes) -> None:
    with lying(other) as liar:
        done = ctl("book", "1", "1", "--booking", "mine", port=liar.port)
    assert (done.returncode, done.stdout) == (4, "")
    assert "does not speak ticketd's protocol: it answers book with " in done.stderr
    assert done.stderr.endswith(f"\n  ticketctl --port {liar.port} book 1 1 --booking mine\n")


def test_show_takes_only_a_reply_of_the_kind_it_named() -> None:
    with lying(booked("jazz"), booked("jazz")) as liar:
        assert ctl("show", "jazz", "--kind", "event", port=liar.port).returncode == 3
    with lying(booked("jazz")) as liar:
        assert ctl("show", "jazz", "--kind", "booking", port=liar.port).returncode == 0


def test_a_line_that_was_not_asked_for_answers_no_request() -> None:
    with lying(answer("pong") + booked("other"), booked("mine")) as liar:
        done = ctl(port=liar.port, stdin="ping\nbook 1 1 --booking mine\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["pong", "mine"]


def test_a_reply_longer_than_any_booking_leaves_it_unknown() -> None:
    with lying(booked("b" * 2_000_000)) as liar:
        done = ctl("book", "1", "1", port=liar.port)
    assert done.returncode == 4
    assert "its reply has more than 1048576 bytes. Whether it was done is unknown" in done.stderr


def test_a_reply_longer_than_one_read_is_put_together() -> None:
    with lying(answer("error", code="not_found", message="x" * 300_000)) as liar:
        done = ctl("ping", port=liar.port)
    assert (done.returncode, done.stderr) == (1, f"ticketctl: not_found: {'x' * 300_000}\n")


def test_a_connection_closed_as_idle_is_opened_again() -> None:
    closing = answer("error", code="idle_timeout", message="too long idle")
    with lying(closing, booked("b")) as liar:
        done = ctl("book", "1", "1", port=liar.port)
        assert liar.asked() == liar.asked()
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_during_a_read_exits_with_status_130() -> None:
    with lying(SILENCE) as liar:
        process = start_ctl("list", port=liar.port)
        liar.asked()
        assert interrupt(process) == (130, "", "")


def test_ctrl_c_during_a_booking_prints_how_to_settle_it() -> None:
    with lying(SILENCE) as liar:
        process = start_ctl("book", "1", "1", port=liar.port)
        sent = liar.asked()
        status, out, err = interrupt(process)
    assert (status, out) == (130, "")
    assert err.splitlines() == [
        "ticketctl: interrupted before the reply came. Whether it was done is unknown; this settles it:",
        f"  ticketctl --port {liar.port} book 1 1 --booking {sent['booking']}",
    ]
