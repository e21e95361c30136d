"""What was measured: figures of rounds, and the blocks of the table that are made of them."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct


class Figures(Struct, omit_defaults=True):
    """What one measurement came to, in the unit of its line, and its latencies if it has any."""

    value: float
    p50_ms: float | None = None
    p99_ms: float | None = None


Way = Callable[[], Figures]


class Goal(Struct):
    """What a ratio, or a value where there is none, shall be: at least the bound, or else below it."""

    bound: float
    at_least: bool

    def met(self, figure: float) -> bool:
        """Whether the figure is as it shall be."""
        return figure >= self.bound if self.at_least else figure < self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<'} {self.bound:g}"


def at_least(bound: float) -> Goal:
    return Goal(bound, at_least=True)


def below(bound: float) -> Goal:
    return Goal(bound, at_least=False)


class Line(Struct, omit_defaults=True):
    """One line: the medians of the rounds, and the figures of each. The goal is one of the ratio if there is one."""

    what: str
    unit: str
    rounds: list[Figures]
    value: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    ratio: float | None = None
    goal: Goal | None = None
    met: bool | None = None

    def __str__(self) -> str:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        verdict = {None: "", True: "met", False: "MISSED"}[self.met]
        goal = "" if self.goal is None else str(self.goal)
        value = f"{self.value:,.0f}" if self.value >= 100 else f"{self.value:.3g}"
        p50, p99 = ("" if ms is None else f"{ms:.2f}" for ms in (self.p50_ms, self.p99_ms))
        return (
            f"{ratio:>8}  {goal:<7} {verdict:<6}  {self.what:<42}{value:>10} {self.unit:<4}{p50:>8}{p99:>9}"
        ).rstrip()


HEADING = f"{'ratio':>8}  {'goal':<7} {'':<6}  {'':<42}{'median':>10} {'':<4}{'p50 ms':>8}{'p99 ms':>9}"


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
        lines = [_line(what, unit, first)]
        for what, figures in others:
            ratio = statistics.median(mine.value / other.value for mine, other in zip(first, figures, strict=True))
            # A goal is met if what is shown says so.
            ratio = round(ratio, 2)
            lines.append(_line(what, unit, figures, ratio, (goals or {}).get(what)))
        return Block(name, means, [*lines, *more])

    def line(self, block: str, what: str, unit: str, goal: Goal | None = None) -> Line:
        """Take a line out of its block, since it has a unit, or a goal, of its own."""
        return _line(what, unit, self._blocks[block].pop(what), None, goal)


def _line(what: str, unit: str, rounds: list[Figures], ratio: float | None = None, goal: Goal | None = None) -> Line:
    value = statistics.median(figures.value for figures in rounds)
    p50, p99 = (
        statistics.median(known) if (known := [ms for ms in of_rounds if ms is not None]) else None
        for of_rounds in ([figures.p50_ms for figures in rounds], [figures.p99_ms for figures in rounds])
    )
    met = goal.met(value if ratio is None else ratio) if goal else None
    return Line(what, unit, rounds, value, p50, p99, ratio, goal, met)
