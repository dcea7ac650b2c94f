"""A QCOW2 image of seven clusters of 4 KiB, made field by field: header, refcounts, L1, one L2 table, two data clusters."""

from __future__ import annotations

import struct

from forge_bytes import put

from tasks.engine.disks import c_qcow2 as c

CLUSTER = 4096
REFCOUNT_TABLE, REFCOUNT_BLOCK, L1, L2, DATA_0, DATA_1, END = (CLUSTER * number for number in range(1, 8))
VIRTUAL_SIZE = 1 << 20
COPIED = 1 << 63
COMPRESSED = 1 << 62


def qcow2(*, extensions: bytes = b"", compression_type: int = 0, **fields: int) -> bytearray:
    """The image, with fields of its header replaced by name."""
    v2 = c.HeaderV2(b"QFI\xfb", 3, 0, 0, 12, VIRTUAL_SIZE, 0, 1, L1, REFCOUNT_TABLE, 1, 0, 0)
    v3 = c.HeaderV3(0, 0, 0, 4, 112, compression_type)
    v2 = v2._replace(**{name: value for name, value in fields.items() if name in c.HeaderV2._fields})
    v3 = v3._replace(**{name: value for name, value in fields.items() if name in c.HeaderV3._fields})
    data = bytearray(END)
    put(data, 0, c.HEADER_V2, *v2)
    if v2.version != 2:
        put(data, c.HEADER_V3_OFFSET, c.HEADER_V3, *v3)
        data[112 : 112 + len(extensions)] = extensions
    put(data, REFCOUNT_TABLE, ">Q", REFCOUNT_BLOCK)
    put(data, REFCOUNT_BLOCK, ">7H", *(1,) * 7)
    put(data, L1, ">Q", COPIED | L2)
    return put(data, L2, ">QQ", COPIED | DATA_0, COPIED | DATA_1)


def extension(kind: int, content: bytes) -> bytes:
    """One header extension, padded."""
    return struct.pack(">II", kind, len(content)) + content.ljust(-(-len(content) // 8) * 8, b"\0")


def with_l2(*entries: int) -> bytearray:
    """The image with other first entries in its L2 table."""
    return put(qcow2(), L2, f">{len(entries)}Q", *entries)


def with_snapshot(**fields: int) -> bytearray:
    """The image with one internal snapshot, whose table follows the data."""
    values = {"l1_table_offset": END + CLUSTER, "l1_size": 1, "extra": 16, "count": 1} | fields
    data = qcow2(nb_snapshots=values["count"], snapshots_offset=END) + bytearray(2 * CLUSTER)
    head = (values["l1_table_offset"], values["l1_size"], 1, 3, 0, 0, 0, 0, values["extra"])
    put(data, END, c.SNAPSHOT_HEADER, *head)
    return put(data, END + CLUSTER, ">Q", L2)
