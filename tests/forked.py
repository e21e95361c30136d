"""Processes that run ``python -m ticketd`` and ``python -m ticketctl``, forked from one that has imported both.

Most of the work of a short process is imports: without them it costs a sixth. All else is as in one that is started
anew, but for settings of the interpreter such as PYTHONPATH, which change nothing.
"""

import atexit
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread

processes = get_context("forkserver")
# With the module that started the tests, or each process would import that anew.
processes.set_forkserver_preload(
    ["__main__", __name__, "ticketctl.cli", "ticketd.cli", "ticketd.ledger.postgres.ledger", "uvloop"]
)


class Forked:
    """A process that runs a module. It has what the tests need of ``subprocess.Popen``.

    ``streams`` are descriptors of this process, by the numbers that they get there: 0, 1 and 2.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        streams: Mapping[int, int],
        cwd: Path | None = None,
    ) -> None:
        self.args = [module, *arguments]
        # Such a connection can be sent to a process; it owns its descriptor.
        sent = {number: Connection(os.dup(stream)) for number, stream in streams.items()}
        self._process = processes.Process(target=_run, args=(self.args, dict(env), sent, cwd or Path.cwd()))
        self._process.start()
        for connection in sent.values():
            connection.close()

    @property
    def pid(self) -> int:
        """Its number in the system."""
        assert self._process.pid
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status if it has ended: below 0, it is the number of the signal that ended it."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Return the exit status once it has ended, or raise TimeoutExpired after so many seconds."""
        self._process.join(timeout)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def send_signal(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            # The process that forked it hears of its end earlier.
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def run(
    module: str, arguments: Sequence[str], env: Mapping[str, str], timeout: float, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run a module to its end, and return what it wrote."""
    with TemporaryFile() as out, TemporaryFile() as err:
        read, write = os.pipe()
        process = Forked(module, arguments, env, {0: read, 1: out.fileno(), 2: err.fileno()})
        os.close(read)
        writing = Thread(target=_write, args=(write, stdin))
        writing.start()
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
            writing.join()
        written = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
    return subprocess.CompletedProcess(process.args, status, *written)


def _write(descriptor: int, data: bytes) -> None:
    # It may end without reading all of it.
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb", buffering=0) as pipe:
        pipe.write(data)


def _run(args: list[str], env: dict[str, str], streams: dict[int, Connection], cwd: Path) -> None:
    # What a shell runs in its background ignores it, and so do all processes that this one starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    for number, connection in streams.items():
        os.dup2(connection.fileno(), number)
        connection.close()
    # As the interpreter opens them.
    sys.stdin = os.fdopen(0, encoding="utf-8", newline="\n", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.argv = args
    try:
        runpy.run_module(args[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
