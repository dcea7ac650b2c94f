"""A disk file opened as the import flow opens it: our header gate first, then the reader it calls for."""

from __future__ import annotations

from pathlib import Path

from tasks.engine.disks import gate
from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.formats import Window
from tasks.engine.disks.opening import open_disk
from tasks.engine.geometry import DiskReader

MAX_VIRTUAL_SIZE = 1 << 40


def open_file(disk: Path) -> DiskReader:
    """The reader of a disk image file whose folder may be written to."""
    window = Window(disk)
    with FileBytes(window) as source:
        finding = gate.examine(source, declared=None, max_virtual_size=MAX_VIRTUAL_SIZE, depth="full")
    return open_disk(window, finding, scratch=disk.parent)
