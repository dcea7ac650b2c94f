"""Where things are in a ZVHD2 file: header, footer, index and bitmap, judged. Decoding: `zvhd2`; structures: `c_zvhd`.

The file's end is, in this order: records, a copy of the header, index segments, bitmap segments, footer. Only the footer
knows where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tasks.engine.disks import c_zvhd as c
from tasks.engine.disks import zvhd_records as records
from tasks.engine.disks.bytesource import ByteSource
from tasks.engine.errors import DiskRefused

BLOCK_SIZES = tuple(1 << bits for bits in range(20, 26))


class Layout(NamedTuple):
    """What header and footer agree on."""

    virtual_size: int
    extension: c.Extension

    @property
    def limits(self) -> records.Limits:
        return records.Limits(self.extension.max_blk_num, self.extension.block_size, self.extension.index_lba - c.PAGE)


def read_header(source: ByteSource, *, max_virtual_size: int) -> c.Header:
    """Judge what the first page alone tells."""
    page = records.header_page(source, cookie=c.COOKIE_ZVHD2)
    header = records.check_header(page, used=c.EXTENSION_END, max_virtual_size=max_virtual_size)
    _check_extension(c.Extension.unpack(page), header.orig_size)
    return header


def read_layout(source: ByteSource, *, max_virtual_size: int) -> Layout:
    """Judge the header, the final footer, and where the footer says index and bitmap are."""
    header = read_header(source, max_virtual_size=max_virtual_size)
    page = source.pread(0, c.PAGE)
    footer = records.footer_page(source, cookie=c.COOKIE_ZVHD2)
    if c.Extension.unpack(footer).index_lba == 0:
        raise DiskRefused("missing_footer", "the file was cut after its records", remedy=records.EXPORT_AGAIN)
    records.check_header(footer, used=c.EXTENSION_END, max_virtual_size=max_virtual_size)
    if _comparable(footer) != _comparable(page):
        raise DiskRefused("header_mismatch", "header and footer disagree", remedy=records.EXPORT_AGAIN)
    extension = c.Extension.unpack(footer)
    _check_extension(extension, header.orig_size)
    _check_places(extension, source.size)
    if _comparable(source.pread(extension.index_lba - c.PAGE, c.PAGE)) != _comparable(page):
        raise DiskRefused("header_mismatch", "the header's copy after the records differs", remedy=records.EXPORT_AGAIN)
    return Layout(header.orig_size, extension)


def _comparable(page: bytes) -> tuple[bytes, c.Extension, bytes]:
    """A header page without what only footers fill in."""
    extension = c.Extension.unpack(page)
    filled = {name: 0 for name in c.Extension._fields if name.startswith(("index_", "bitmap_", "non_zero_"))}
    kept = {"index_contains_zero_blk": extension.index_contains_zero_blk}
    extension = extension._replace(**filled | kept)
    return c.Header.unpack(page)._replace(checksum=0).pack(), extension, page[c.EXTENSION_END :]


def _check_extension(extension: c.Extension, orig_size: int) -> None:
    if extension.zvhd2_version != c.ZVHD2_VERSION:
        raise DiskRefused("unknown_feature", f"ZVHD2 version {extension.zvhd2_version} is unknown", remedy=records.NEWER)
    if extension.compress_method not in (c.COMPRESS_ZLIB, c.COMPRESS_ZSTD):
        raise DiskRefused("unknown_feature", f"compression {extension.compress_method} is unknown", remedy=records.NEWER)
    if extension.index_contains_zero_blk not in (0, 1):
        raise DiskRefused("unknown_feature", "the index is of an unknown kind", remedy=records.NEWER)
    if extension.block_size not in BLOCK_SIZES:
        raise DiskRefused("block_size", f"blocks of {extension.block_size} bytes are not a power of two in 1..32 MiB")
    if extension.max_blk_num != -(-orig_size // extension.block_size):
        raise DiskRefused("size_mismatch", "size and number of blocks disagree", remedy=records.EXPORT_AGAIN)
    if extension.non_zero_blk_num > extension.max_blk_num:
        raise DiskRefused("index", "more blocks are stored than the disk has", remedy=records.EXPORT_AGAIN)


def _check_places(extension: c.Extension, file_size: int) -> None:
    """Index and bitmap have the sizes their counts give, and fill the space between the records and the footer."""
    entries = extension.max_blk_num if extension.index_contains_zero_blk else extension.non_zero_blk_num
    least, most = _segments(entries), max(1, _segments(extension.max_blk_num))
    sizes = (extension.index_seg_size, extension.bitmap_seg_size, extension.index_size, extension.bitmap_size)
    expected = (
        c.INDEX_SEGMENT,
        c.BITMAP_SEGMENT,
        extension.index_seg_num * c.INDEX_SEGMENT,
        extension.bitmap_seg_num * c.BITMAP_SEGMENT,
    )
    if not least <= extension.index_seg_num <= most or extension.bitmap_seg_num != most or sizes != expected:
        raise DiskRefused("index", "the footer's index sizes contradict its counts", remedy=records.EXPORT_AGAIN)
    ends = (extension.index_lba + extension.index_size, extension.bitmap_lba + extension.bitmap_size)
    if extension.index_lba < 2 * c.PAGE or ends != (extension.bitmap_lba, file_size - c.PAGE):
        raise DiskRefused("past_end", "index and bitmap are not where they must be", remedy=records.EXPORT_AGAIN)


def _segments(blocks: int) -> int:
    return -(-blocks // c.BLOCKS_PER_SEGMENT)


def indexed(source: ByteSource, layout: Layout) -> Iterator[records.Place]:
    """Records by the index: ascending blocks, back to back from the first page to the header's copy."""
    offset, previous, count = c.PAGE, -1, 0
    for number, (start, block, padded) in enumerate(_entries(source, layout.extension)):
        if start == 0:
            continue
        _check_entry(layout, number=number, block=block, previous=previous)
        if start != offset or padded == 0 or padded % c.PAGE or start + padded > layout.limits.end:
            raise DiskRefused("past_end", f"the index places block {block} where no record can be")
        place = records.record_at(source, start, limits=layout.limits)
        if (place.block, place.end) != (block, start + padded):
            raise DiskRefused("index", f"the record of block {block} is not what the index says", remedy=records.EXPORT_AGAIN)
        yield place
        offset, previous, count = start + padded, block, count + 1
    if offset != layout.limits.end or count != layout.extension.non_zero_blk_num:
        raise DiskRefused("index", "the index does not cover all records", remedy=records.EXPORT_AGAIN)


