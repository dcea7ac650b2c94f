"""Writes ZVHD and ZVHD2 from front to back, never seeking, so any pipe will do. Reading: `zvhd` and `zvhd2`.

Same blocks, uuid and timestamp give the same bytes, as long as zlib and zstd stay the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO
from uuid import UUID

import zstandard

from tasks.engine.disks import c_zvhd as c
from tasks.engine.geometry import CHUNK_SIZE, DiskReader

LEVEL = 1
_PER_BLOCK = c.BLOCK_SIZE // CHUNK_SIZE


def blocks_of(reader: DiskReader) -> Iterator[tuple[int, bytes]]:
    """The reader's chunks regrouped to non-zero blocks of c_zvhd.BLOCK_SIZE, ascending; the last one zero-padded."""
    block, data = -1, bytearray()
    for pending in reader.pending_chunks():
        if pending.index // _PER_BLOCK != block:
            yield from _non_zero(block, data)
            block, data = pending.index // _PER_BLOCK, bytearray(c.BLOCK_SIZE)
        start = pending.index % _PER_BLOCK * CHUNK_SIZE
        chunk = pending.read()
        data[start : start + len(chunk)] = chunk
    yield from _non_zero(block, data)


def _non_zero(block: int, data: bytearray) -> Iterator[tuple[int, bytes]]:
    if data != bytes(len(data)):
        yield block, bytes(data)


def write_zvhd(out: BinaryIO, *, virtual_size: int, blocks: Iterable[tuple[int, bytes]], uuid: UUID, timestamp: int) -> None:
    """A ZVHD file of non-zero blocks, ascending. `timestamp` is in POSIX seconds."""
    page = c.with_checksum(_header(c.COOKIE_ZVHD, virtual_size, uuid, timestamp).ljust(c.PAGE, b"\0"))
    out.write(page)
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, 15)
    for block, data in _checked(blocks, virtual_size):
        out.write(_record(block, deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)))
    out.write(page)


def write_zvhd2(out: BinaryIO, *, virtual_size: int, blocks: Iterable[tuple[int, bytes]], uuid: UUID, timestamp: int) -> None:
    """A ZVHD2 file (zstd) of non-zero blocks, ascending. `timestamp` is in POSIX seconds. Memory: 16 bytes a block."""
    header = _header(c.COOKIE_ZVHD2, virtual_size, uuid, timestamp)
    empty = _extension(virtual_size)
    page = c.with_checksum((header + empty.pack()).ljust(c.PAGE, b"\0"))
    out.write(page)
    index, bitmap = bytearray(), bytearray(-(-empty.max_blk_num // 8))
    offset = _write_zstd_records(out, _checked(blocks, virtual_size), index, bitmap)
    footer = _located(empty, stored=len(index) // c.INDEX_ENTRY.size, index_lba=offset + c.PAGE)
    # The vendor's copy of the header has the count of blocks and still the header's checksum.
    copy = page[: c.HEADER_END] + empty._replace(non_zero_blk_num=footer.non_zero_blk_num).pack()
    out.write(copy.ljust(c.PAGE, b"\0"))
    out.write(bytes(index).ljust(footer.index_size, b"\0"))
    out.write(bytes(bitmap).ljust(footer.bitmap_size, b"\0"))
    out.write(c.with_checksum((header + footer.pack()).ljust(c.PAGE, b"\0")))


def _write_zstd_records(out: BinaryIO, blocks: Iterator[tuple[int, bytes]], index: bytearray, bitmap: bytearray) -> int:
    """Write the records, note them in index and bitmap, and give the offset where they end."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=True)
    offset = c.PAGE
    for block, data in blocks:
        record = _record(block, compressor.compress(data))
        out.write(record)
        index += c.INDEX_ENTRY.pack(offset, block, len(record))
        bitmap[block >> 3] |= 1 << (block & 7)
        offset += len(record)
    return offset


def _extension(virtual_size: int) -> c.Extension:
    """The header's extension, which knows nothing of index and bitmap."""
    nothing = c.Extension._make([0] * len(c.Extension._fields))
    return nothing._replace(
        zvhd2_version=c.ZVHD2_VERSION,
        block_size=c.BLOCK_SIZE,
        max_blk_num=_count(virtual_size),
        compress_method=c.COMPRESS_ZSTD,
    )


def _located(empty: c.Extension, *, stored: int, index_lba: int) -> c.Extension:
    """The footer's extension: where index and bitmap are and how many blocks there are."""
    index_segments = max(1, -(-stored // c.BLOCKS_PER_SEGMENT))
    bitmap_segments = -(-empty.max_blk_num // c.BLOCKS_PER_SEGMENT)
    return empty._replace(
        index_lba=index_lba,
        bitmap_lba=index_lba + index_segments * c.INDEX_SEGMENT,
        index_size=index_segments * c.INDEX_SEGMENT,
        bitmap_size=bitmap_segments * c.BITMAP_SEGMENT,
        index_seg_size=c.INDEX_SEGMENT,
        bitmap_seg_size=c.BITMAP_SEGMENT,
        index_seg_num=index_segments,
        bitmap_seg_num=bitmap_segments,
        non_zero_blk_num=stored,
    )


def _header(cookie: bytes, virtual_size: int, uuid: UUID, timestamp: int) -> bytes:
    return c.Header(
        cookie=cookie,
        features=c.FEATURES,
        ff_version=c.FF_VERSION,
        data_offset=c.DATA_OFFSET,
        timestamp=max(0, timestamp - c.EPOCH) & 0xFFFF_FFFF,
        crtr_app=c.CRTR_APP,
        crtr_ver=c.CRTR_VERSIONS[-1],
        crtr_os=0,
        orig_size=virtual_size,
        curr_size=-(-virtual_size // c.GIB) * c.GIB,
        geometry=_geometry(virtual_size),
        type=c.TYPE_DIFF,
        checksum=0,
        uuid=uuid.bytes,
        saved=0,
        hidden=0,
        align_64=0,
    ).pack()


def _geometry(virtual_size: int) -> int:
    """Cylinders << 16 | heads << 8 | sectors a track, as the VHD specification's appendix derives them."""
    sectors = min(virtual_size // 512, 65_535 * 16 * 255)
    if sectors >= 65_535 * 16 * 63:
        return sectors // 255 // 16 << 16 | 16 << 8 | 255
    track, tracks = 17, sectors // 17
    heads = max(4, (tracks + 1023) // 1024)
    if tracks >= heads * 1024 or heads > 16:
        track, tracks, heads = 31, sectors // 31, 16
    if tracks >= heads * 1024:
        track, tracks = 63, sectors // 63
    return tracks // heads << 16 | heads << 8 | track


def _record(block: int, compressed: bytes) -> bytes:
    head = c.RECORD.pack(c.RECORD_PREFIX, len(compressed), block, c.RECORD_RESERVED)
    body = (head + compressed).ljust(c.record_length(len(compressed)) - len(c.RECORD_SUFFIX), b"\0")
    return body + c.RECORD_SUFFIX


def _checked(blocks: Iterable[tuple[int, bytes]], virtual_size: int) -> Iterator[tuple[int, bytes]]:
    """The same blocks, once the caller is seen to keep its promises."""
    previous = -1
    for block, data in blocks:
        if not previous < block < _count(virtual_size) or len(data) != c.BLOCK_SIZE:
            raise ValueError(f"block {block} after {previous} with {len(data)} bytes")
        yield block, data
        previous = block


def _count(virtual_size: int) -> int:
    return -(-virtual_size // c.BLOCK_SIZE)
