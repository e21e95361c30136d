"""Lays out the columns of a table: fits them into the width of a terminal, and draws them as lines. Pure."""

from collections.abc import Collection, Mapping, Sequence

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


def widths_of(columns: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the width, in cells, that each column takes for its texts."""
    return {name: max(map(_width, texts)) for name, texts in columns.items()}


def drawn(columns: Mapping[str, Sequence[str]], widths: Mapping[str, int], right_aligned: Collection[str]) -> str:
    """Return the columns that have a width, as lines. Text that is too long is cut. ``right_aligned`` are names."""
    aligned = [
        [_padded(text, width, right=name in right_aligned) for text in columns[name]] for name, width in widths.items()
    ]
    return "\n".join((" " * GAP_CELLS).join(row).rstrip() for row in zip(*aligned, strict=True))


def _padded(text: str, width: int, *, right: bool) -> str:
    if _width(text) > width:
        while _width(text) > width - 1:
            text = text[:-1]
        text += "…"
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _width(text: str) -> int:
    # Most names are ASCII, and a command starts faster without the tables of wcwidth.
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    return max(0, wcswidth(text))
