"""ZVHD and ZVHD2 on disk: structures, names and constants alone. No specification is public; integers are little-endian.

Both are a 4096-byte header, records of one compressed block each, and a footer. ZVHD's records are pieces of one zlib
stream; ZVHD2's stand alone and are found through an index. What is acceptable is judged in `zvhd_records`, `zvhd` and `zvhd2`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Self

COOKIE_ZVHD = b"stream\0\0"
COOKIE_ZVHD2 = b"z2strm\0\0"
COOKIE_LENGTH = 6
"""Readers compare this much of the cookie."""

PAGE = 4096
"""Header, footer and records are padded to this."""
BLOCK_SIZE = 2 << 20
"""Guest-visible bytes of one record: always in ZVHD, as written in ZVHD2."""
GIB = 1 << 30

HEADER_STRUCT_SIZE = 512
CHECKSUM_OFFSET = 64
_HEADER = struct.Struct("<8sIIQI4sIIQQIII16sBBB")
_EXTENSION = struct.Struct("<BIIQQIIIIIIIBB")

FEATURES = 2
FF_VERSION = 0x0001_0000
DATA_OFFSET = 0xFFFF_FFFF_FFFF_FFFF
CRTR_APP = b"tap\0"
CRTR_VERSIONS = (0x0001_0003, 0x0001_0004)
TYPE_DIFF = 4
EPOCH = 946_684_800
"""Timestamps count seconds from 2000-01-01 UTC; this is that moment in POSIX seconds."""

ZVHD2_VERSION = 1
INDEX_SEGMENT = 524_288
BITMAP_SEGMENT = 4096
BLOCKS_PER_SEGMENT = 32_768
"""One index segment holds this many entries, one bitmap segment this many bits."""
COMPRESS_ZLIB, COMPRESS_ZSTD = 0, 1

RECORD_PREFIX = b"hwstream bg\0"
RECORD_SUFFIX = b"end\0"
RECORD_RESERVED = bytes(28)
RECORD = struct.Struct("<12sII28s")
INDEX_ENTRY = struct.Struct("<QII")


class Header(NamedTuple):
    """The fields that both formats share: bytes 0..86."""

    cookie: bytes
    features: int
    ff_version: int
    data_offset: int
    timestamp: int
    crtr_app: bytes
    crtr_ver: int
    crtr_os: int
    orig_size: int
    curr_size: int
    geometry: int
    type: int
    checksum: int
    uuid: bytes
    saved: int
    hidden: int
    align_64: int

    @classmethod
    def unpack(cls, page: bytes) -> Self:
        return cls(*_HEADER.unpack_from(page))

    def pack(self) -> bytes:
        return _HEADER.pack(*self)


class Extension(NamedTuple):
    """What ZVHD2 adds: bytes 87..141. The header leaves index, bitmap and count zero; the final footer has them."""

    zvhd2_version: int
    block_size: int
    max_blk_num: int
    index_lba: int
    bitmap_lba: int
    index_size: int
    bitmap_size: int
    index_seg_size: int
    bitmap_seg_size: int
    index_seg_num: int
    bitmap_seg_num: int
    non_zero_blk_num: int
    index_contains_zero_blk: int
    compress_method: int

    @classmethod
    def unpack(cls, page: bytes) -> Self:
        return cls(*_EXTENSION.unpack_from(page, _HEADER.size))

    def pack(self) -> bytes:
        return _EXTENSION.pack(*self)


HEADER_END = _HEADER.size
EXTENSION_END = _HEADER.size + _EXTENSION.size


def checksum(page: bytes) -> int:
    """Complement of the sum of the first 512 bytes, the checksum field counting as zero."""
    total = sum(page[:CHECKSUM_OFFSET]) + sum(page[CHECKSUM_OFFSET + 4 : HEADER_STRUCT_SIZE])
    return ~total & 0xFFFF_FFFF


def with_checksum(page: bytes) -> bytes:
    """The same page with its checksum field filled in."""
    return page[:CHECKSUM_OFFSET] + struct.pack("<I", checksum(page)) + page[CHECKSUM_OFFSET + 4 :]


def pages(length: int) -> int:
    """Bytes that `length` bytes take when padded to whole pages."""
    return -(-length // PAGE) * PAGE


def record_length(size: int) -> int:
    """Bytes on disk of a record that holds `size` compressed bytes."""
    return pages(RECORD.size + size + len(RECORD_SUFFIX))
