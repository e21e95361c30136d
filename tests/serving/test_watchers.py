"""Rounds of the watchers, on transports that are lists: what is sent while others are still sent their state."""

import asyncio
from datetime import UTC, datetime
from typing import cast

import msgspec
import pytest
from msgspec import UNSET

from tests.serving.conftest import until
from ticketd.commits.catalogue import Catalogue
from ticketd.model import Event
from ticketd.serving import watchers
from ticketd.serving.fair_share import FairShare
from ticketd.serving.watcher import WATCHERS_PER_TURN
from ticketd.serving.watchers import EventWatcher, Watchers

DATE = datetime(2027, 3, 11, tzinfo=UTC)


def jazz(version: int) -> Event:
    return Event("jazz", "Jazz", DATE, 1_000, 1_000 - version, 0, version, version, 0)


class Sent(list[int]):
    """A transport that is never full, as the versions that were written to it."""

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self += [msgspec.json.decode(line)["version"] for line in data.splitlines()]


async def test_a_new_watcher_sees_no_older_state_after_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "INTERVAL_SECONDS", 0)
    catalogue = Catalogue([jazz(0)])
    all_watchers = Watchers(catalogue, FairShare())

    def join() -> tuple[EventWatcher, Sent]:
        sent = Sent()
        watcher = EventWatcher(None, UNSET, cast(asyncio.Transport, sent), 10, print, print)
        all_watchers.add(watcher)
        return watcher, sent

    for watcher, sent in [join() for _ in range(3 * WATCHERS_PER_TURN)]:
        sent.write(all_watchers.next_state(watcher))
    for version in range(1, 40, 2):
        catalogue.publish([jazz(version)])
        watcher, sent = join()
        # Some of the others have had their turn in this round.
        await until(lambda: all_watchers._lines, seconds=0)
        catalogue.publish([jazz(version + 1)])
        sent.write(all_watchers.next_state(watcher))
        await until(lambda: not all_watchers._waiting, seconds=0)
        assert sent == sorted(sent)
        all_watchers.remove(watcher)


MANY = [f"e{number}" for number in range(300)]


@pytest.mark.parametrize("removed", [["e0"], ["e3", "e299"], ["e256", "e257"], ["e10", "e270"], MANY])
async def test_a_removal_while_the_state_is_sent_skips_no_event(removed: list[str]) -> None:
    events = [Event(event, "Jazz", DATE, 9, 9, 0, 0, 0, 0) for event in MANY]
    catalogue = Catalogue(events)
    all_watchers = Watchers(catalogue, FairShare())
    watcher = EventWatcher(None, UNSET, cast(asyncio.Transport, Sent()), 10, print, print)
    all_watchers.add(watcher)
    seen = [msgspec.json.decode(line)["id"] for line in all_watchers.next_state(watcher).splitlines()]
    assert not watcher.has_state
    catalogue.remove(removed)
    while not watcher.has_state:
        seen += [msgspec.json.decode(line)["id"] for line in all_watchers.next_state(watcher).splitlines()]
    assert [each for each in seen if each not in removed] == [each for each in MANY if each not in removed]
    all_watchers.remove(watcher)


class Lines(Sent):
    """The same, as the ids of the events."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    def write(self, data: bytes) -> None:
        self.ids += [msgspec.json.decode(line)["id"] for line in data.splitlines()]


async def test_after_a_removal_nobody_is_sent_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "INTERVAL_SECONDS", 0)

    def rock(version: int) -> Event:
        return Event("rock", "Rock", DATE, 1_000, 1_000 - version, 0, version, version, 0)

    catalogue = Catalogue([jazz(0), rock(0)])
    all_watchers = Watchers(catalogue, FairShare())
    sent = []
    for _ in range(3 * WATCHERS_PER_TURN):
        sent.append(Lines())
        watcher = EventWatcher(None, UNSET, cast(asyncio.Transport, sent[-1]), 10, print, print)
        all_watchers.add(watcher)
        all_watchers.next_state(watcher)
    catalogue.publish([jazz(1), rock(1)])
    await until(lambda: all_watchers._lines, seconds=0)
    early = [number for number, each in enumerate(sent) if each.ids]
    assert 0 < len(early) < len(sent)
    catalogue.remove(["jazz"])
    await until(lambda: not all_watchers._waiting, seconds=0)
    assert [each.ids for each in sent] == [
        ["jazz", "rock"] if number in early else ["rock"] for number in range(len(sent))
    ]
    for watcher in list(all_watchers._watchers):
        all_watchers.remove(watcher)
