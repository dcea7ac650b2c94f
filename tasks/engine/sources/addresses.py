"""Which URLs the service may fetch: http(s) to public addresses on ports 80 and 443, unless the operator allowed the host.

The address that was checked is the address that is used, so a name cannot resolve to something else in between.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from tasks.engine.errors import SourceRefused, SourceUnavailable

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL: connect to `address`:`port`, speak as `host`."""

    url: str
    scheme: str
    host: str
    port: int
    address: str

    @property
    def authority(self) -> str:
        """Value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def pinned_url(self) -> str:
        """The same URL with the checked address in place of the name."""
        parts = urlsplit(self.url)
        address = f"[{self.address}]" if ":" in self.address else self.address
        return parts._replace(netloc=f"{address}:{self.port}", fragment="").geturl()


def check_url(url: str, *, allow: str = "") -> Target:
    """Resolve and check a URL. `allow` is a comma-separated list of host:port exceptions. Raises SourceRefused."""
    parts = _split(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
    allowed = f"{host}:{port}" in {entry.strip() for entry in allow.split(",")}
    if not allowed and port not in DEFAULT_PORTS.values():
        raise SourceRefused("address", f"port {port} is not 80 or 443", remedy="Ask the operator for IMS_URL_ALLOW.")
    addresses = _resolve(host, port)
    if not allowed and (private := [item for item in addresses if not _is_public(item)]):
        raise SourceRefused(
            "address", f"{host} is {private[0]}, which is not a public address", remedy="Use a public URL or the inbox."
        )
    return Target(url=url, scheme=parts.scheme, host=host, port=port, address=addresses[0])


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise SourceRefused("address", f"not a usable URL: {error}") from error
    if not usable:
        raise SourceRefused("address", "a URL source is http:// or https:// and names a host")
    if parts.username or parts.password:
        raise SourceRefused("address", "credentials in a URL would be recorded", remedy="Use a presigned URL or the inbox.")
    return parts


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceUnavailable(f"{host} does not resolve: {error}", remedy="Check the name and try again.") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast
