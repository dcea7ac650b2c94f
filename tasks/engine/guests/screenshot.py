"""A picture of a guest's screen, as PNG (QEMU 7.1 and libvirt 9.0 give it so)."""

from __future__ import annotations

from typing import Any

from tasks.engine.errors import HostUnavailable
from tasks.engine.guests.hypervisor import libvirt_calls

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_BYTES = 64 << 20


def screenshot_png(domain: Any) -> bytes:
    """The screen of a running virDomain now."""
    picture = bytearray()
    with libvirt_calls("taking a screenshot"):
        stream = domain.connect().newStream()
        domain.screenshot(stream, 0)
        stream.recvAll(_receive, picture)
        stream.finish()
    if not picture.startswith(PNG_SIGNATURE):
        raise HostUnavailable("screenshot", "this host's QEMU gives no PNG screenshots", remedy="Use QEMU 7.1 or newer.")
    return bytes(picture)


def _receive(_stream: object, data: bytes, picture: bytearray) -> int:
    """libvirt's sink; a negative answer ends the transfer with an error."""
    if len(picture) + len(data) > MAX_BYTES:
        return -1
    picture += data
    return len(data)
