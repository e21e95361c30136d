"""Writes log lines to stderr in a thread of its own, so that the daemon never waits for the reader of stderr."""

import logging
import os
import queue
import threading
import time
from contextlib import suppress

LINES_WAITING_MAX = 10_000
CLOSE_SECONDS_MAX = 1.0
# A thread that wakes up takes the interpreter's lock from the loop. So lines are written together, 50 times a second.
PAUSE_SECONDS = 0.02

_STDERR = 2


class StderrHandler(logging.Handler):
    """Queues lines for the thread. While LINES_WAITING_MAX lines wait, more are dropped, and the log says how many."""

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
        """Format a record and queue it."""
        self.write_line(self.format(record))

    def write_line(self, line: str) -> None:
        """Queue a line as it is, without time and level."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Wait for the thread to write what is queued, but not long (CLOSE_SECONDS_MAX). Called by logging at exit."""
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
            # If stderr is closed or its disk is full, the log is lost, and the sale goes on.
            with suppress(OSError):
                while data:
                    data = data[os.write(_STDERR, data) :]
            if not ended:
                time.sleep(PAUSE_SECONDS)
