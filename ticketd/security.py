"""Owns what protects the daemon: the access file and TLS, read at the start and again on SIGHUP."""

import asyncio
import logging
import signal
import ssl
from collections.abc import Iterable
from pathlib import Path

from ticketd import access_file
from ticketd.access_file import AccessFileError
from ticketd.config import Options
from ticketd.serving.access import Access
from ticketd.serving.listening import Address, is_reached_by_others
from ticketd.serving.server import Server

log = logging.getLogger("ticketd")


class CannotListenError(Exception):
    """Cannot listen on the address, or serve anybody; the message says why and what to do."""


class Security:
    """The access and the TLS of ``options``. Raises AccessFileError or CannotListenError if they cannot be used."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.access: Access | None = None
        self.tls: ssl.SSLContext | None = None
        if options.access:
            self.access = Access(access_file.read(options.access), options.limits.sales_per_second_max)
        if options.tls_certificate:
            self.tls = self._new_tls(options.tls_certificate)

    def _new_tls(self, certificate: Path) -> ssl.SSLContext:
        """Return a new context: one that exists would keep an old certificate beside a new one of another kind."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        # Nobody resumes a session: clients keep their connections.
        tls.num_tickets = 0
        try:
            # Without a password, OpenSSL would ask the terminal for the one of an encrypted key, and wait.
            tls.load_cert_chain(certificate, self._options.tls_key, password="")
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or getattr(error, "reason", None) or str(error)
            raise CannotListenError(
                f"cannot use the certificate {certificate} with its key ({reason}); both must be PEM files, the"
                " key without a password"
            ) from None
        return tls

    def check_service(self, where: str, addresses: Iterable[Address]) -> None:
        """Refuse addresses that other machines reach, unless somebody guards them. Raises CannotListenError."""
        options = self._options
        if not any(map(is_reached_by_others, addresses)):
            return
        if self.access is None and not options.open_to_the_network:
            raise CannotListenError(
                f"whoever reaches {where} could sell, cancel and let in; give an access file (ticketd access add makes"
                " one, --access FILE uses it), or accept that with --open-to-the-network"
            )
        if self.access is None:
            log.warning(
                "open to the network: whoever reaches %s can sell, cancel and let in; --access FILE ends that", where
            )
        elif self.tls is None and not options.plain_tokens:
            log.warning(
                "%s has no TLS, so it takes no tokens from other machines; give --tls-certificate, or --plain-tokens in"
                " a network that nobody else can read",
                where,
            )

    def check_metrics(self, where: str, addresses: Iterable[Address]) -> None:
        """The same for the metrics, which no access file guards."""
        if not any(map(is_reached_by_others, addresses)):
            return
        if not self._options.open_to_the_network:
            raise CannotListenError(
                f"whoever reaches {where} could read the metrics: which events there are, and how they sell; leave them"
                " on this machine (--metrics PORT), or accept that with --open-to-the-network"
            )
        log.warning("open to the network: whoever reaches %s can read the metrics", where)

    def reload_on_signal(self, server: Server) -> None:
        """Read both again on every SIGHUP. What cannot be used changes nothing, and is logged."""
        if self.access or self.tls:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload, server)

    def _reload(self, server: Server) -> None:
        options = self._options
        try:
            access = access_file.read(options.access) if options.access else None
            tls = self._new_tls(options.tls_certificate) if options.tls_certificate else None
        except (AccessFileError, CannotListenError) as error:
            log.warning("%s; nothing was changed", error)
            return
        if self.access and access:
            self.access.replace(access)
            server.recheck()
            log.info("read the access file %s again", options.access)
        if tls:
            self.tls = server.tls = tls
            log.info("read the certificate %s again", options.tls_certificate)
