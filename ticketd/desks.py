"""The lines in which requests wait for a commit: one for each event, first come, first served.

A batch takes a quota from each line, round robin, so a crowd at one event delays the buyers of another by one commit at
the most. Nothing in it waits, and time is handed in.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ticketd.books import LedgerRequest
from ticketd.config import Limits
from ticketd.errors import Code
from ticketd.protocol import Book, ErrorReply, Hold, Reply

# Fewer are no crowd: all of them go into a batch.
CROWD_MIN = 16


@dataclass(slots=True, eq=False)
class Party:
    """What one connection sent at once: decided whole, in the order sent, in one commit.

    ``arrived`` is the time of the loop, and ``rows`` about what it costs. ``deliver`` takes the replies, and raises
    nothing.
    """

    requests: Sequence[LedgerRequest]
    peer: str
    desk: str
    arrived: float
    deliver: Callable[[list[Reply]], None] | None
    rows: int
    # After a batch that met a bug: it is tried alone, so that it spoils nobody else's.
    alone: bool = False

    def answer(self, replies: list[Reply]) -> None:
        """Give the replies to whoever waits for them. They are given once, whatever happens to the batch."""
        deliver, self.deliver = self.deliver, None
        if deliver:
            deliver(replies)

    def refuse(self, code: Code, message: str, retry_after: float | None = None) -> None:
        """Answer all requests with the same error."""
        self.answer([ErrorReply(code, message, retry_after=retry_after) for _ in self.requests])


class _Line(deque[Party]):
    """Who stands at a desk, and how many of them the last batch took."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0


@dataclass(slots=True)
class Batch:
    """Parties that go into one commit together, and how many rows of each desk, and of all, still fit into it.

    ``late`` are those that have waited for too long to be in it.
    """

    room: int
    parties: list[Party] = field(default_factory=list)
    desks: dict[str, int] = field(default_factory=dict)
    late: list[Party] = field(default_factory=list)

    def fits(self, party: Party) -> bool:
        """Whether there is room for a party. For the first one there is, whatever it costs."""
        return not self.parties or (party.rows <= self.room and not party.alone)


class Desks:
    """All lines. A desk from which a batch has taken is left alone until that batch is done: see ``done``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Desks where somebody waits. The first is the next to be served.
        self._open: OrderedDict[str, _Line] = OrderedDict()
        # Desks that are being served, with who still stands there.
        self._serving: dict[str, _Line] = {}

    @property
    def anybody(self) -> bool:
        """Whether there is a batch to take."""
        return bool(self._open)

    def __len__(self) -> int:
        return sum(map(len, (*self._open.values(), *self._serving.values())))

    def length(self, desk: str) -> int:
        """Return how many stand at one desk."""
        return len(self._open.get(desk) or self._serving.get(desk) or ())

    def add(self, party: Party) -> None:
        """Let a party stand at the end of its line."""
        line = self._serving.get(party.desk)
        if line is None:
            line = self._open.setdefault(party.desk, _Line())
        line.append(party)

    def take(self, oldest: float) -> Batch:
        """Take the next batch, and of a crowd half. Who arrived before ``oldest`` is late.

        A crowd that was answered together asks again together. If half of it waits for the next commit, one half is
        answered while the other is committed. So much are those who wait and those who were taken last.

        Of a desk that was not reached the turn comes first next time.
        """
        batch = Batch(self._limits.rows_per_commit_max)
        for _ in range(len(self._open)):
            desk, line = self._open.popitem(last=False)
            while line and line[0].arrived < oldest:
                batch.late.append(line.popleft())
            quota = self._limits.rows_per_desk_max
            taken = len(batch.parties)
            crowd = len(line) + line.taken
            rest = max(len(line) - (crowd + 1) // 2, 0) if crowd >= CROWD_MIN else 0
            while len(line) > rest and quota > 0 and batch.fits(line[0]):
                party = line.popleft()
                batch.parties.append(party)
                quota -= party.rows
                batch.room = 0 if party.alone else batch.room - party.rows
                if party.alone:
                    break
            line.taken = len(batch.parties) - taken
            if line.taken:
                self._serving[desk] = line
                batch.desks[desk] = 0 if rest else quota
            elif line:
                self._open[desk] = line
                self._open.move_to_end(desk, last=False)
            if batch.room <= 0 or (len(line) > rest and quota > 0):
                # The batch is full.
                break
        return batch

    def top_up(self, batch: Batch) -> list[Party]:
        """Return, and add to the batch, who has come to its desks since, and only books or holds of that event."""
        more: list[Party] = []
        for desk, quota in batch.desks.items():
            line = self._serving[desk]
            while line and quota > 0 and batch.fits(line[0]) and _is_simple(line[0]):
                party = line.popleft()
                more.append(party)
                quota -= party.rows
                batch.room -= party.rows
                line.taken += 1
            batch.desks[desk] = quota
        batch.parties += more
        return more

    def late(self, oldest: float) -> list[Party]:
        """Send away who has waited since before ``oldest``, and return them."""
        late: list[Party] = []
        for line in (*self._open.values(), *self._serving.values()):
            while line and line[0].arrived < oldest:
                late.append(line.popleft())
        for desk in [desk for desk, line in self._open.items() if not line]:
            del self._open[desk]
        return late

    def put_back(self, batch: Batch) -> None:
        """Let all of a batch stand first in their lines again."""
        for party in reversed(batch.parties):
            line = self._serving[party.desk]
            line.appendleft(party)
            line.taken -= 1

    def done(self, batch: Batch) -> None:
        """Let the next batch take from the desks of this one."""
        for desk in batch.desks:
            if line := self._serving.pop(desk):
                self._open[desk] = line

    def clear(self) -> list[Party]:
        """Send everybody away, and return them."""
        everybody = [party for line in (*self._open.values(), *self._serving.values()) for party in line]
        self._open.clear()
        for line in self._serving.values():
            line.clear()
        return everybody


def _is_simple(party: Party) -> bool:
    if party.alone:
        return False
    return all(isinstance(request, (Book, Hold)) and request.event == party.desk for request in party.requests)
