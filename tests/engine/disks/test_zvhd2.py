"""The ZVHD2 codec: the vendor encoder's files, round trips, reads in any order, and files that lie."""

import hashlib
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from unittest.mock import patch
from uuid import UUID

import forge_zvhd as forge
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.disks import c_zvhd as c
from tasks.engine.disks import zvhd2
from tasks.engine.disks.bytesource import BeyondPrefix, PrefixBytes
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.zvhd_writer import blocks_of, write_zvhd2
from tasks.engine.errors import DiskRefused

CORPUS = Path(__file__).parents[3].parent / "shared" / "corpus" / "zvhd"
RAW_SHA256 = {
    "sample-a": "af5ffd88823414e2be5e3f0dd366e201bf46fe0b30792520afd55e9757e7e72b",
    "sample-b": "b283ff2f3a0193a0cee445dec708f1ca1a28addd43a0cd69b0cd3ed395a390f8",
}
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="the sample corpus is not beside the project")


def examine(file: bytes, *, depth: str = "full", cap: int = 1 << 40) -> Finding:
    return zvhd2.examine(PrefixBytes(bytes(file), complete=True), max_virtual_size=cap, depth=depth)


def read_all(path: Path, size: int, *, shuffle: int = 0) -> bytes:
    raw = bytearray(size)
    with zvhd2.Zvhd2Reader(Window(path), Finding(DiskFormat.ZVHD2, size)) as reader:
        chunks = list(reader.pending_chunks())
        Random(shuffle).shuffle(chunks)
        with ThreadPoolExecutor(4) as pool:
            for pending, data in zip(chunks, pool.map(lambda chunk: chunk.read(), chunks), strict=True):
                raw[pending.index << 20 : (pending.index << 20) + len(data)] = data
    assert len(raw) == size
    return bytes(raw)


def refusal(file: bytes, **options: object) -> str:
    with pytest.raises(DiskRefused) as refused:
        examine(file, **options)
    return refused.value.code


def read_refusal(tmp_path: Path, file: bytes, size: int = forge.SIZE) -> str:
    path = tmp_path / "disk.zvhd2"
    path.write_bytes(file)
    with pytest.raises(DiskRefused) as refused:
        read_all(path, size)
    return refused.value.code


@needs_corpus
@pytest.mark.parametrize("name", RAW_SHA256)
def test_zvhd2_of_the_vendors_encoder_has_the_known_content(name: str) -> None:
    path = CORPUS / f"{name}.zvhd2"
    finding = examine(path.read_bytes())
    assert hashlib.sha256(read_all(path, finding.virtual_size)).hexdigest() == RAW_SHA256[name]


@needs_corpus
@pytest.mark.parametrize("name", RAW_SHA256)
def test_zvhd2_written_anew_has_the_vendors_layout(name: str) -> None:
    """The frames differ with the zstd version; everything around them is compared, places and checksums aside."""
    theirs = (CORPUS / f"{name}.zvhd2").read_bytes()
    header, finding, ours = c.Header.unpack(theirs), examine(theirs), io.BytesIO()
    identity = {"uuid": UUID(bytes=header.uuid), "timestamp": header.timestamp + c.EPOCH}
    with zvhd2.Zvhd2Reader(Window(CORPUS / f"{name}.zvhd2"), finding) as reader:
        write_zvhd2(ours, virtual_size=finding.virtual_size, blocks=blocks_of(reader), **identity)
    assert _skeleton(ours.getvalue()) == _skeleton(theirs)


def _skeleton(file: bytes) -> list[object]:
    header, after, last = (file[page : page + c.PAGE] for page in forge.header_pages(file))
    footer = c.Extension.unpack(last)
    placed = footer._replace(index_lba=0, bitmap_lba=footer.bitmap_lba - footer.index_lba)
    index = [entry[1] for entry in c.INDEX_ENTRY.iter_unpack(file[footer.index_lba : footer.bitmap_lba])]
    return [header, after, placed, index, file[footer.bitmap_lba : -c.PAGE], last[: c.CHECKSUM_OFFSET]]


def test_zvhd2_round_trip_keeps_content(tmp_path: Path) -> None:
    path = tmp_path / "disk.zvhd2"
    path.write_bytes(forge.zvhd2())
    assert examine(forge.zvhd2()) == Finding(DiskFormat.ZVHD2, forge.SIZE)
    assert read_all(path, forge.SIZE) == forge.content()
    with zvhd2.Zvhd2Reader(Window(path), examine(forge.zvhd2())) as reader:
        assert list(blocks_of(reader)) == forge.blocks()


