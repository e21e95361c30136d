"""What whoever watches the daemon can ask it over HTTP: its metrics, whether it lives, and whether it can sell."""

import socket

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from ticketd.serving.http import JSON, TEXT, Answer, HttpServer
from ticketd.serving.metrics import Metrics
from ticketd.serving.service import Service
from ticketd.wire.codec import encode
from ticketd.wire.replies import ReadyReply


class Monitor:
    """Answers for a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        self._registry.register(Metrics(service))
        # Its processor time, memory and open files.
        ProcessCollector(registry=self._registry)
        # The format that every Prometheus reads.
        self._encode, self._kind = choose_encoder("")
        self._http = HttpServer({"/metrics": self._metrics, "/livez": self._live, "/readyz": self._ready})

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Answer on these sockets. Raises OSError."""
        await self._http.listen(sockets)

    def close(self) -> None:
        """Answer nobody any more."""
        self._http.close()

    def _metrics(self) -> Answer:
        return Answer(200, self._kind, self._encode(self._registry))

    def _live(self) -> Answer:
        return Answer(200, TEXT, b"alive\n")

    def _ready(self) -> Answer:
        """Return the reply to ``ready``."""
        reply = self._service.ready()
        return Answer(200 if isinstance(reply, ReadyReply) else 503, JSON, encode(reply) + b"\n")
