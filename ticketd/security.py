"""Owns what protects the daemon: the access file and TLS, read at the start and again on SIGHUP."""

import asyncio
import logging
import signal
import ssl
import stat
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from ticketd import access_file, certificate
from ticketd.access_file import AccessFileError, AccessList
from ticketd.certificate import CertificateError
from ticketd.config import Options
from ticketd.disk_thread import DiskThread
from ticketd.serving.access import Access
from ticketd.serving.listening import Address, is_reached_by_others
from ticketd.serving.server import Server

log = logging.getLogger("ticketd")

# A log line has at most so many names of tokens.
NAMES_MAX = 20
# How long looking up uids may take. This machine may have to ask another one, such as an LDAP server.
USERS_SECONDS_MAX = 2.0


class CannotListenError(Exception):
    """Cannot listen on the address, or serve anybody; the message says why and what to do."""


class Security:
    """The access and the TLS of ``options``. Raises AccessFileError or CannotListenError if they cannot be used."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._list = AccessList()
        # The uids of its users, and the thread that looks them up.
        self._users: dict[str, int] = {}
        self._thread: DiskThread | None = None
        self.access: Access | None = None
        self.tls: ssl.SSLContext | None = None
        if options.access:
            self._list = access_file.read(options.access)
            self.access = Access(self._list, options.limits.sales_per_second_max)
            _warn_of_readers(options.access, "the access file", "hashes of tokens")
        if options.tls_certificate:
            try:
                self.tls = certificate.read(options.tls_certificate, options.tls_key)
            except CertificateError as error:
                raise CannotListenError(str(error)) from None
            _warn_of_readers(options.tls_key or options.tls_certificate, "the key", "what clients trust")

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

    def describe(self) -> str:
        """Return what the ready line says of both; nothing if there are none."""
        tls = " tls=yes" if self.tls else ""
        if self.access is None:
            return tls
        listed = self._list
        return f"{tls} access={self._options.access} tokens={len(listed.tokens)} anonymous={listed.anonymous or 'none'}"

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

    async def look_up_users(self) -> None:
        """Look up the uids of the users in the access file. Until then these users may do nothing."""
        if self.access:
            self.access.replace(self._list, await self._uids(self._list))

    async def _uids(self, access: AccessList) -> dict[str, int]:
        """Return the uids of the users in a list, or only those known before if this machine is too slow."""
        if not access.users:
            return {}
        self._thread = self._thread or DiskThread("users")
        why = "whom this machine does not know"
        try:
            async with asyncio.timeout(USERS_SECONDS_MAX):
                self._users = await self._thread.do(partial(access_file.uids, access))
        except TimeoutError:
            why = "and this machine does not say who that is; send SIGHUP when it does"
        for user in access.users.keys() - self._users.keys():
            log.warning("the access file %s has a user %s, %s", self._options.access, user, why)
        return {user: uid for user, uid in self._users.items() if user in access.users}

    async def reload_on_signal(self, server: Server) -> None:
        """Read both again on every SIGHUP, and at once if one came before. What cannot be used changes nothing."""
        hung_up = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        while True:
            await hung_up.wait()
            hung_up.clear()
            await self._reload(server)

    async def _reload(self, server: Server) -> None:
        """Read each by itself: a bad certificate must not save a token that is taken back."""
        options = self._options
        if self.access and options.access:
            await self._reload_access(self.access, options.access, server)
        if options.tls_certificate:
            try:
                self.tls = server.tls = certificate.read(options.tls_certificate, options.tls_key)
                log.info("read the certificate %s again", options.tls_certificate)
            except CertificateError as error:
                log.warning("%s; the certificate that was read before stays in use", error)
        if not options.access and not options.tls_certificate:
            log.info("got SIGHUP, but there is neither an access file nor a certificate to read again")

    async def _reload_access(self, access: Access, path: Path, server: Server) -> None:
        try:
            after = access_file.read(path)
        except AccessFileError as error:
            log.warning("%s; the access file that was read before stays in use", error)
            return
        users = await self._uids(after)
        before, self._list = self._list, after
        access.replace(after, users)
        ended = server.recheck()
        changes = _changes(before, after)
        log.info(
            "read the access file %s again tokens=%d%s connections_ended=%d", path, len(after.tokens), changes, ended
        )


def _changes(before: AccessList, after: AccessList) -> str:
    old, new = ({token.name: token for token in each.tokens} for each in (before, after))
    changed = [name for name in old if name in new and old[name] != new[name]]
    kinds = {"added": [*(new.keys() - old)], "removed": [*(old.keys() - new)], "changed": changed}
    return "".join(f" {kind}={_listed(names)}" for kind, names in kinds.items() if names)


def _listed(names: Iterable[str]) -> str:
    first, rest = sorted(names)[:NAMES_MAX], sorted(names)[NAMES_MAX:]
    return ",".join([*first, *([f"and-{len(rest)}-more"] if rest else [])])


def _warn_of_readers(path: Path, what: str, has: str) -> None:
    with suppress(OSError):
        if path.stat().st_mode & stat.S_IROTH:
            log.warning("every user of this machine can read %s %s, which has %s: chmod 600 %s", what, path, has, path)
