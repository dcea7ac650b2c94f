"""What ZVHD and ZVHD2 have in common when read: the header's judgement, the walk over records, blocks cut into chunks.

Decompression differs and is in `zvhd` and `zvhd2`; structures are in `c_zvhd`; writing is in `zvhd_writer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tasks.engine.disks import c_zvhd as c
from tasks.engine.disks.bytesource import ByteSource
from tasks.engine.disks.sizes import require_virtual_size
from tasks.engine.errors import DiskRefused
from tasks.engine.geometry import CHUNK_SIZE, chunk_length

EXPORT_AGAIN = "Export or copy the file again."
NEWER = "The file is newer than this reader; export it as qcow2 or vmdk."


class Place(NamedTuple):
    """Where one record is: its byte offset in the file, the block it holds, its compressed size."""

    offset: int
    block: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + c.record_length(self.size)


class Limits(NamedTuple):
    """What records may claim: blocks of the disk, bytes of one block, where the records end in the file."""

    blocks: int
    block_size: int
    end: int


def header_page(source: ByteSource, *, cookie: bytes) -> bytes:
    """The first page, when the cookie is right."""
    if source.pread(0, c.COOKIE_LENGTH) != cookie[: c.COOKIE_LENGTH]:
        raise DiskRefused("format_mismatch", f"the file does not begin with {cookie!r}", remedy="Name its real format.")
    return source.pread(0, c.PAGE)


def footer_page(source: ByteSource, *, cookie: bytes) -> bytes:
    """The last page, when it is a footer and not the header itself."""
    if source.size % c.PAGE:
        raise DiskRefused("truncated", f"{source.size} bytes are not whole pages: it was cut", remedy=EXPORT_AGAIN)
    page = source.pread(source.size - c.PAGE, c.PAGE)
    if source.size < 2 * c.PAGE or page[: c.COOKIE_LENGTH] != cookie[: c.COOKIE_LENGTH]:
        raise DiskRefused("missing_footer", "the file does not end with a footer: it was cut", remedy=EXPORT_AGAIN)
    return page


def check_header(page: bytes, *, used: int, max_virtual_size: int) -> c.Header:
    """Judge the fields both formats share; bytes from `used` on must be zero."""
    header = c.Header.unpack(page)
    if header.checksum != c.checksum(page):
        raise DiskRefused("checksum", "the header's checksum is wrong", remedy=EXPORT_AGAIN)
    _check_versions(header)
    if any(page[used:]):
        raise DiskRefused("unknown_feature", "reserved bytes of the header are in use", remedy=NEWER)
    _check_sizes(header, max_virtual_size)
    return header


def _check_versions(header: c.Header) -> None:
    fixed = (header.features, header.ff_version, header.data_offset, header.type)
    unused = (header.crtr_os, header.saved, header.hidden, header.align_64)
    if header.crtr_ver not in c.CRTR_VERSIONS or fixed != (c.FEATURES, c.FF_VERSION, c.DATA_OFFSET, c.TYPE_DIFF):
        raise DiskRefused("unknown_feature", "the header's version or type is unknown", remedy=NEWER)
    if any(unused):
        raise DiskRefused("unknown_feature", "the header asks for something unknown", remedy=NEWER)


def _check_sizes(header: c.Header, max_virtual_size: int) -> None:
    require_virtual_size(header.orig_size, maximum=max_virtual_size)
    if not header.orig_size <= header.curr_size < header.orig_size + c.GIB:
        raise DiskRefused("size_mismatch", "the header's two sizes disagree", remedy=EXPORT_AGAIN)


def walk(source: ByteSource, *, limits: Limits) -> Iterator[Place]:
    """Every record header up to `limits.end`, where the last record must end exactly."""
    offset, previous = c.PAGE, -1
    while offset < limits.end:
        place = record_at(source, offset, limits=limits)
        if place.block <= previous:
            raise DiskRefused("block_order", f"block {place.block} comes after block {previous}", remedy=EXPORT_AGAIN)
        yield place
        offset, previous = place.end, place.block


def record_at(source: ByteSource, offset: int, *, limits: Limits) -> Place:
    """Judge the record header at `offset`, and that the record ends in time and with its mark."""
    # The padding before the mark is not judged: the vendor's encoder leaves old buffer content there.
    raw = source.pread(offset, c.RECORD.size)
    if not raw.startswith(c.RECORD_PREFIX):
        raise DiskRefused("record", f"there is no record at {offset}", remedy=EXPORT_AGAIN)
    _, size, block, reserved = c.RECORD.unpack(raw)
    place = Place(offset, block, size)
    _check_record(place, limits)
    if reserved != c.RECORD_RESERVED:
        raise DiskRefused("unknown_feature", f"the record at {offset} asks for something unknown", remedy=NEWER)
    if source.pread(place.end - len(c.RECORD_SUFFIX), len(c.RECORD_SUFFIX)) != c.RECORD_SUFFIX:
        raise DiskRefused("record", f"the record at {offset} has no end mark", remedy=EXPORT_AGAIN)
    return place


def _check_record(place: Place, limits: Limits) -> None:
    if not 0 < place.size <= 2 * limits.block_size:
        raise DiskRefused("record_size", f"the record at {place.offset} claims {place.size} bytes")
    if place.block >= limits.blocks:
        raise DiskRefused("block_range", f"block {place.block} is outside the disk's {limits.blocks} blocks")
    if place.end > limits.end:
        raise DiskRefused("past_end", f"the record at {place.offset} runs past the records' end", remedy=EXPORT_AGAIN)


def payload(source: ByteSource, place: Place) -> bytes:
    """The compressed bytes of one record."""
    return source.pread(place.offset + c.RECORD.size, place.size)


def check_block(data: bytes, *, block: int, block_size: int, virtual_size: int) -> bytes:
    """A decoded block, when it is whole and zero past the disk's end."""
    if len(data) > block_size:
        raise DiskRefused("inflate_limit", f"block {block} inflates past {block_size} bytes")
    if len(data) < block_size:
        raise DiskRefused("damaged_block", f"block {block} has {len(data)} bytes only", remedy=EXPORT_AGAIN)
    outside = data[virtual_size - block * block_size :] if (block + 1) * block_size > virtual_size else b""
    if outside.count(0) != len(outside):
        raise DiskRefused("past_end", f"block {block} holds data past the disk's end")
    return data


def chunk_indices(block: int, *, block_size: int, virtual_size: int) -> range:
    """Chunks of the disk that lie in `block`."""
    per_block = block_size // CHUNK_SIZE
    chunks = -(-virtual_size // CHUNK_SIZE)
    return range(block * per_block, min((block + 1) * per_block, chunks))


def chunk_of(data: bytes, index: int, *, block: int, virtual_size: int) -> bytes:
    """Chunk `index` cut out of its decoded block."""
    start = index * CHUNK_SIZE - block * len(data)
    return data[start : start + chunk_length(index, virtual_size=virtual_size)]
