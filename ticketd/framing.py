"""Bytes to lines, with a limit. Sans-I/O: it is handed what arrived and gives back what is complete."""

_BLANK = b" \t\r"


class Lines:
    """Splits what one connection sends into lines, without their LF or CR LF.

    Only what arrives is searched, so a line that dribbles in costs time in proportion to its length. At most
    ``limit`` bytes of an unfinished line are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial = bytearray()
        self.too_long = False

    @property
    def pending(self) -> bool:
        """Whether a line has begun that has not ended."""
        return bool(self._partial)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that the chunk completes, in order, blank ones left out.

        Once a line is longer than ``limit`` bytes there is no safe place to resume: ``too_long`` is set, the lines
        before it are returned, and what follows is ignored.
        """
        if self.too_long:
            return []
        *complete, rest = chunk.split(b"\n")
        if complete and self._partial:
            self._partial += complete[0]
            complete[0] = bytes(self._partial)
            self._partial.clear()
        lines: list[bytes] = []
        for line in complete:
            if len(line) > self._limit and self._over(line):
                self.too_long = True
                return lines
            text = line.strip(_BLANK)
            if text:
                lines.append(text)
        self._partial += rest
        if len(self._partial) > self._limit and self._over(self._partial):
            self._partial.clear()
            self.too_long = True
        return lines

    def end(self) -> bytes:
        """Return what was left without its newline when the input ended."""
        rest = bytes(self._partial).strip(_BLANK)
        self._partial.clear()
        return rest

    def _over(self, line: bytes | bytearray) -> bool:
        # The CR of CR LF does not count as part of the line.
        return len(line) - line.endswith(b"\r") > self._limit
