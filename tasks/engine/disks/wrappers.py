"""One layer of gz, xz, zst or bz2 around a disk image file: recognised, and unwrapped to a sparse file under limits.

What the bytes inside are is not known here (the gate judges them). Decoding one member is in `wrapper_decoders`; several
members one after another are one file, as gzip, xz and zstd have it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.formats import Window
from tasks.engine.disks.wrapper_decoders import DECODER_ERRORS, DECODERS, MAGIC, Decoder, WrapperKind
from tasks.engine.errors import DiskRefused, HostUnavailable

MAGIC_LENGTH = 16
PADDED_TO: dict[WrapperKind, int] = {"gz": 1, "xz": 4}
"""Kinds that may be followed by zeros, and the multiple their number must be of."""

SILENCE_LIMIT = 4 << 20
"""Compressed bytes that may give nothing: no encoder needs more than one bzip2 block, 900 KB."""
RATIO_FLOOR = 64 << 20
"""Output up to here may have any ratio: small empty disks are harmless."""

_FEED = 16 << 10
_HOLE = 64 << 10


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """How much an unwrapped file may grow: bytes, and times the compressed bytes read so far."""

    max_bytes: int
    max_ratio: int = 1000


def detect_wrapper(prefix: bytes) -> WrapperKind | None:
    """Which compression a file begins with, by its first MAGIC_LENGTH bytes."""
    return next((kind for kind, magic in MAGIC.items() if magic.match(prefix)), None)


def unwrap_prefix(source: Path | Window, kind: WrapperKind, length: int) -> bytes:
    """The first `length` decompressed bytes, fewer when there are no more. A second wrapper inside is refused."""
    collected = bytearray()
    with FileBytes(_window(source)) as file:
        for piece in _Unwrapping(file, kind).pieces():
            collected += piece
            if len(collected) >= max(length, MAGIC_LENGTH):
                break
    if inner := detect_wrapper(bytes(collected[:MAGIC_LENGTH])):
        raise DiskRefused("nested_compression", f"inside {kind} is {inner}", remedy="Unpack the outer layer first.")
    return bytes(collected[:length])


def unwrap(
    source: Path | Window,
    destination: Path,
    *,
    kind: WrapperKind,
    limits: OutputLimits,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Decompress to a new sparse file and give its size; on failure it is removed. `progress` gets compressed bytes read."""
    unwrap_prefix(source, kind, MAGIC_LENGTH)
    with FileBytes(_window(source)) as file:
        output = _SparseFile(destination)
        try:
            return _pump(_Unwrapping(file, kind), output, limits, progress)
        except BaseException:
            destination.unlink()
            raise
        finally:
            output.close()


def _pump(unwrapping: _Unwrapping, output: _SparseFile, limits: OutputLimits, progress: Callable[[int], None]) -> int:
    total = 0
    for piece in unwrapping.pieces():
        total += len(piece)
        if total > limits.max_bytes:
            raise DiskRefused("bomb", f"it unpacks to more than {limits.max_bytes} bytes")
        if total > max(RATIO_FLOOR, limits.max_ratio * unwrapping.consumed):
            raise DiskRefused(
                "bomb", f"it unpacks to over {limits.max_ratio} times its size", remedy="Unpack it and import the result."
            )
        output.append(piece)
        progress(unwrapping.consumed)
    output.finish()
    return total


def _window(source: Path | Window) -> Window:
    return source if isinstance(source, Window) else Window(source)


class _Unwrapping:
    """The decompressed content of a file in bounded pieces; `consumed` says how many compressed bytes that took so far."""

    def __init__(self, file: FileBytes, kind: WrapperKind) -> None:
        self._file, self._kind = file, kind
        self.consumed = 0

    def pieces(self) -> Iterator[bytes]:
        heard = 0
        while self.consumed < self._file.size:
            for piece in self._member():
                if piece:
                    yield piece
                    heard = self.consumed
                elif self.consumed - heard > SILENCE_LIMIT:
                    raise DiskRefused("bomb", f"the {self._kind} file goes on and on and unpacks to nothing")
            self._skip_padding()

    def _member(self) -> Iterator[bytes]:
        """One gzip member, xz stream, zstd frame or bzip2 stream."""
        if not MAGIC[self._kind].match(self._peek(MAGIC_LENGTH)):
            raise DiskRefused("trailing_data", f"something follows the {self._kind} data", remedy="Cut it off.")
        decoder = DECODERS[self._kind]()
        while not decoder.eof:
            fed = self._peek(_FEED)
            if not fed:
                raise self._damaged("it ends too early")
            self.consumed += len(fed)
            yield from self._decode(decoder, fed)
            self.consumed -= decoder.unused

    def _decode(self, decoder: Decoder, fed: bytes) -> Iterator[bytes]:
        pieces = decoder.feed(fed)
        while True:
            try:
                piece = next(pieces, None)
            except DECODER_ERRORS as error:
                raise self._damaged(str(error)) from error
            if piece is None:
                return
            yield piece

    def _damaged(self, what: str) -> DiskRefused:
        """The decoders tell a memory limit from damage by their words alone."""
        if "too much memory" in what or "limit exceeded" in what:
            return DiskRefused(
                f"{self._kind}_window", f"unpacking {self._kind} would take too much memory", remedy="Use a smaller window."
            )
        return DiskRefused(
            "wrapper_damaged", f"the {self._kind} data is damaged: {what}", remedy="Copy or download the file again."
        )

    def _skip_padding(self) -> None:
        start = self.consumed
        while (fed := self._peek(_FEED)) and self._kind in PADDED_TO and fed[0] == 0:
            self.consumed += len(fed) - len(fed.lstrip(b"\0"))
        if (self.consumed - start) % PADDED_TO.get(self._kind, 1):
            raise DiskRefused("trailing_data", f"odd padding follows the {self._kind} data", remedy="Cut it off.")

    def _peek(self, length: int) -> bytes:
        return self._file.pread(self.consumed, min(length, self._file.size - self.consumed))


class _SparseFile:
    """A new private file that is appended to; aligned runs of zeros become holes."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._size = 0

    def append(self, piece: bytes) -> None:
        start = 0
        while start < len(piece):
            end = min(len(piece), start + _HOLE - self._size % _HOLE)
            part = piece[start:end]
            if part != bytes(len(part)):
                self._write(part)
            self._size, start = self._size + len(part), end

    def _write(self, part: bytes) -> None:
        with _room():
            written = 0
            while written < len(part):
                written += os.pwrite(self._descriptor, part[written:], self._size + written)

    def finish(self) -> None:
        """Give the file its full size, which may end in a hole."""
        with _room():
            os.ftruncate(self._descriptor, self._size)

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._descriptor)


@contextmanager
def _room() -> Iterator[None]:
    """Name the operating system's ways to say that a file may not grow."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        remedy = "Free space under IMS_HOME."
        raise HostUnavailable("disk_full", "there is no room to unpack the file", remedy=remedy) from error
