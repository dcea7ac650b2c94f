"""VHD, fixed and dynamic. The virtual size is the one that QEMU reads: geometry or `current_size`, by who wrote the file.

QEMU opens a differencing VHD as if it were dynamic and reads zeros for what is in the parent; only this gate stops that.
"""

from __future__ import annotations

import struct
import sys
from array import array

from tasks.engine.disks import c_vhd as c
from tasks.engine.disks.bytesource import ByteSource, Depth
from tasks.engine.disks.claims import Blocks, Regions, require_aligned, require_inside
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import DiskFormat, Finding
from tasks.engine.disks.sizes import is_power_of_two, require_virtual_size
from tasks.engine.geometry import SECTOR_SIZE


def examine(source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding:
    """The finding for a VHD file; raises DiskRefused."""
    first = source.pread(0, c.FOOTER_LENGTH)
    if first.startswith(c.COOKIE):
        finding = _examine_dynamic(source, _read_footer(first), max_virtual_size)
        if depth != "start":
            _check_footer_copy(source, first)
        if depth == "full":
            _check_blocks(source, _read_footer(first), finding.virtual_size)
        return finding
    return _examine_fixed(source, max_virtual_size)


def _read_footer(sector: bytes) -> c.Footer:
    footer = c.Footer(*struct.unpack_from(c.FOOTER, sector))
    if _checksum(sector, c.FOOTER_CHECKSUM_OFFSET) != footer.checksum:
        raise refusal("checksum", "the VHD footer's checksum is wrong")
    if footer.file_format_version != c.VERSION:
        raise refusal("unknown_version", f"VHD version {footer.file_format_version:#x} is not known")
    if footer.disk_type == c.TYPE_DIFFERENCING:
        raise refusal("differencing", "the VHD holds only the differences from a parent disk")
    if footer.disk_type not in (c.TYPE_FIXED, c.TYPE_DYNAMIC):
        raise refusal("unknown_feature", f"VHD disk type {footer.disk_type} is not known")
    return footer


def _checksum(structure: bytes, offset: int) -> int:
    """One's complement of the sum of all bytes but the checksum's own four."""
    return ~(sum(structure) - sum(structure[offset : offset + 4])) & 0xFFFFFFFF


def virtual_size(footer: c.Footer) -> int:
    """Guest-visible bytes as QEMU counts them."""
    sectors = footer.cylinders * footer.heads * footer.sectors_per_track
    if footer.creator_application in c.CURRENT_SIZE_CREATORS or sectors == c.MAX_GEOMETRY:
        return footer.current_size // SECTOR_SIZE * SECTOR_SIZE
    return sectors * SECTOR_SIZE


def _examine_fixed(source: ByteSource, max_virtual_size: int) -> Finding:
    if source.size % SECTOR_SIZE or source.size < 2 * c.FOOTER_LENGTH:
        raise refusal("truncated", f"a fixed VHD of {source.size} bytes is not whole sectors with a footer")
    footer = _read_footer(source.pread(source.size - c.FOOTER_LENGTH, c.FOOTER_LENGTH))
    if footer.disk_type != c.TYPE_FIXED:
        raise refusal("header_mismatch", "the VHD's footer says dynamic, but its copy at the start is missing")
    size = virtual_size(footer)
    require_virtual_size(size, maximum=max_virtual_size)
    require_inside(0, size + c.FOOTER_LENGTH, size=source.size, what="the fixed VHD's content")
    return Finding(DiskFormat.VHD, size)


def _examine_dynamic(source: ByteSource, footer: c.Footer, max_virtual_size: int) -> Finding:
    if footer.disk_type != c.TYPE_DYNAMIC:
        raise refusal("header_mismatch", "the VHD begins like a dynamic one, but its footer says fixed")
    size = virtual_size(footer)
    require_virtual_size(size, maximum=max_virtual_size)
    header = _read_dynamic_header(source, footer)
    if header.max_table_entries > c.MAX_TABLE_ENTRIES or header.max_table_entries * header.block_size < size:
        raise refusal("table_size", f"the VHD's table has {header.max_table_entries} entries for {size} bytes")
    return Finding(DiskFormat.VHD, size)


def _read_dynamic_header(source: ByteSource, footer: c.Footer) -> c.DynamicHeader:
    data = source.pread(footer.data_offset, c.DYNAMIC_HEADER_LENGTH)
    header = c.DynamicHeader(*struct.unpack_from(c.DYNAMIC_HEADER, data))
    if header.cookie != c.DYNAMIC_COOKIE:
        raise refusal("bad_header", "the VHD's dynamic header is not where its footer says")
    if _checksum(data, c.DYNAMIC_CHECKSUM_OFFSET) != header.checksum:
        raise refusal("checksum", "the checksum of the VHD's dynamic header is wrong")
    if header.header_version != c.VERSION:
        raise refusal("unknown_version", f"VHD dynamic header version {header.header_version:#x} is not known")
    locators = data[c.PARENT_LOCATORS_OFFSET : c.PARENT_LOCATORS_OFFSET + c.PARENT_LOCATORS_LENGTH]
    if any(locators) or any(header.parent_unicode_name) or any(header.parent_unique_id):
        raise refusal("parent", "the VHD names a parent disk")
    if not is_power_of_two(header.block_size, least=c.MIN_BLOCK_SIZE, most=c.MAX_BLOCK_SIZE):
        raise refusal("cluster_size", f"VHD blocks of {header.block_size} bytes are not allowed")
    return header


def _check_footer_copy(source: ByteSource, first: bytes) -> None:
    """The last sector repeats the first one; writers differ only in fields that mean nothing to a reader."""
    if source.size % SECTOR_SIZE:
        raise refusal("truncated", f"{source.size} bytes are not whole sectors, as a VHD's would be")
    last = source.pread(source.size - c.FOOTER_LENGTH, c.FOOTER_LENGTH)
    if not last.startswith(c.COOKIE):
        raise refusal("truncated", "the VHD does not end with its footer")
    if _meaning(_read_footer(first)) != _meaning(_read_footer(last)):
        raise refusal("header_mismatch", "the VHD's footer and its copy at the start disagree")


def _meaning(footer: c.Footer) -> c.Footer:
    return footer._replace(time_stamp=0, checksum=0, features=0, saved_state=0)


def _check_blocks(source: ByteSource, footer: c.Footer, size: int) -> None:
    """Every block of the disk with its sector bitmap is inside the file, apart from metadata and every other block."""
    header = _read_dynamic_header(source, footer)
    regions = _metadata(source, footer, header)
    bitmap = -(-header.block_size // SECTOR_SIZE // 8 // SECTOR_SIZE) * SECTOR_SIZE
    blocks = Blocks(length=bitmap + header.block_size, regions=regions)
    table = array("I", source.pread(header.table_offset, header.max_table_entries * 4))
    if sys.byteorder == "little":
        table.byteswap()
    whole, rest = divmod(size, header.block_size)
    blocks.claim_whole([sector for sector in table[:whole] if sector != c.UNUSED_BLOCK], what="a VHD block")
    if rest and table[whole] != c.UNUSED_BLOCK:
        blocks.claim(table[whole], needed=bitmap + rest, what="a VHD block")


def _metadata(source: ByteSource, footer: c.Footer, header: c.DynamicHeader) -> Regions:
    regions = Regions(size=source.size)
    regions.claim(0, c.FOOTER_LENGTH, what="the footer's copy")
    regions.claim(source.size - c.FOOTER_LENGTH, c.FOOTER_LENGTH, what="the footer")
    regions.claim(footer.data_offset, c.DYNAMIC_HEADER_LENGTH, what="the dynamic header")
    require_aligned(header.table_offset, unit=SECTOR_SIZE, what="the block allocation table")
    regions.claim(header.table_offset, header.max_table_entries * 4, what="the block allocation table")
    return regions