def test_zvhd2_writer_gives_the_same_bytes_for_the_same_arguments() -> None:
    assert forge.zvhd2() == forge.zvhd2()


def test_zvhd2_block_is_decoded_once_for_its_chunks_and_again_when_read_again(tmp_path: Path) -> None:
    path = tmp_path / "disk.zvhd2"
    path.write_bytes(forge.zvhd2())
    with (
        zvhd2.Zvhd2Reader(Window(path), examine(forge.zvhd2())) as reader,
        patch.object(zvhd2, "_unzstd", wraps=zvhd2._unzstd) as decode,
    ):
        chunks = list(reader.pending_chunks())
        first = [chunk.read() for chunk in chunks]
        assert decode.call_count == 3
        assert [chunk.read() for chunk in chunks] == first
        assert decode.call_count == 6


@settings(max_examples=15, deadline=None)
@given(
    size=st.integers(1, 20 << 20),
    seeds=st.dictionaries(st.integers(0, 9), st.integers(1, 1 << 30), max_size=4),
    shuffle=st.integers(0, 99),
)
def test_zvhd2_round_trip_of_any_disk_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, size: int, seeds: dict[int, int], shuffle: int
) -> None:
    count = -(-size // c.BLOCK_SIZE)
    stored = {number: forge.block(seed) for number, seed in sorted(seeds.items()) if number < count}
    raw = b"".join(stored.get(number, bytes(c.BLOCK_SIZE)) for number in range(count))[:size]
    padded = [(number, raw[number << 21 : (number + 1) << 21].ljust(c.BLOCK_SIZE, b"\0")) for number in stored]
    path = tmp_path_factory.mktemp("zvhd2") / "disk.zvhd2"
    path.write_bytes(forge.zvhd2(size, padded))
    assert examine(path.read_bytes()).virtual_size == size
    assert read_all(path, size, shuffle=shuffle) == raw


def _zlib_method(size: int = forge.SIZE) -> bytearray:
    """The forged disk with method 0: each block an own zlib stream that ends in a flush."""

    class Deflater:
        def compress(self, data: bytes) -> bytes:
            deflater = zlib.compressobj(1)
            return deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)

    with patch("zstandard.ZstdCompressor", lambda **_: Deflater()):
        return forge.poke(forge.zvhd2(size), 141, "B", c.COMPRESS_ZLIB)


def test_zvhd2_with_zlib_blocks_is_read(tmp_path: Path) -> None:
    (tmp_path / "disk.zvhd2").write_bytes(_zlib_method())
    assert examine(_zlib_method()).virtual_size == forge.SIZE
    assert read_all(tmp_path / "disk.zvhd2", forge.SIZE) == forge.content()


def test_zvhd2_with_an_index_of_all_blocks_is_read(tmp_path: Path) -> None:
    file = forge.poke(forge.zvhd2(), 140, "B", 1)
    at = forge.index_lba(file)
    entries = [bytes(file[at + 16 * place : at + 16 * place + 16]) for place in range(3)]
    file[at : at + 64] = entries[0] + bytes(16) + entries[1] + entries[2]
    (tmp_path / "disk.zvhd2").write_bytes(file)
    assert examine(file).virtual_size == forge.SIZE
    assert read_all(tmp_path / "disk.zvhd2", forge.SIZE) == forge.content()


@pytest.mark.parametrize("mib", [1, 4, 32])
def test_zvhd2_with_other_block_sizes_is_read(tmp_path: Path, mib: int) -> None:
    size, data = 33 << 20, Random(5).randbytes(1 << 20) + bytes((mib << 20) - (1 << 20))
    with (
        patch.object(c, "BLOCK_SIZE", mib << 20),
        patch("tasks.engine.disks.zvhd_writer._PER_BLOCK", mib),
    ):
        file = forge.zvhd2(size, [(0, data)])
    (tmp_path / "disk.zvhd2").write_bytes(file)
    assert examine(file).virtual_size == size
    assert read_all(tmp_path / "disk.zvhd2", size) == data.ljust(size, b"\0")


def test_zvhd2_of_an_empty_disk_is_read(tmp_path: Path) -> None:
    (tmp_path / "disk.zvhd2").write_bytes(forge.zvhd2(1 << 20, []))
    assert examine(forge.zvhd2(1 << 20, [])).virtual_size == 1 << 20
    assert read_all(tmp_path / "disk.zvhd2", 1 << 20) == bytes(1 << 20)


