"""Raw disks: the file is the disk. Declared raw, it is raw whatever its first sector says, here and in every later step."""

from __future__ import annotations

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
    return examine(source, max_virtual_size=max_virtual_size, depth=depth)
