"""A QCOW version 1 image of 4 KiB clusters: header with its L1 table, one L2 table, two data clusters."""

from __future__ import annotations

from forge_bytes import put

from tasks.engine.disks import c_qcow as c

CLUSTER = 4096
L2, DATA_0, DATA_1, END = (CLUSTER * number for number in range(1, 5))
VIRTUAL_SIZE = 1 << 20

_HEADER = c.Header(b"QFI\xfb", 1, 0, 0, 0, VIRTUAL_SIZE, 12, 9, 0, 0, c.HEADER_LENGTH)


def qcow(*entries: int, **fields: int) -> bytearray:
    """The image; `entries` begin its L2 table, `fields` replace those of its header by name."""
    data = bytearray(END)
    put(data, 0, c.HEADER, *_HEADER._replace(**fields))  # type: ignore[arg-type]
    put(data, c.HEADER_LENGTH, ">Q", L2)
    entries = entries or (DATA_0, DATA_1)
    return put(data, L2, f">{len(entries)}Q", *entries)


def compressed(offset: int, length: int) -> int:
    """The L2 entry for a compressed cluster."""
    return c.COMPRESSED | length << (63 - 12) | offset