LIES = {
    "too_large": (40, "Q", 1 << 60),
    "too_small": (40, "Q", 0),
    "size_mismatch": (92, "I", 5),
    "unknown_feature": (87, "B", 2),
    "block_size": (88, "I", 3 << 20),
    "index": (112, "I", 1 << 31),
    "past_end": (96, "Q", 1 << 62),
}


@pytest.mark.parametrize(("reason", "lie"), LIES.items())
def test_zvhd2_with_a_lying_header_is_refused(reason: str, lie: tuple[int, str, int]) -> None:
    assert refusal(forge.poke(forge.zvhd2(), *lie), depth="headers") == f"disk.{reason}"


@pytest.mark.parametrize("offset", [12, 32, 84, 86, 87, 140, 141, 142, 511, 512, 4095])
def test_zvhd2_with_an_unknown_version_method_or_reserved_byte_is_refused(offset: int) -> None:
    assert refusal(forge.poke(forge.zvhd2(), offset, "B", 0x77), depth="headers") == "disk.unknown_feature"


@pytest.mark.parametrize("size", [0, 1, 512, 1 << 19, 1 << 26, (2 << 20) + 512, 0xFFFF_FFFF])
def test_zvhd2_with_an_impossible_block_size_is_refused(size: int) -> None:
    assert refusal(forge.poke(forge.zvhd2(), 88, "I", size), depth="headers") == "disk.block_size"


@pytest.mark.parametrize("field", forge.EXTENSION_OFFSETS.items(), ids=lambda field: field[0])
def test_zvhd2_with_any_extreme_footer_field_is_refused(field: tuple[str, int]) -> None:
    name, offset = field
    file = forge.poke(forge.zvhd2(), offset, {"zvhd2_version": "B"}.get(name, "I"), 255, everywhere=False)
    assert refusal(file, depth="headers").startswith("disk.")


@pytest.mark.parametrize("page", [0, 1, 2])
def test_zvhd2_with_a_wrong_checksum_or_copy_is_refused(page: int) -> None:
    file = forge.zvhd2()
    file[forge.header_pages(file)[page] + 70] ^= 1
    assert refusal(file, depth="headers") == ("disk.header_mismatch" if page == 1 else "disk.checksum")


def test_zvhd2_whose_footer_differs_is_refused() -> None:
    assert refusal(forge.poke(forge.zvhd2(), 24, "I", 9, everywhere=False), depth="headers") == "disk.header_mismatch"


@pytest.mark.parametrize("cut", [1, 4095])
def test_zvhd2_cut_inside_a_page_is_truncated(cut: int) -> None:
    assert refusal(forge.zvhd2()[:-cut], depth="headers") == "disk.truncated"


@pytest.mark.parametrize("pages_left", [1, 2, -1, -2, -130])
def test_zvhd2_cut_at_a_page_has_no_footer(pages_left: int) -> None:
    assert refusal(forge.zvhd2()[: pages_left * c.PAGE], depth="headers") == "disk.missing_footer"


def test_zvhd2_cut_after_the_headers_copy_has_no_footer() -> None:
    file = forge.zvhd2()
    assert refusal(file[: forge.index_lba(file)], depth="headers") == "disk.missing_footer"


INDEX_LIES = {
    "block_range": (8, "I", 4),
    "past_end": (0, "Q", 1 << 40),
    "index": (12, "I", 3 * c.PAGE),
}


@pytest.mark.parametrize(("reason", "lie"), INDEX_LIES.items())
def test_zvhd2_with_a_lying_index_is_refused_when_examined_and_read(
    tmp_path: Path, reason: str, lie: tuple[int, str, int]
) -> None:
    file = forge.zvhd2()
    struct.pack_into("<" + lie[1], file, forge.index_lba(file) + lie[0], lie[2])
    assert refusal(file) == f"disk.{reason}"
    assert read_refusal(tmp_path, file) == f"disk.{reason}"


def test_zvhd2_with_blocks_out_of_order_is_refused() -> None:
    file = forge.poke_record(forge.zvhd2(), 1, 16, "I", 0)
    struct.pack_into("<I", file, forge.index_lba(file) + 16 + 8, 0)
    assert refusal(file) == "disk.block_order"


def test_zvhd2_whose_records_overlap_is_refused() -> None:
    file = forge.zvhd2()
    struct.pack_into("<Q", file, forge.index_lba(file) + 16, c.PAGE)
    assert refusal(file) == "disk.past_end"


@pytest.mark.parametrize("offset", [0, 16, c.PAGE - 1])
def test_zvhd2_whose_bitmap_contradicts_the_index_is_refused(offset: int) -> None:
    file = forge.zvhd2()
    file[c.Extension.unpack(bytes(file[-c.PAGE :])).bitmap_lba + offset] ^= 2
    assert refusal(file) == "disk.index"


