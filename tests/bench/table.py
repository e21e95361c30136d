"""What was measured: figures of rounds, and the blocks of the table that are made of them."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from msgspec import Struct


class Figures(Struct, omit_defaults=True):
    """What one measurement came to, in the unit of its line; its latencies, and what it cost, if that is known."""

    value: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    # Processor time of the server, for each time that it was done.
    user_us: float | None = None
    system_us: float | None = None
    # How often it was done.
    done: int | None = None

    @property
    def cpu_us(self) -> float:
        """All of the processor time for each."""
        assert self.user_us is not None and self.system_us is not None
        return self.user_us + self.system_us


Way = Callable[[], Figures]


class Goal(Struct):
    """What a ratio, or a value where there is none, shall be."""

    sign: Literal[">=", "<=", "<"]
    bound: float

    def met(self, figure: float) -> bool:
        """Whether the figure is as it shall be."""
        if self.sign == ">=":
            return figure >= self.bound
        return figure < self.bound or (self.sign == "<=" and figure == self.bound)

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}"


def at_least(bound: float) -> Goal:
    return Goal(">=", bound)


def at_most(bound: float) -> Goal:
    return Goal("<=", bound)


def below(bound: float) -> Goal:
    return Goal("<", bound)


class Line(Struct, omit_defaults=True):
    """One line: the medians of the rounds, and the figures of each. The goal is one of the ratio if there is one."""

    what: str
    unit: str
    rounds: list[Figures]
    median: Figures
    ratio: float | None = None
    goal: Goal | None = None
    met: bool | None = None

    def __str__(self) -> str:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        verdict = {None: "", True: "met", False: "MISSED"}[self.met]
        goal = "" if self.goal is None else str(self.goal)
        value = f"{self.median.value:,.0f}" if self.median.value >= 100 else f"{self.median.value:.3g}"
        p50, p99 = ("" if ms is None else f"{ms:.2f}" for ms in (self.median.p50_ms, self.median.p99_ms))
        user, system = ("" if us is None else f"{us:.1f}" for us in (self.median.user_us, self.median.system_us))
        return _columns(ratio, goal, verdict, self.what, value, self.unit, p50, p99, user, system)


def _columns(ratio: str, goal: str, verdict: str, what: str, value: str, *more: str) -> str:
    unit, p50, p99, user, system = more
    return (
        f"{ratio:>8}  {goal:<7} {verdict:<6}  {what:<42}{value:>10} {unit:<4}{p50:>8}{p99:>8}{user:>9}{system:>8}"
    ).rstrip()


HEADING = _columns("ratio", "goal", "", "", "median", "", "p50 ms", "p99 ms", "user us", "sys us")


class Block(Struct):
    """Some lines, and what they mean to a buyer, or to who runs the sale."""

    name: str
    means: str
    lines: list[Line]

    def __str__(self) -> str:
        return "\n".join([f"{self.name}: {self.means}", *map(str, self.lines)])


class Samples:
    """The figures of a section as they come, by the block and the line that they belong to."""

    def __init__(self) -> None:
        self._blocks: defaultdict[str, defaultdict[str, list[Figures]]] = defaultdict(lambda: defaultdict(list))
        self._turns: defaultdict[str, int] = defaultdict(int)

    def measure(self, block: str, ways: Mapping[str, Way]) -> None:
        """Measure what stands in the lines of a block, for one round: first to last, and in the next last to first."""
        turns = self._turns[block]
        self._turns[block] += 1
        order = list(ways)
        if turns % 2:
            order.reverse()
        for what in order:
            self.add(block, what, ways[what]())

    def add(self, block: str, what: str, figures: Figures | float) -> None:
        """Add the figures of a round."""
        self._blocks[block][what].append(figures if isinstance(figures, Figures) else Figures(figures))

    def compared(
        self, name: str, means: str, unit: str, goals: Mapping[str, Goal] | None = None, more: Iterable[Line] = ()
    ) -> Block:
        """Return a block with the line that came first, and the ratios of it to each of the others.

        A ratio is the median of those of the rounds. ``more`` are lines with units of their own.
        """
        (what, first), *others = self._blocks[name].items()
        lines = [line(what, unit, first)]
        for what, figures in others:
            ratio = statistics.median(mine.value / other.value for mine, other in zip(first, figures, strict=True))
            lines.append(line(what, unit, figures, (goals or {}).get(what), ratio))
        return Block(name, means, [*lines, *more])

    def others(self, block: str) -> list[str]:
        """Return the lines of a block but the first."""
        return list(self._blocks[block])[1:]

    def line(self, block: str, what: str, unit: str, goal: Goal | None = None) -> Line:
        """Take a line out of its block, since it has a unit, or a goal, of its own."""
        return line(what, unit, self._blocks[block].pop(what), goal)

    def keep_best(self, block: str, whats: Iterable[str]) -> None:
        """Take lines out of a block, all but the one with the greatest median."""
        lines = self._blocks[block]
        for what in sorted(whats, key=lambda what: statistics.median(each.value for each in lines[what]))[:-1]:
            del lines[what]

    def cpu(self, block: str, mine: str, other: str, what: str, goal: Goal | None = None) -> Line:
        """Return a line about all the processor time of ``other``, with the ratio of that of ``mine`` to it."""
        pairs = list(zip(*(self._blocks[block][each] for each in (mine, other)), strict=True))
        ratio = statistics.median(one.cpu_us / two.cpu_us for one, two in pairs)
        return line(what, "us", [Figures(two.cpu_us) for _, two in pairs], goal, ratio)


def line(what: str, unit: str, rounds: list[Figures], goal: Goal | None = None, ratio: float | None = None) -> Line:
    """Return a line of the figures of all rounds."""
    median = Figures(
        statistics.median(figures.value for figures in rounds),
        *(
            statistics.median(known) if (known := [each for each in of_rounds if each is not None]) else None
            for of_rounds in zip(*((f.p50_ms, f.p99_ms, f.user_us, f.system_us) for f in rounds), strict=True)
        ),
    )
    # A goal is met if what is shown says so.
    ratio = None if ratio is None else round(ratio, 2)
    met = goal.met(median.value if ratio is None else ratio) if goal else None
    return Line(what, unit, rounds, median, ratio, goal, met)
