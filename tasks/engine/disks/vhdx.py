"""VHDX as Hyper-V and QEMU write it: headers, regions, metadata. The block allocation table is checked in `vhdx_blocks`.

A dirty log can change anything when it is replayed, so after the replay the private copy must pass the gate again.
"""

from __future__ import annotations

import struct

from tasks.engine.disks import c_vhdx as c
from tasks.engine.disks.bytesource import ByteSource, Depth
from tasks.engine.disks.checksums import crc32c
from tasks.engine.disks.claims import require_aligned
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import DiskFormat, Finding
from tasks.engine.disks.sizes import is_power_of_two, require_virtual_size
from tasks.engine.disks.vhdx_blocks import Geometry, check_regions
from tasks.engine.geometry import SECTOR_SIZE


def examine(source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding:
    """The finding for a VHDX file; raises DiskRefused."""
    header = _current_header(source)
    regions = _read_regions(source)
    geometry = _read_metadata(source, regions[c.METADATA_REGION], max_virtual_size)
    dirty = header.log_guid != c.NO_GUID
    if depth != "start":
        check_regions(source, geometry, [*_log(header), *regions.values()], bat=regions[c.BAT_REGION], full=depth == "full")
    return Finding(DiskFormat.VHDX, geometry.virtual_size, needs_replay=dirty)


def read_map(source: ByteSource, *, max_virtual_size: int) -> tuple[Geometry, int]:
    """Geometry, and where the block allocation table begins, for who walks it after `examine` passed the file."""
    regions = _read_regions(source)
    return _read_metadata(source, regions[c.METADATA_REGION], max_virtual_size), regions[c.BAT_REGION].file_offset


def _checked(data: bytes, signature: bytes) -> bool:
    """Whether a structure has its signature and a right CRC-32C over itself with the checksum field zero."""
    if not data.startswith(signature):
        return False
    begin, end = c.CHECKSUM_OFFSET, c.CHECKSUM_OFFSET + 4
    return crc32c(data[:begin] + bytes(4) + data[end:]) == int.from_bytes(data[begin:end], "little")


def _current_header(source: ByteSource) -> c.Header:
    """The valid header with the larger sequence number."""
    copies = [source.pread(offset, c.HEADER_LENGTH) for offset in c.HEADER_OFFSETS]
    valid = [c.Header(*struct.unpack_from(c.HEADER, copy)) for copy in copies if _checked(copy, c.HEADER_SIGNATURE)]
    if not valid:
        raise refusal("checksum", "neither of the VHDX's two headers has a right checksum")
    header = max(valid, key=lambda candidate: candidate.sequence_number)
    if any(other.sequence_number == header.sequence_number and other != header for other in valid):
        raise refusal("header_mismatch", "the VHDX's two headers have one sequence number and disagree")
    if header.version != 1 or (header.log_guid != c.NO_GUID and header.log_version):
        raise refusal("unknown_version", f"VHDX version {header.version} with log {header.log_version} is not known")
    return header


def _log(header: c.Header) -> list[c.Region]:
    if not header.log_length:
        return []
    return [c.Region(b"the log", header.log_offset, header.log_length, 1)]


def _read_regions(source: ByteSource) -> dict[bytes, c.Region]:
    """Regions by GUID: block allocation table and metadata, and nothing else that must be understood."""
    copies = [source.pread(offset, c.REGION_TABLE_LENGTH) for offset in c.REGION_TABLE_OFFSETS]
    valid = [copy for copy in copies if _checked(copy, c.REGION_SIGNATURE)]
    if not valid:
        raise refusal("checksum", "neither of the VHDX's two region tables has a right checksum")
    tables = [_parse_regions(copy) for copy in valid]
    if tables[0] != tables[-1]:
        raise refusal("header_mismatch", "the VHDX's two region tables disagree")
    if c.BAT_REGION not in tables[0] or c.METADATA_REGION not in tables[0]:
        raise refusal("bad_header", "the VHDX lacks its block allocation table or its metadata")
    return tables[0]


def _parse_regions(table: bytes) -> dict[bytes, c.Region]:
    count = struct.unpack_from(c.REGION_TABLE, table)[2]
    if count > c.MAX_ENTRIES:
        raise refusal("table_size", f"the VHDX region table claims {count} entries")
    regions: dict[bytes, c.Region] = {}
    for index in range(count):
        region = c.Region(*struct.unpack_from(c.REGION_ENTRY, table, 16 + index * c.REGION_ENTRY_LENGTH))
        if region.guid in regions:
            raise refusal("bad_header", "the VHDX region table has a region twice")
        if region.required & 1 and region.guid not in (c.BAT_REGION, c.METADATA_REGION):
            raise refusal("unknown_feature", "the VHDX needs a region of unknown kind")
        regions[region.guid] = region
    return regions


def _read_metadata(source: ByteSource, region: c.Region, max_virtual_size: int) -> Geometry:
    items = _read_items(source, region)
    block_size, flags = struct.unpack("<II", items[c.FILE_PARAMETERS])
    size = int.from_bytes(items[c.VIRTUAL_DISK_SIZE], "little")
    sector_size = int.from_bytes(items[c.LOGICAL_SECTOR_SIZE], "little")
    if flags & c.HAS_PARENT:
        raise refusal("differencing", "the VHDX holds only the differences from a parent disk")
    require_virtual_size(size, maximum=min(max_virtual_size, c.MAX_DISK_SIZE))
    if sector_size != SECTOR_SIZE:
        raise refusal("cluster_size", f"a VHDX with sectors of {sector_size} bytes cannot be read")
    require_aligned(size, unit=SECTOR_SIZE, what="the end of the virtual disk")
    if not is_power_of_two(block_size, least=c.MIN_BLOCK_SIZE, most=c.MAX_BLOCK_SIZE):
        raise refusal("cluster_size", f"VHDX blocks of {block_size} bytes are not allowed")
    return Geometry(virtual_size=size, block_size=block_size)


def _read_items(source: ByteSource, region: c.Region) -> dict[bytes, bytes]:
    """Content of the known metadata items, all of which must be there."""
    require_aligned(region.file_offset, unit=c.MIB, what="the metadata region")
    table = source.pread(region.file_offset, c.METADATA_TABLE_LENGTH)
    signature, _, count, _ = struct.unpack_from(c.METADATA_TABLE, table)
    if signature != c.METADATA_SIGNATURE or count > c.MAX_ENTRIES or region.length < c.METADATA_TABLE_LENGTH:
        raise refusal("bad_header", "the VHDX metadata table is not where its region table says")
    items: dict[bytes, bytes] = {}
    for index in range(count):
        entry = c.MetadataEntry(*struct.unpack_from(c.METADATA_ENTRY, table, 32 * (index + 1)))
        if entry.item_id in items:
            raise refusal("bad_header", "the VHDX metadata table has an item twice")
        items[entry.item_id] = _read_item(source, region, entry)
    if missing := c.ITEM_LENGTHS.keys() - items.keys():
        raise refusal("bad_header", f"the VHDX lacks {len(missing)} of its metadata items")
    return items


def _read_item(source: ByteSource, region: c.Region, entry: c.MetadataEntry) -> bytes:
    """Content of a known item; an unknown one is empty, and refused where it must be understood."""
    if entry.item_id == c.PARENT_LOCATOR:
        raise refusal("parent", "the VHDX names a parent disk")
    expected = c.ITEM_LENGTHS.get(entry.item_id)
    if expected is None:
        if entry.flags & c.METADATA_IS_REQUIRED:
            raise refusal("unknown_feature", "the VHDX needs a metadata item of unknown kind")
        return b""
    if entry.length != expected or not c.METADATA_TABLE_LENGTH <= entry.offset <= region.length - entry.length:
        raise refusal("bad_header", "a VHDX metadata item is not where its table says")
    return source.pread(region.file_offset + entry.offset, entry.length)