def test_zvhd2_whose_index_goes_on_behind_its_count_is_refused() -> None:
    file = forge.zvhd2()
    c.INDEX_ENTRY.pack_into(file, forge.index_lba(file) + 16 * 3, c.PAGE, 1, c.PAGE)
    assert refusal(file) == "disk.block_order"


RECORD_LIES = {
    "index": (1, 16, "I", 3),
    "record_size": (0, 12, "I", (4 << 20) + 1),
    "unknown_feature": (1, 20, "B", 1),
    "record": (1, 0, "B", 0),
}


@pytest.mark.parametrize(("reason", "lie"), RECORD_LIES.items())
def test_zvhd2_with_a_lying_record_is_refused_when_examined_and_read(
    tmp_path: Path, reason: str, lie: tuple[int, int, str, int]
) -> None:
    file = forge.poke_record(forge.zvhd2(), *lie)
    assert refusal(file) == f"disk.{reason}"
    assert read_refusal(tmp_path, file) == f"disk.{reason}"


def _frame(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(level=1, **options).compress(data)


FRAMES = {
    "claims more": ("inflate_limit", _frame(b"\1" * (400 << 20))),
    "holds more and claims nothing": ("inflate_limit", _frame(b"\1" * (9 << 20), write_content_size=False)),
    "claims less": ("damaged_block", _frame(b"\1" * 100)),
    "holds less and claims nothing": ("damaged_block", _frame(b"\1" * 100, write_content_size=False)),
    "no frame": ("damaged_block", b"\1" * 100),
    "another frame follows": ("damaged_block", _frame(b"\1" * c.BLOCK_SIZE) * 2),
}


@pytest.mark.parametrize("case", FRAMES)
def test_zvhd2_record_with_a_hostile_frame_is_refused(tmp_path: Path, case: str) -> None:
    reason, frame = FRAMES[case]
    with _stored_as(frame):
        file = forge.zvhd2(stored=[(0, b"\1" * c.BLOCK_SIZE)])
    assert read_refusal(tmp_path, file) == f"disk.{reason}"


def _stored_as(frame: bytes):
    class Fixed:
        def compress(self, data: bytes) -> bytes:
            return frame

    return patch("zstandard.ZstdCompressor", lambda **_: Fixed())


def test_zvhd2_frame_without_claimed_size_is_read(tmp_path: Path) -> None:
    with _stored_as(_frame(b"\1" * c.BLOCK_SIZE, write_content_size=False)):
        file = forge.zvhd2(stored=[(0, b"\1" * c.BLOCK_SIZE)])
    (tmp_path / "disk.zvhd2").write_bytes(file)
    assert read_all(tmp_path / "disk.zvhd2", forge.SIZE).startswith(b"\1" * c.BLOCK_SIZE + b"\0")


def test_zvhd2_zlib_block_that_inflates_too_far_is_refused(tmp_path: Path) -> None:
    bomb = zlib.compressobj(1)
    with _stored_as(bomb.compress(b"\1" * (100 << 20)) + bomb.flush(zlib.Z_SYNC_FLUSH)):
        file = forge.poke(forge.zvhd2(stored=[(0, b"\1" * c.BLOCK_SIZE)]), 141, "B", c.COMPRESS_ZLIB)
    assert read_refusal(tmp_path, file) == "disk.inflate_limit"


def test_zvhd2_with_data_past_the_disks_end_is_refused(tmp_path: Path) -> None:
    assert read_refusal(tmp_path, forge.zvhd2(stored=[(3, forge.block(1))])) == "disk.past_end"


def test_zvhd2_reader_closes_its_file(tmp_path: Path) -> None:
    path = tmp_path / "disk.zvhd2"
    path.write_bytes(forge.zvhd2())
    with zvhd2.Zvhd2Reader(Window(path), examine(forge.zvhd2())) as reader:
        chunk = next(reader.pending_chunks())
    with pytest.raises(OSError, match="descriptor"):
        chunk.read()


def test_zvhd2_header_alone_tells_the_size_of_a_file_not_unpacked_yet() -> None:
    start = PrefixBytes(bytes(forge.zvhd2()[: c.PAGE]))
    assert zvhd2.examine(start, max_virtual_size=1 << 40, depth="start").virtual_size == forge.SIZE
    with pytest.raises(BeyondPrefix):
        zvhd2.examine(start, max_virtual_size=1 << 40, depth="headers")
