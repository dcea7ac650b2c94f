"""Decoders of gz, xz, zst and bz2 behind one interface: one member or frame each, bounded pieces out, whatever a stream claims.

Where members begin and end in a file, and how much output is too much, is decided in `wrappers`.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import zstandard

WrapperKind = Literal["gz", "xz", "zst", "bz2"]

MAGIC: dict[WrapperKind, re.Pattern[bytes]] = {
    "gz": re.compile(rb"\x1f\x8b\x08"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zst": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),  # a frame, or a skippable frame
    "bz2": re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"),  # with the mark of a block, or of no block
}
ZSTD_WINDOW_LIMIT = 1 << 27
XZ_MEMORY_LIMIT = 256 << 20
DECODER_ERRORS = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError, ValueError)
"""What the libraries raise on damaged data; bz2 has no error type of its own."""

_PIECE = 1 << 20
_ZSTD_FEED = 512  # at worst one byte in 4 becomes 128 KiB, so this makes at most 16 MiB


class Decoder(Protocol):
    """One member's decoder: feed it, then see whether it ended and how much of the last feed it did not use."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused(self) -> int: ...

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Gzip:
    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unused(self) -> int:
        return len(self._inflater.unused_data)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            yield self._inflater.decompress(data, _PIECE)
            data = self._inflater.unconsumed_tail


class _Native:
    """bz2 and lzma share an interface."""

    def __init__(self, decompressor: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._decompressor = decompressor

    @property
    def eof(self) -> bool:
        return self._decompressor.eof

    @property
    def unused(self) -> int:
        return len(self._decompressor.unused_data)

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._decompressor.decompress(data, _PIECE)
        while not (self.eof or self._decompressor.needs_input):
            yield self._decompressor.decompress(b"", _PIECE)


class _Zstd:
    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_LIMIT).decompressobj()
        self.unused = 0

    @property
    def eof(self) -> bool:
        return self._frame.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_FEED):
            yield self._frame.decompress(data[start : start + _ZSTD_FEED])
            if self.eof:
                self.unused = len(self._frame.unused_data) + len(data[start + _ZSTD_FEED :])
                return


DECODERS: dict[WrapperKind, Callable[[], Decoder]] = {
    "gz": _Gzip,
    "xz": lambda: _Native(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_LIMIT)),
    "zst": _Zstd,
    "bz2": lambda: _Native(bz2.BZ2Decompressor()),
}
