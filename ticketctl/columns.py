"""Fits the columns of a table into the width of a terminal. Pure."""

from collections.abc import Mapping, Sequence

# Between two columns.
GAP_CELLS = 2

# A column, and to how many cells it may shrink; 0 leaves it out.
Step = tuple[str, int]


def fit(widths: Mapping[str, int], steps: Sequence[Step], room: int) -> dict[str, int]:
    """Return the widths, in cells, of the columns that are shown: all of them as they are, if there is room.

    If not, each step is taken as far as needed, one after the other. In the end, what was left out may make room again
    for what was cut before. If all steps were taken, the rest may still be too wide.
    """
    fitted = dict(widths)
    for column, least in steps:
        excess = total(fitted) - room
        if excess <= 0:
            break
        if column not in fitted:
            continue
        if least:
            fitted[column] = max(min(least, fitted[column]), fitted[column] - excess)
        else:
            del fitted[column]
    for column, _ in reversed(steps):
        if column in fitted:
            fitted[column] += max(0, min(room - total(fitted), widths[column] - fitted[column]))
    return fitted


def total(widths: Mapping[str, int]) -> int:
    """Return how many cells columns of these widths take together."""
    return sum(widths.values()) + GAP_CELLS * (len(widths) - 1)
