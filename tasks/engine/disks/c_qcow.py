"""On-disk structures of QCOW version 1, as QEMU's and its predecessors' writers made them; big-endian. No logic.

https://people.gnome.org/~markmc/qcow-image-format-version-1.html
"""

from __future__ import annotations

from typing import NamedTuple

HEADER = ">4sIQIIQBBHIQ"
HEADER_LENGTH = 48


class Header(NamedTuple):
    magic: bytes
    version: int
    backing_file_offset: int
    backing_file_size: int
    mtime: int
    size: int
    cluster_bits: int
    l2_bits: int
    padding: int
    crypt_method: int
    l1_table_offset: int


COMPRESSED = 1 << 63
MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 16
MIN_L2_BITS, MAX_L2_BITS = 6, 13
MAX_L1_BYTES = 32 << 20
