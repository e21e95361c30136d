"""Owns TLS: how a client checks whom it talks to. Importing it takes longer than most commands."""

import socket
import ssl

# What OpenSSL says of an answer that is not TLS.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
# What to do, by the error of OpenSSL (X509_V_ERR): nobody known has signed it, or it has another name.
_ADVICE = {
    **dict.fromkeys((18, 19, 20, 21), "; if it is yours, trust a copy of it with --tls-ca FILE"),
    **dict.fromkeys((62, 64), "; connect by a name that is in it"),
}


class Tls:
    """Checks the certificates of servers, by those of the file ``authorities`` if there is one. Raises ValueError.

    See Encryption.
    """

    def __init__(self, authorities: str | None = None) -> None:
        try:
            self.context = ssl.create_default_context(cafile=authorities)
        except ssl.SSLError as error:
            what = "no certificate" if error.reason == "NO_CERTIFICATE_OR_CRL_FOUND" else "a damaged certificate"
            raise ValueError(f"{authorities} has {what} in it; it must be a PEM file") from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise ValueError(f"cannot read the certificates in {authorities} ({why})") from None
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    def begin(self, connection: socket.socket, host: str) -> socket.socket:
        """See Encryption."""
        try:
            return self.context.wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise

    def why(self, error: Exception) -> str:
        """See Encryption."""
        match error:
            case ssl.SSLCertVerificationError():
                advice = _ADVICE.get(error.verify_code, "")
                return f"its certificate is not accepted: {error.verify_message.lower().rstrip('.')}{advice}"
            case ssl.SSLError() if error.reason in _NOT_TLS:
                return "it does not speak TLS; leave out --tls and --tls-ca (TICKETD_TLS_CA)"
            case ssl.SSLError():
                return f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}"
            case _:
                return f"TLS failed: {(getattr(error, 'strerror', None) or str(error)).lower()}"

    def has_input(self, connection: socket.socket) -> bool:
        """See Encryption. Messages of TLS itself do not count."""
        connection.settimeout(0)
        try:
            connection.recv(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        return True
