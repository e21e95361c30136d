"""``python -m tests.bench.distance PORT MS``: a proxy to PORT of 127.0.0.1; a round trip through it takes MS more.

It prints its own port when it is ready. A thread reads, and another one writes when it is time: on a machine with few
processors that costs both sides something.
"""

import socket
import sys
import threading
import time
from queue import SimpleQueue

READ_BYTES = 256 * 1024


def main() -> None:
    port, seconds = int(sys.argv[1]), float(sys.argv[2]) / 1e3
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"ready port={listener.getsockname()[1]}", flush=True)
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for source, sink in ((near, far), (far, near)):
                for end in (source, sink):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _carry(source, sink, seconds / 2)


def _carry(source: socket.socket, sink: socket.socket, seconds: float) -> None:
    on_the_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def read() -> None:
        data = b"begin"
        while data:
            try:
                data = source.recv(READ_BYTES)
            except OSError:
                data = b""
            on_the_way.put((time.perf_counter() + seconds, data))

    def write() -> None:
        data = b"begin"
        while data:
            due, data = on_the_way.get()
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                sink.sendall(data) if data else sink.shutdown(socket.SHUT_WR)
            except OSError:
                return

    for work in (read, write):
        threading.Thread(target=work, daemon=True).start()


if __name__ == "__main__":
    main()
