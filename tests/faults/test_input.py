"""Bytes of any kind: one coded reply for a line, the same whatever the packets, the connection in step afterwards."""

import random
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.daemon import Connection, Daemon, running, write_events
from tests.faults.input import (
    CAPACITY,
    FRAMES,
    JAZZ,
    REQUESTS,
    check_events,
    check_frames,
    check_kind,
    check_log,
    check_replies,
    run,
    typed,
)
from tests.faults.pure import converse
from tests.faults.sending import cut, cut_anyhow, sending
from ticketd.model import ticket_id
from ticketd.wire import codec, words
from ticketd.wire.lines import FRAME_BYTES_MAX
from ticketd.wire.replies import ErrorReply
from ticketd.wire.requests import Cancel, Create, Request

CORPUS = Path(__file__).parent / "corpus"
CONNECTIONS = 100
FUZZ_MB_MAX = 8_192
FUZZ_RUNS = 10_000
FUZZ_SECONDS_MAX = 300.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("input")
    write_events(folder, CAPACITY, 10)
    with running(folder) as daemon:
        yield daemon
        check_log(daemon)


@pytest.fixture
def connection(daemon: Daemon) -> Iterator[Connection]:
    with daemon.connect() as connection:
        yield connection
        check_events(connection)


def whole(stream: bytes) -> list[bytes]:
    return [stream]


def flips(frame: bytes) -> Iterator[bytes]:
    for place, byte in enumerate(frame):
        for bit in range(8):
            yield b"%b%c%b" % (frame[:place], byte ^ 1 << bit, frame[place + 1 :])


def answered(daemon: Daemon, packets: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return what a connection is answered that ends after these packets."""
    with daemon.connect() as connection:
        for packet in packets:
            connection.send(packet)
        connection.finish()
        return [msgspec.json.decode(line) for line in connection.rest().splitlines()]


def test_the_test_frames_cover_every_command(connection: Connection) -> None:
    assert {type(request) for request in REQUESTS} == set(Request.__subclasses__())
    for request in REQUESTS:
        for frame in (codec.encode(request), shlex.join(words.unparse(request)).encode()):
            reply = typed(connection.ask(frame))
            check_kind(request, reply)
            if isinstance(reply, ErrorReply):
                assert reply.code not in ("bad_frame", "bad_request", "unknown_command"), frame


# One coded reply


def test_a_truncated_frame_leaves_the_connection_in_step(connection: Connection) -> None:
    check_frames(connection, [frame[:end] for frame in FRAMES for end in range(len(frame))], whole)


def test_a_flipped_bit_leaves_the_connection_in_step(connection: Connection) -> None:
    check_frames(connection, [flip for frame in FRAMES for flip in flips(frame)], whole)


def test_input_that_ends_anywhere_gets_the_specified_replies(daemon: Daemon) -> None:
    for frame in FRAMES:
        for end in range(len(frame) + 1):
            check_replies(frame[:end], answered(daemon, [frame[:end]]))


PIECES = (
    st.binary(max_size=40)
    | st.sampled_from(FRAMES)
    | st.sampled_from([b"\n", b"\r\n", b"\r", b" ", b"{", b'"', b"\\", b"\xff", b"GET / HTTP/1.1", b"{ HTTP/1"])
    | st.sampled_from([FRAME_BYTES_MAX - 1, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1]).map(bytes)
)


@given(st.lists(PIECES | st.just(b"\n"), max_size=12).map(b"".join), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_in_any_packets_get_the_specified_replies(daemon: Daemon, stream: bytes, places: list[int]) -> None:
    check_replies(stream, answered(daemon, cut(stream, sorted(places))))


# The same whatever the packets


def test_splitting_a_short_stream_does_not_change_the_replies(daemon: Daemon) -> None:
    stream = b'ping\r\n\n{"cmd":"help","command":"\xc3\xa9"}\nbook 1 1 --booking cut\n'
    inside = range(1, len(stream))
    cuts = [*combinations(inside, 1), *combinations(inside, 2), tuple(inside)]
    with ExitStack() as stack:
        connections = [stack.enter_context(daemon.connect()) for _ in range(CONNECTIONS)]
        other = stack.enter_context(daemon.connect())

        def replies_to(streams: Iterable[list[bytes]]) -> list[list[dict[str, Any]]]:
            """Send each stream over a connection of its own, a packet of each at a time."""
            asking = connections
            for packets in zip_longest(*streams, fillvalue=b""):
                asking = connections[: len(packets)]
                for connection, packet in zip(asking, packets, strict=True):
                    connection.send(packet)
                # The daemon has one loop: it has read all of these when it answers somebody else.
                other.ask("ping")
            return [[connection.read() for _ in range(3)] for connection in asking]

        replies_to([[stream]])
        [expected] = replies_to([[stream]])
        assert [reply["reply"] for reply in expected] == ["pong", "error", "booking"]
        for start in range(0, len(cuts), CONNECTIONS):
            group = cuts[start : start + CONNECTIONS]
            for places, replies in zip(group, replies_to(cut(stream, places) for places in group), strict=True):
                assert replies == expected, f"cut at {places}"


def test_splitting_a_long_stream_does_not_change_the_replies(tmp_path: Path, chance: random.Random) -> None:
    write_events(tmp_path, CAPACITY, 10)
    longest = [
        codec.encode(Cancel("b" * 64, [ticket_id("b" * 64, f"{ticket:012x}") for ticket in range(190)])),
        codec.encode(Create("é" * 100, JAZZ, 5, "e" * 64)),
    ]
    # What these tell changes by itself.
    settled = [frame for frame in FRAMES if not any(name in frame for name in (b"stats", b"watch", b"backup"))]
    frames = (settled + longest) * 5
    stream = b"".join(frame + b"\n" for frame in frames)
    with running(tmp_path) as daemon, daemon.connect() as connection:

        def replies_to(packets: list[bytes]) -> list[dict[str, Any]]:
            with sending(connection, packets):
                return [connection.read() for _ in frames]

        replies_to([stream])
        expected = replies_to([stream])
        for _ in range(10):
            assert replies_to(cut_anyhow(stream, chance)) == expected


# At length


def test_mutated_frames_are_answered_in_step(tmp_path: Path, chance: random.Random) -> None:
    print(run(chance, 1, tmp_path))


def test_the_fuzzing_corpus_gets_the_specified_replies() -> None:
    kept = [file.read_bytes() for file in CORPUS.iterdir()]
    assert kept
    for data in kept:
        converse(data)


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris comes as a wheel for Linux only")
def test_a_short_run_of_the_fuzzer_finds_nothing(tmp_path: Path, chance: random.Random) -> None:
    arguments = [f"-runs={FUZZ_RUNS}", f"-seed={chance.randrange(1, 1 << 31)}", f"-artifact_prefix={tmp_path}/"]
    # To the fuzzer, its memory is never less than what this process had when it was forked from it.
    arguments.append(f"-rss_limit_mb={FUZZ_MB_MAX}")
    found = tmp_path / "found"
    found.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", *arguments, str(found), str(CORPUS)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=FUZZ_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    assert f"Done {FUZZ_RUNS} runs" in done.stderr
