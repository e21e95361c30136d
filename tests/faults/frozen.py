"""A file system that is frozen, as for a snapshot: what needs no disk is answered meanwhile, the rest afterwards.

It takes root, and a loop device to mount a file system from: without them there is nothing to attack.
"""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.daemon import Connection, running, write_events

IMAGE_MB = 64
# It is frozen for so long, each time.
FROZEN_SECONDS = 5.0
READS = ("ping", "ready", "list", "show 1", "show 2", "stats", "book 2 1", "book nope 1", "hold 2 3", "nonsense")


def can_freeze() -> bool:
    """Whether a file system can be made, mounted and frozen here."""
    tools = ("mkfs.ext4", "mount", "umount", "fsfreeze")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        return False
    return subprocess.run(["losetup", "-f"], capture_output=True).returncode == 0


@contextmanager
def file_system(folder: Path) -> Iterator[Path]:
    """A small file system of its own, mounted until the end of the block."""
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_MB << 20)
    _run("mkfs.ext4", "-q", "-F", str(image))
    _run("mount", "-o", "loop", str(image), str(mount))
    try:
        yield mount
    finally:
        _run("umount", str(mount))


@contextmanager
def frozen(mount: Path) -> Iterator[None]:
    """Freeze a file system until the end of the block."""
    _run("fsfreeze", "--freeze", str(mount))
    try:
        yield
    finally:
        _run("fsfreeze", "--unfreeze", str(mount))


def run(chance: random.Random, size: int, folder: Path, seconds: float = FROZEN_SECONDS) -> dict[str, float]:
    """Freeze it ``size`` times, with bookings under way; return how slow the slowest answer was meanwhile."""
    if not can_freeze():
        return {"freezes": 0}
    slowest_ms, answers = 0.0, 0
    with file_system(folder) as mount:
        write_events(mount, 1_000_000, 1, available=[1_000_000, 0])
        with running(mount) as daemon, ExitStack() as stack:
            buyers = [stack.enter_context(daemon.connect()) for _ in range(20)]
            reader = stack.enter_context(daemon.connect())
            for round in range(size):
                # It runs out while the file system is frozen, so it cannot end before.
                reader.ask("hold 1 1 --seconds 1")
                with frozen(mount):
                    # The first of them makes a commit wait for the disk, the others wait behind it.
                    for number, buyer in enumerate(buyers):
                        buyer.send(f"book 1 1 --booking b-{round}-{number}\n".encode())
                    until = time.monotonic() + seconds
                    while time.monotonic() < until:
                        slowest_ms = max(slowest_ms, _asked(reader, chance.choice(READS)))
                        answers += 1
                versions = {buyer.read()["version"] for buyer in buyers}
                assert len(versions) == len(buyers), "each was sold, once, when the disk was back"
        with running(mount) as daemon, daemon.connect() as connection:
            for round in range(size):
                for number in range(len(buyers)):
                    assert connection.ask(f"book 1 1 --booking b-{round}-{number}")["replayed"]
    return {"freezes": size, "answers meanwhile": answers, "slowest answer, ms": slowest_ms}


def _asked(connection: Connection, line: str) -> float:
    """Ask, and return how many milliseconds the answer took. It must come while the file system is frozen."""
    began = time.perf_counter()
    reply = connection.ask(line)
    if line.startswith(("book", "hold")):
        assert reply["code"] in ("sold_out", "event_not_found"), reply
    return (time.perf_counter() - began) * 1e3


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
