"""Small ZVHD and ZVHD2 files, whole or with one lie in them. The codecs under test are in tasks.engine.disks."""

import io
import struct
from random import Random
from uuid import UUID

from tasks.engine.disks import c_zvhd as c
from tasks.engine.disks.zvhd_writer import write_zvhd, write_zvhd2

MIB = 1 << 20
SIZE = 7 * MIB + 512
TIMESTAMP = 1_700_000_000
EXTENSION_OFFSETS = {"zvhd2_version": 87, "block_size": 88, "max_blk_num": 92, "index_lba": 96, "bitmap_lba": 104} | {
    name: 112 + 4 * place for place, name in enumerate(c.Extension._fields[5:12])
}


def block(seed: int) -> bytes:
    """A block that compresses well and differs from others."""
    return Random(seed).randbytes(4096) * (c.BLOCK_SIZE // 4096)


def blocks() -> list[tuple[int, bytes]]:
    """Blocks 0, 2 and the partial last one, 3, of a disk of SIZE bytes."""
    last = block(3)[: SIZE - 3 * c.BLOCK_SIZE].ljust(c.BLOCK_SIZE, b"\0")
    return [(0, block(1)), (2, block(2)), (3, last)]


def content() -> bytes:
    return b"".join(dict(blocks()).get(number, bytes(c.BLOCK_SIZE)) for number in range(4))[:SIZE]


def zvhd(size: int = SIZE, stored: list[tuple[int, bytes]] | None = None) -> bytearray:
    return _written(write_zvhd, size, stored)


def zvhd2(size: int = SIZE, stored: list[tuple[int, bytes]] | None = None) -> bytearray:
    return _written(write_zvhd2, size, stored)


def _written(write, size: int, stored: list[tuple[int, bytes]] | None) -> bytearray:
    out = io.BytesIO()
    write(out, virtual_size=size, blocks=blocks() if stored is None else stored, uuid=UUID(int=7), timestamp=TIMESTAMP)
    return bytearray(out.getvalue())


def record_offsets(file: bytes) -> list[int]:
    offsets, offset = [], c.PAGE
    while file[offset : offset + 12] == c.RECORD_PREFIX:
        offsets.append(offset)
        offset += c.record_length(struct.unpack_from("<I", file, offset + 12)[0])
    return offsets


def header_pages(file: bytes) -> list[int]:
    """Offsets of the header and its copies: ZVHD has one, ZVHD2 one after the records and one at the end."""
    last = record_offsets(file)[-1]
    after = last + c.record_length(struct.unpack_from("<I", file, last + 12)[0])
    return sorted({0, after, len(file) - c.PAGE})


def poke(file: bytearray, offset: int, code: str, value: object, *, everywhere: bool = True) -> bytearray:
    """Write a header field into all header pages, or into the footer alone, with right checksums."""
    for page in header_pages(file)[0 if everywhere else -1 :]:
        struct.pack_into("<" + code, file, page + offset, value)
        file[page : page + c.PAGE] = c.with_checksum(bytes(file[page : page + c.PAGE]))
    return file


def poke_record(file: bytearray, number: int, offset: int, code: str, value: object) -> bytearray:
    struct.pack_into("<" + code, file, record_offsets(file)[number] + offset, value)
    return file


def with_payload(file: bytearray, compressed: bytes) -> bytearray:
    """Put other compressed bytes, no longer than the old ones, into the first record."""
    start = record_offsets(file)[0]
    size = struct.unpack_from("<I", file, start + 12)[0]
    assert c.record_length(len(compressed)) == c.record_length(size)
    struct.pack_into("<I", file, start + 12, len(compressed))
    file[start + c.RECORD.size : start + c.RECORD.size + len(compressed)] = compressed
    return file


def index_lba(file: bytes) -> int:
    return struct.unpack_from("<Q", file, len(file) - c.PAGE + 96)[0]
