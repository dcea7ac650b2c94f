"""A VDI of four blocks, two of them stored."""

from __future__ import annotations

from forge_bytes import put

from tasks.engine.disks import c_vdi as c

BMAP, DATA = 512, 1024
END = DATA + 2 * c.BLOCK_SIZE
VIRTUAL_SIZE = 4 * c.BLOCK_SIZE

_HEADER = c.Header(
    *(b"<<< Oracle VM VirtualBox Disk Image >>>\n", 0xBEDA107F, c.VERSION, 400, c.TYPE_DYNAMIC, 0, b"", BMAP, DATA),
    *(0, 0, 0, 512, 0, VIRTUAL_SIZE, c.BLOCK_SIZE, 0, 4, 2, b"i" * 16, b"s" * 16, c.NO_UUID, c.NO_UUID),
)


def vdi(*entries: int, **fields: int | bytes) -> bytearray:
    """The file; `entries` begin its block map, `fields` replace those of its header by name."""
    data = bytearray(END)
    put(data, 0, c.HEADER, *_HEADER._replace(**fields))  # type: ignore[arg-type]
    put(data, BMAP, "<4I", *(c.UNALLOCATED,) * 4)
    entries = entries or (1, 0)
    return put(data, BMAP, f"<{len(entries)}I", *entries)
