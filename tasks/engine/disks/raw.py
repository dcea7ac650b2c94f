"""Raw disks: the file is the disk. Declared raw, it is raw whatever its first sector says, here and in every later step.

An undeclared one must not contradict itself: a partition table that goes on behind the end of the file means that the file was
cut, or was a fixed VHD before it was. Nothing else of the guest's content is looked at.
"""

from __future__ import annotations

import struct

from tasks.engine.disks import c_partitions as c
from tasks.engine.disks.bytesource import ByteSource, Depth
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import DiskFormat, Finding
from tasks.engine.disks.sizes import require_virtual_size
from tasks.engine.geometry import SECTOR_SIZE

MIN_UNDECLARED_SIZE = 64 << 10
"""A smaller file of no known format is a download that went wrong more often than a disk."""


def examine(source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding:
    """The finding for a file that was declared raw; the depth makes no difference."""
    del depth
    require_virtual_size(source.size, maximum=max_virtual_size)
    if source.size < SECTOR_SIZE:
        raise refusal("too_small", f"{source.size} bytes are less than one sector")
    if source.size % SECTOR_SIZE:
        raise refusal("unknown_format", f"{source.size} bytes are not whole sectors, as a raw disk's would be")
    return Finding(DiskFormat.RAW, source.size)


def examine_undeclared(source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding:
    """The same for a file that only lacks any known format's signature."""
    if source.size < MIN_UNDECLARED_SIZE:
        raise refusal("too_small", f"{source.size} bytes without a known format's signature are hardly a disk")
    finding = examine(source, max_virtual_size=max_virtual_size, depth=depth)
    if (end := _partitions_end(source.pread(0, 2 * SECTOR_SIZE))) > source.size:
        raise refusal("truncated", f"the disk ends at byte {source.size}, its partitions at {end}")
    return finding


def _partitions_end(sectors: bytes) -> int:
    """Bytes that the disk must have by the GPT or MBR in its first two sectors; 0 where there is neither."""
    if sectors.startswith(c.GPT_SIGNATURE, SECTOR_SIZE):
        (alternate_lba,) = struct.unpack_from("<Q", sectors, SECTOR_SIZE + c.GPT_ALTERNATE_LBA_OFFSET)
        return (int(alternate_lba) + 1) * SECTOR_SIZE
    if not sectors.startswith(c.MBR_SIGNATURE, c.MBR_SIGNATURE_OFFSET):
        return 0
    table = sectors[c.MBR_TABLE_OFFSET : c.MBR_SIGNATURE_OFFSET]
    entries = [c.MbrEntry(*fields) for fields in struct.iter_unpack(c.MBR_ENTRY, table)]
    if any(entry.status not in c.MBR_STATUSES for entry in entries):
        # The boot sector of a file system has code or text here.
        return 0
    ends = [entry.first_lba + entry.sectors for entry in entries if entry.kind not in c.MBR_UNBOUNDED_KINDS]
    return max(ends, default=0) * SECTOR_SIZE
