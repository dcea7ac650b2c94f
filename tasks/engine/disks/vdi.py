"""VDI, dynamic and static, as VirtualBox and QEMU write it. Its layout is in `c_vdi`."""

from __future__ import annotations

import struct
import sys
from array import array

from tasks.engine.disks import c_vdi as c
from tasks.engine.disks.bytesource import ByteSource, Depth
from tasks.engine.disks.claims import overlapping, require_aligned, require_inside
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import DiskFormat, Finding
from tasks.engine.disks.sizes import require_virtual_size
from tasks.engine.geometry import SECTOR_SIZE


def examine(source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding:
    """The finding for a VDI file; raises DiskRefused."""
    header = c.Header(*struct.unpack_from(c.HEADER, source.pread(0, c.HEADER_LENGTH)))
    _check_kind(header)
    require_virtual_size(header.disk_size, maximum=max_virtual_size)
    _check_sizes(header)
    if depth != "start":
        _check_places(source, header)
    if depth == "full":
        _check_blocks(source, header)
    return Finding(DiskFormat.VDI, header.disk_size)


def _check_kind(header: c.Header) -> None:
    if header.version != c.VERSION:
        raise refusal("unknown_version", f"VDI version {header.version:#x} is not known")
    if header.image_type in (c.TYPE_UNDO, c.TYPE_DIFFERENCING):
        raise refusal("differencing", "the VDI holds only the differences from a parent disk")
    if header.image_type not in (c.TYPE_DYNAMIC, c.TYPE_STATIC):
        raise refusal("unknown_feature", f"VDI image type {header.image_type} is not known")
    if header.uuid_link != c.NO_UUID or header.uuid_parent != c.NO_UUID:
        raise refusal("parent", "the VDI names a parent disk")


def _check_sizes(header: c.Header) -> None:
    if header.block_size != c.BLOCK_SIZE or header.sector_size != SECTOR_SIZE or header.block_extra:
        raise refusal("cluster_size", f"VDI blocks of {header.block_size}+{header.block_extra} bytes are not allowed")
    require_aligned(header.disk_size, unit=SECTOR_SIZE, what="the end of the virtual disk")
    if header.blocks_in_image != -(-header.disk_size // c.BLOCK_SIZE) or header.blocks_in_image > c.MAX_BLOCKS:
        raise refusal("table_size", f"the VDI has {header.blocks_in_image} blocks for {header.disk_size} bytes")
    if header.blocks_allocated > header.blocks_in_image:
        raise refusal("table_size", f"the VDI claims {header.blocks_allocated} of {header.blocks_in_image} blocks")


def _check_places(source: ByteSource, header: c.Header) -> None:
    """Header, block map and data follow each other inside the file."""
    for offset, what in ((header.offset_bmap, "the block map"), (header.offset_data, "the data")):
        require_aligned(offset, unit=SECTOR_SIZE, what=what)
    map_length = header.blocks_in_image * 4
    if header.offset_bmap < c.HEADER_LENGTH:
        raise overlapping("the block map", header.offset_bmap)
    if header.offset_data < header.offset_bmap + map_length:
        raise overlapping("the data", header.offset_data)
    require_inside(header.offset_bmap, map_length, size=source.size, what="the block map")


def _check_blocks(source: ByteSource, header: c.Header) -> None:
    """Every mapped block is inside the file, up to where the virtual disk ends, and serves once."""
    table = array("I", source.pread(header.offset_bmap, header.blocks_in_image * 4))
    if sys.byteorder == "big":
        table.byteswap()
    used = bytearray(header.blocks_in_image)
    for index, block in enumerate(table):
        if block >= c.DISCARDED:
            continue
        offset = header.offset_data + block * c.BLOCK_SIZE
        visible = min(c.BLOCK_SIZE, header.disk_size - index * c.BLOCK_SIZE)
        require_inside(offset, visible, size=source.size, what="a VDI block")
        if block >= header.blocks_allocated:
            raise refusal("bad_entry", f"VDI block {block} is used, but only {header.blocks_allocated} are allocated")
        if used[block]:
            raise overlapping("a VDI block", offset)
        used[block] = 1
