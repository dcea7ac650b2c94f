"""One disk as guests read it: byte ranges answered from chunks, holes answered from nothing. NBD itself is nbdkit's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tasks.engine.blobs.chunks import ChunkDigest
from tasks.engine.blobs.manifest import Manifest
from tasks.engine.geometry import CHUNK_SIZE, chunk_length


class DiskExport:
    """Random reads of one disk. Thread-safe: it holds no state but the counters."""

    def __init__(self, disk: Manifest, get_chunk: Callable[[ChunkDigest], bytes]) -> None:
        self._disk = disk
        self._get_chunk = get_chunk
        self.size = disk.virtual_size
        self.bytes_read = 0

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` with the disk's bytes from `offset`. Raises what the chunk source raises."""
        done = 0
        while done < len(buffer):
            index, start = divmod(offset + done, CHUNK_SIZE)
            count = min(len(buffer) - done, chunk_length(index, virtual_size=self.size) - start)
            digest = self._disk.digest_at(index)
            if digest is None:
                buffer[done : done + count] = bytes(count)
            else:
                buffer[done : done + count] = memoryview(self._get_chunk(digest))[start : start + count]
            done += count
        self.bytes_read += done

    def extents(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """(offset, length, has_data) runs that cover the range, neighbours of one kind joined."""
        run_start, run_data = offset, None
        position = offset
        while position < offset + length:
            index = position // CHUNK_SIZE
            has_data = self._disk.digest_at(index) is not None
            if run_data is not None and has_data != run_data:
                yield run_start, position - run_start, run_data
                run_start = position
            run_data = has_data
            position = min(offset + length, (index + 1) * CHUNK_SIZE)
        if run_data is not None:
            yield run_start, position - run_start, run_data
