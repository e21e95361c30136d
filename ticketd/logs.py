"""Log lines on stderr, written by a thread, so that whoever does not read them never makes the daemon wait."""

import logging
import os
import queue
import threading
import time
from contextlib import suppress

LINES_WAITING_MAX = 10_000
CLOSE_SECONDS_MAX = 1.0
# Each line that wakes the thread takes the interpreter from the loop. So lines are written together, 50 times a second.
PAUSE_SECONDS = 0.02

_STDERR = 2


class StderrHandler(logging.Handler):
    """Hands lines to the thread. Lines past LINES_WAITING_MAX are dropped, and their number is logged."""

    def __init__(self) -> None:
        super().__init__()
        formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_WAITING_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record as its line."""
        self.say(self.format(record))

    def say(self, line: str) -> None:
        """Queue a line as it is."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Give the thread a moment (CLOSE_SECONDS_MAX) to write what waits. Called by logging at the end."""
        try:
            self._lines.put(None, timeout=CLOSE_SECONDS_MAX)
            self._thread.join(CLOSE_SECONDS_MAX)
        except queue.Full:
            pass
        super().close()

    def _write(self) -> None:
        ended = False
        while not ended:
            lines = [self._lines.get()]
            with suppress(queue.Empty):
                while True:
                    lines.append(self._lines.get_nowait())
            ended = None in lines
            dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(f"({dropped} log lines were dropped: stderr was not read in time)")
            data = "".join(f"{line}\n" for line in lines if line is not None).encode(errors="backslashreplace")
            # A closed stderr or a full disk: the log is lost, the sales are not.
            with suppress(OSError):
                while data:
                    data = data[os.write(_STDERR, data) :]
            if not ended:
                time.sleep(PAUSE_SECONDS)
