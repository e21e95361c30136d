"""Owns how a certificate and its key are read, and what is wrong with them in words."""

import os
import ssl
import stat
from pathlib import Path

BYTES_MAX = 1024 * 1024
# What OpenSSL calls it if a key is another one, or of another kind than its certificate.
_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


class CertificateError(Exception):
    """The certificate or its key cannot be used; the message names the file, and says why and what to do."""


def read(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return what connections are greeted with; the key is in the file of the certificate if it has none of its own.

    The context is always a new one: an old one would keep an old certificate beside a new one of another kind. Raises
    CertificateError.
    """
    chain = _content("certificate", certificate)
    if b"CERTIFICATE-----" not in chain:
        raise CertificateError(f"{certificate} has no certificate in it; it must be a PEM file")
    key_file, secret = key or certificate, _content("key", key) if key else chain
    if b"PRIVATE KEY-----" not in secret:
        what_to_do = "it must be a PEM file" if key else "give it with --tls-key"
        raise CertificateError(f"{key_file} has no key in it; {what_to_do}")
    if b"ENCRYPTED" in secret:
        raise CertificateError(
            f"the key {key_file} has a password; give one without: openssl pkey -in {key_file} -out FILE"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Nobody resumes a session: clients keep their connections.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    try:
        # Without a password, OpenSSL would ask the terminal for that of a key which is encrypted all the same.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        if reason in _MISMATCH:
            raise CertificateError(f"the key in {key_file} is not that of the certificate {certificate}") from None
        raise CertificateError(
            f"cannot use the certificate {certificate} with the key in {key_file} ({reason}); make them anew"
        ) from None
    return context


def _content(what: str, path: Path) -> bytes:
    try:
        # Opening a pipe must not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CertificateError(f"the {what} {path} is no regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(BYTES_MAX)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CertificateError(f"cannot read the {what} {path} ({error.strerror})") from None
