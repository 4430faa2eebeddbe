"""What both transports share: the TLS context, HTTP proxies, and the decoding of compressed bodies."""

import ssl
import zlib
from collections.abc import Iterator, Mapping
from typing import Protocol
from urllib.parse import urlsplit

import certifi
import zstandard

from adapters.transport import TransportError

_SLICE = 16 * 1024
_ZSTD_SLICE = 256
"""Bytes fed at a time, so that a body made to explode is noticed piece by piece (zstd repeats more than zlib)."""


def tls_context(ca_file: str | None = None, *, verify: bool = True) -> ssl.SSLContext:
    """Build the TLS context of upstream connections; once per transport, for it reads every root certificate.

    `ca_file` replaces the trusted roots; without it the system's are used, and certifi's where the system names none.
    Raises OSError when the file cannot be read.
    """
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is None and ssl.get_default_verify_paths().cafile is None:
        context.load_verify_locations(certifi.where())
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def proxies_in(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxies an environment names: `http`, `https`, `all` and the exceptions `no`; lower case wins over upper."""
    found = {
        key: environ.get(f"{key}_proxy") or environ.get(f"{key}_PROXY".upper())
        for key in ("http", "https", "all", "no")
    }
    return {key: value for key, value in found.items() if value}


def proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    """The proxy that this URL goes through, or None. A proxy without a scheme is an HTTP one. Raises ValueError.

    `no` lists hosts, domains with or without their first dot, `host:port` or `*`, as curl and requests read it.
    """
    parts = urlsplit(url)
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    host, port = (parts.hostname or "").lower(), parts.port
    for each in proxies.get("no", "").lower().replace(",", " ").split():
        name = each.lstrip(".")
        if name in {"*", host, f"{host}:{port}"} or host.endswith(f".{name}"):
            return None
    return proxy if "://" in proxy else f"http://{proxy}"


class _Inflater(Protocol):
    """What zlib and zstandard have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _deflate(first: bytes) -> _Inflater:
    """`deflate` means zlib's format, yet some servers send the bare one: the first byte tells (RFC 9110 §8.4.1.2)."""
    return zlib.decompressobj(15 if first[:1] and first[0] & 0x0F == zlib.DEFLATED else -15)


class Decoder:
    """Decodes one body of `content-encoding` gzip, deflate or zstd as it arrives."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower().removeprefix("x-")
        if self._encoding not in {"gzip", "deflate", "zstd"}:
            raise TransportError("protocol", f"content-encoding {encoding!r} was not asked for")
        self._inflater: _Inflater | None = None

    def _start(self, data: bytes) -> _Inflater:
        if self._encoding == "gzip":
            return zlib.decompressobj(31)
        return _deflate(data) if self._encoding == "deflate" else zstandard.ZstdDecompressor().decompressobj()

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces of these bytes, none of them empty. Raises TransportError on a broken body."""
        step = _ZSTD_SLICE if self._encoding == "zstd" else _SLICE
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            while piece:
                inflater = self._inflater
                if inflater is None or inflater.eof:
                    inflater = self._inflater = self._start(piece)
                try:
                    out = inflater.decompress(piece)
                except (zlib.error, zstandard.ZstdError) as error:
                    raise TransportError("protocol", f"broken {self._encoding} body") from error
                if out:
                    yield out
                piece = inflater.unused_data if inflater.eof else b""

    def end(self) -> None:
        """Say that the body has ended. Raises TransportError when the encoded data has not."""
        if self._inflater is not None and not self._inflater.eof:
            raise TransportError("protocol", f"{self._encoding} body ends early")


def decoder_for(encoding: str | None) -> Decoder | None:
    """The decoder this `content-encoding` needs; None for an absent or plain one. Raises TransportError."""
    return None if not encoding or encoding == "identity" else Decoder(encoding)
