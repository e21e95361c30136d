"""Makes certificates for tests: self-signed, for 127.0.0.1 and localhost, with a new key each time.

The computer's own ssl cannot make them, and one in the repository would run out.
"""

import base64
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

# The curve P-256: its field, its order, and its generator.
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_Point = tuple[int, int]

_EC_KEY = bytes.fromhex("06072a8648ce3d0201")
_P256 = bytes.fromhex("06082a8648ce3d030107")
_ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")
_COMMON_NAME = bytes.fromhex("0603550403")
_ALTERNATIVE_NAMES = bytes.fromhex("0603551d11")
_BASIC_CONSTRAINTS = bytes.fromhex("0603551d13")
_INTEGER, _BITS, _OCTETS, _TEXT, _TIME, _SEQUENCE, _SET = 0x02, 0x03, 0x04, 0x0C, 0x18, 0x30, 0x31


def new_certificate(days: int = 30) -> tuple[str, str]:
    """Return a certificate and its key as PEM."""
    key = secrets.randbelow(_N - 1) + 1
    x, y = _times(key, _G)
    point = b"\4" + x.to_bytes(32) + y.to_bytes(32)
    now = datetime.now(UTC)
    name = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, _COMMON_NAME, _der(_TEXT, b"ticketd test"))))
    # 127.0.0.1 and localhost, by their kinds.
    names = _der(_SEQUENCE, _der(0x87, bytes([127, 0, 0, 1])), _der(0x82, b"localhost"))
    content = _der(
        _SEQUENCE,
        _der(0xA0, _integer(2)),
        _integer(secrets.randbits(64) + 1),
        _der(_SEQUENCE, _ECDSA_SHA256),
        name,
        _der(_SEQUENCE, _time(now - timedelta(days=1)), _time(now + timedelta(days=days))),
        name,
        _der(_SEQUENCE, _der(_SEQUENCE, _EC_KEY, _P256), _der(_BITS, b"\0", point)),
        _der(
            0xA3,
            _der(
                _SEQUENCE,
                _der(_SEQUENCE, _ALTERNATIVE_NAMES, _der(_OCTETS, names)),
                _der(_SEQUENCE, _BASIC_CONSTRAINTS, _der(0x01, b"\xff"), _der(_OCTETS, _der(_SEQUENCE, b"\1\1\xff"))),
            ),
        ),
    )
    certificate = _der(_SEQUENCE, content, _der(_SEQUENCE, _ECDSA_SHA256), _der(_BITS, b"\0", _signature(key, content)))
    private = _der(_SEQUENCE, _integer(1), _der(_OCTETS, key.to_bytes(32)), _der(0xA0, _P256))
    return _pem("CERTIFICATE", certificate), _pem("EC PRIVATE KEY", private)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a new certificate and its key into a folder, for those who read ``tls.pem`` and ``tls.key``."""
    paths = folder / "tls.pem", folder / "tls.key"
    for path, content in zip(paths, new_certificate(), strict=True):
        new = path.with_suffix(".new")
        new.write_text(content)
        new.replace(path)
    return paths


def _signature(key: int, content: bytes) -> bytes:
    digest = int.from_bytes(hashlib.sha256(content).digest())
    while True:
        once = secrets.randbelow(_N - 1) + 1
        r = _times(once, _G)[0] % _N
        s = pow(once, -1, _N) * (digest + r * key) % _N
        if r and s:
            return _der(_SEQUENCE, _integer(r), _integer(s))


def _times(factor: int, point: _Point) -> _Point:
    product: _Point | None = None
    while factor:
        if factor & 1:
            product = point if product is None else _sum(product, point)
        point = _sum(point, point)
        factor >>= 1
    assert product
    return product


def _sum(a: _Point, b: _Point) -> _Point:
    slope = (3 * a[0] ** 2 - 3) * pow(2 * a[1], -1, _P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, _P)
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


def _der(kind: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    if length < 0x80:
        return bytes([kind, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes([kind, 0x80 | len(octets)]) + octets + content


def _integer(number: int) -> bytes:
    return _der(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def _time(when: datetime) -> bytes:
    return _der(_TIME, when.strftime("%Y%m%d%H%M%SZ").encode())


def _pem(what: str, content: bytes) -> str:
    text = base64.encodebytes(content).decode()
    return f"-----BEGIN {what}-----\n{text}-----END {what}-----\n"