def _check_entry(layout: Layout, *, number: int, block: int, previous: int) -> None:
    if block >= layout.extension.max_blk_num:
        raise DiskRefused("block_range", f"block {block} is outside the disk's {layout.extension.max_blk_num} blocks")
    if block <= previous:
        raise DiskRefused("block_order", f"block {block} comes after block {previous}", remedy=records.EXPORT_AGAIN)
    if number != block and layout.extension.index_contains_zero_blk:
        raise DiskRefused("index", f"entry {number} is that of block {block}", remedy=records.EXPORT_AGAIN)


def _entries(source: ByteSource, extension: c.Extension) -> Iterator[tuple[int, int, int]]:
    for segment in range(extension.index_seg_num):
        raw = source.pread(extension.index_lba + segment * c.INDEX_SEGMENT, c.INDEX_SEGMENT)
        yield from c.INDEX_ENTRY.iter_unpack(raw)


def compare_bitmap(source: ByteSource, layout: Layout) -> None:
    """The bitmap has a bit for exactly the blocks that the index places."""
    bitmap = bytearray(layout.extension.bitmap_size)
    for place in indexed(source, layout):
        bitmap[place.block >> 3] |= 1 << (place.block & 7)
    for offset in range(0, len(bitmap), c.BITMAP_SEGMENT):
        if source.pread(layout.extension.bitmap_lba + offset, c.BITMAP_SEGMENT) != bitmap[offset : offset + c.BITMAP_SEGMENT]:
            raise DiskRefused("index", "index and bitmap disagree", remedy=records.EXPORT_AGAIN)
