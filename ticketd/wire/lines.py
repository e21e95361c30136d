"""Splits bytes into lines, with a limit. Sans-I/O: feed it what has arrived, and it returns the complete lines."""

# The default limit; see Limits.
FRAME_BYTES_MAX = 16 * 1024

_BLANK = b" \t\r"
BLANK_AND_LF = b" \t\r\n"


class Lines:
    """Splits what one connection sends into lines, without their LF or CR LF.

    Every byte is scanned once, so a line that arrives byte by byte costs time in proportion to its length. Of an
    unfinished line at most ``limit`` bytes are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._partial = bytearray()
        # Whether a line has begun that has not ended.
        self.pending = False
        self.too_long = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that the chunk completes, in order, without blank ones.

        After a line longer than ``limit`` bytes there is no safe place to resume: ``too_long`` is set, the lines before
        it are returned, and everything after it is ignored.
        """
        if self.too_long:
            return []
        if chunk.find(b"\n") == len(chunk) - 1 < self.limit and not self.pending:
            # By far the most common case: one whole line.
            text = chunk.strip(BLANK_AND_LF)
            return [text] if text else []
        *complete, rest = chunk.split(b"\n")
        if complete and self._partial:
            self._partial += complete[0]
            complete[0] = bytes(self._partial)
            self._partial.clear()
        lines: list[bytes] = []
        for line in complete:
            if len(line) > self.limit and self._exceeds_limit(line):
                self.too_long = True
                return lines
            text = line.strip(_BLANK)
            if text:
                lines.append(text)
        self._partial += rest
        if len(self._partial) > self.limit and self._exceeds_limit(self._partial):
            self._partial.clear()
            self.too_long = True
        self.pending = bool(self._partial)
        return lines

    def end(self) -> bytes:
        """Return the last line, if the input ended without its newline, or b""."""
        rest = bytes(self._partial).strip(_BLANK)
        self._partial.clear()
        self.pending = False
        return rest

    def _exceeds_limit(self, line: bytes | bytearray) -> bool:
        # The CR of a CR LF does not count.
        return len(line) - line.endswith(b"\r") > self.limit
