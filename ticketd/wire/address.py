"""What people write where only a host belongs. Pure."""

import re

from ticketd.wire.schema import shown

# A name or an IPv4 address with a port, or an IPv6 address in brackets, perhaps with one.
_MORE_THAN_A_HOST = re.compile(r"(?:\w+://)?(?:\[(?P<ipv6>[^]]*)\]|(?P<name>[^:/]*))(?::(?P<port>\d+))?/?")


def check_host(source: str, host: str) -> None:
    """Raise ValueError, with what to write instead, if a host that came from ``source`` is a URL or has a port."""
    match = _MORE_THAN_A_HOST.fullmatch(host)
    if match and (only := match["ipv6"] or match["name"]) != host:
        flags = [f"--host {only}" if only else "", f"--port {match['port']}" if match["port"] else ""]
        instead = " ".join(filter(None, flags)) or "it without the rest"
        raise ValueError(f"{source} must be a name or an address alone, not {shown(host)}; write {instead}")
