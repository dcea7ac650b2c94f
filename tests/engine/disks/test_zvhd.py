"""The ZVHD codec: the vendor encoder's files, round trips, and files that lie."""

import hashlib
import io
import tracemalloc
import zlib
from pathlib import Path
from uuid import UUID

import forge_zvhd as forge
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.disks import c_zvhd as c
from tasks.engine.disks import zvhd, zvhd_records
from tasks.engine.disks.bytesource import BeyondPrefix, FileBytes, PrefixBytes
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.zvhd_writer import blocks_of, write_zvhd
from tasks.engine.errors import DiskRefused

CORPUS = Path(__file__).parents[3].parent / "shared" / "corpus" / "zvhd"
RAW_SHA256 = {
    "sample-a": "af5ffd88823414e2be5e3f0dd366e201bf46fe0b30792520afd55e9757e7e72b",
    "sample-b": "b283ff2f3a0193a0cee445dec708f1ca1a28addd43a0cd69b0cd3ed395a390f8",
}
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="the sample corpus is not beside the project")


def examine(file: bytes, *, depth: str = "full", cap: int = 1 << 40) -> Finding:
    return zvhd.examine(PrefixBytes(bytes(file), complete=True), max_virtual_size=cap, depth=depth)


def read_all(path: Path, size: int) -> bytes:
    raw = bytearray(size)
    with zvhd.ZvhdReader(Window(path), Finding(DiskFormat.ZVHD, size)) as reader:
        for pending in reader.pending_chunks():
            data = pending.read()
            raw[pending.index << 20 : (pending.index << 20) + len(data)] = data
    assert len(raw) == size
    return bytes(raw)


def refusal(file: bytes, **options: object) -> str:
    with pytest.raises(DiskRefused) as refused:
        examine(file, **options)
    return refused.value.code


def read_refusal(tmp_path: Path, file: bytes, size: int = forge.SIZE) -> str:
    path = tmp_path / "disk.zvhd"
    path.write_bytes(file)
    with pytest.raises(DiskRefused) as refused:
        read_all(path, size)
    return refused.value.code


@needs_corpus
@pytest.mark.parametrize("name", RAW_SHA256)
def test_zvhd_of_the_vendors_encoder_has_the_known_content(name: str) -> None:
    path = CORPUS / f"{name}.zvhd"
    finding = examine(path.read_bytes())
    assert hashlib.sha256(read_all(path, finding.virtual_size)).hexdigest() == RAW_SHA256[name]


@needs_corpus
@pytest.mark.parametrize("name", RAW_SHA256)
def test_zvhd_written_anew_equals_the_vendors_file_outside_padding(name: str) -> None:
    theirs = (CORPUS / f"{name}.zvhd").read_bytes()
    header, finding, ours = c.Header.unpack(theirs), examine(theirs), io.BytesIO()
    with zvhd.ZvhdReader(Window(CORPUS / f"{name}.zvhd"), finding) as reader:
        write_zvhd(
            ours,
            virtual_size=finding.virtual_size,
            blocks=blocks_of(reader),
            uuid=UUID(bytes=header.uuid),
            timestamp=header.timestamp + c.EPOCH,
        )
    assert _without_padding(ours.getvalue()) == _without_padding(theirs)


def _without_padding(file: bytes) -> list[bytes]:
    """Header, records and footer, each without the bytes between its content and its end mark."""
    source = PrefixBytes(file, complete=True)
    limits = zvhd_records.Limits(1 << 20, c.BLOCK_SIZE, len(file) - c.PAGE)
    records = [file[at.offset : at.offset + 48 + at.size] for at in zvhd_records.walk(source, limits=limits)]
    return [file[: c.PAGE], *records, file[-c.PAGE :]]


def test_zvhd_round_trip_keeps_content_and_omits_zero_chunks(tmp_path: Path) -> None:
    path = tmp_path / "disk.zvhd"
    path.write_bytes(forge.zvhd())
    assert examine(forge.zvhd()) == Finding(DiskFormat.ZVHD, forge.SIZE)
    assert read_all(path, forge.SIZE) == forge.content()
    with zvhd.ZvhdReader(Window(path), examine(forge.zvhd())) as reader:
        assert [chunk.index for chunk in reader.pending_chunks()] == [0, 1, 4, 5, 6, 7]


def test_zvhd_inside_a_window_reads_the_same(tmp_path: Path) -> None:
    file = forge.zvhd()
    (tmp_path / "package").write_bytes(b"x" * 777 + file + b"y" * 99)
    window = Window(tmp_path / "package", 777, len(file))
    with FileBytes(window) as source, zvhd.ZvhdReader(window, examine(file)) as reader:
        assert zvhd.examine(source, max_virtual_size=1 << 40, depth="full").virtual_size == forge.SIZE
        assert list(blocks_of(reader)) == forge.blocks()


def test_zvhd_writer_gives_the_same_bytes_for_the_same_arguments() -> None:
    assert forge.zvhd() == forge.zvhd()


def test_zvhd_of_an_empty_disk_has_header_and_footer_only(tmp_path: Path) -> None:
    file = forge.zvhd(size=1 << 30, stored=[])
    assert len(file) == 2 * c.PAGE
    assert examine(file).virtual_size == 1 << 30


@pytest.mark.parametrize("stored", [[(1, forge.block(1)), (0, forge.block(2))], [(4, forge.block(1))], [(0, b"short")]])
def test_zvhd_writer_with_blocks_out_of_order_range_or_size_fails(stored: list[tuple[int, bytes]]) -> None:
    with pytest.raises(ValueError, match="block"):
        forge.zvhd(stored=stored)


@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 20 << 20), seeds=st.dictionaries(st.integers(0, 9), st.integers(1, 1 << 30), max_size=4))
def test_zvhd_round_trip_of_any_disk(tmp_path_factory: pytest.TempPathFactory, size: int, seeds: dict[int, int]) -> None:
    count = -(-size // c.BLOCK_SIZE)
    stored = {number: forge.block(seed) for number, seed in sorted(seeds.items()) if number < count}
    raw = b"".join(stored.get(number, bytes(c.BLOCK_SIZE)) for number in range(count))[:size]
    padded = [(number, raw[number << 21 : (number + 1) << 21].ljust(c.BLOCK_SIZE, b"\0")) for number in stored]
    path = tmp_path_factory.mktemp("zvhd") / "disk.zvhd"
    path.write_bytes(forge.zvhd(size, padded))
    assert examine(path.read_bytes()).virtual_size == size
    assert read_all(path, size) == raw


HEADER_LIES = {
    "too_large": (40, "Q", 1 << 60),
    "too_small": (40, "Q", 0),
    "size_mismatch": (48, "Q", 3 << 30),
    "unknown_feature": (8, "I", 3),
}


@pytest.mark.parametrize(("reason", "lie"), HEADER_LIES.items())
def test_zvhd_with_a_lying_header_is_refused(reason: str, lie: tuple[int, str, int]) -> None:
    assert refusal(forge.poke(forge.zvhd(), *lie), depth="headers") == f"disk.{reason}"


@pytest.mark.parametrize("offset", [12, 16, 32, 36, 60, 84, 85, 86, 87, 511, 512, 4095])
def test_zvhd_with_an_unknown_version_or_reserved_byte_is_refused(offset: int) -> None:
    file = forge.zvhd()
    value = file[offset] ^ 0x55
    assert refusal(forge.poke(file, offset, "B", value), depth="headers") == "disk.unknown_feature"


def test_zvhd_with_a_wrong_checksum_is_refused() -> None:
    file = forge.zvhd()
    file[64] ^= 1
    assert refusal(file, depth="headers") == "disk.checksum"


def test_zvhd_of_the_older_creator_version_is_accepted() -> None:
    assert examine(forge.poke(forge.zvhd(), 32, "I", 0x10003)).virtual_size == forge.SIZE


def test_zvhd_over_the_cap_is_refused() -> None:
    assert refusal(forge.zvhd(), cap=forge.SIZE - 1) == "disk.too_large"


def test_zvhd_whose_footer_differs_is_refused() -> None:
    assert refusal(forge.poke(forge.zvhd(), 24, "I", 9, everywhere=False), depth="headers") == "disk.header_mismatch"


@pytest.mark.parametrize("cut", [1, 4000, 4095])
def test_zvhd_cut_inside_a_page_is_truncated(cut: int) -> None:
    assert refusal(forge.zvhd()[:-cut], depth="headers") == "disk.truncated"


@pytest.mark.parametrize("length", [0, 5, 511, 4095])
def test_zvhd_shorter_than_its_header_is_truncated(length: int) -> None:
    assert refusal(forge.zvhd()[:length], depth="headers") == "disk.truncated"


@pytest.mark.parametrize("pages_left", [1, 2, -1, -2])
def test_zvhd_cut_at_a_page_has_no_footer(pages_left: int) -> None:
    assert refusal(forge.zvhd()[: pages_left * c.PAGE], depth="headers") == "disk.missing_footer"


RECORD_LIES = {
    "block_range": (2, 16, "I", 4),
    "block_order": (2, 16, "I", 2),
    "record_size": (0, 12, "I", (4 << 20) + 1),
    "past_end": (0, 12, "I", 4 << 20),
    "unknown_feature": (1, 20, "B", 1),
    "record": (1, 0, "B", 0),
}


@pytest.mark.parametrize(("reason", "lie"), RECORD_LIES.items())
def test_zvhd_with_a_lying_record_is_refused_when_examined_and_read(
    tmp_path: Path, reason: str, lie: tuple[int, int, str, int]
) -> None:
    file = forge.poke_record(forge.zvhd(), *lie)
    assert refusal(file) == f"disk.{reason}"
    assert read_refusal(tmp_path, file) == f"disk.{reason}"


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF])
def test_zvhd_record_of_an_impossible_size_is_refused(size: int) -> None:
    assert refusal(forge.poke_record(forge.zvhd(), 0, 12, "I", size)) == "disk.record_size"


def test_zvhd_record_without_its_end_mark_is_refused() -> None:
    file = forge.zvhd()
    file[forge.record_offsets(file)[1] - 1] = 1
    assert refusal(file) == "disk.record"


def _synced(data: bytes) -> bytes:
    deflater = zlib.compressobj(1)
    return deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(
    ("reason", "length"), [("inflate_limit", c.BLOCK_SIZE + 1), ("inflate_limit", 400 << 20), ("damaged_block", 5)]
)
def test_zvhd_record_that_inflates_to_another_length_is_refused(tmp_path: Path, reason: str, length: int) -> None:
    file = forge.zvhd(stored=[(0, b"\1" * c.BLOCK_SIZE)])
    record = _synced(b"\1" * length)
    head = c.RECORD.pack(c.RECORD_PREFIX, len(record), 0, c.RECORD_RESERVED)
    padded = (head + record).ljust(c.record_length(len(record)) - 4, b"\0") + c.RECORD_SUFFIX
    hostile = file[: c.PAGE] + padded + file[-c.PAGE :]
    tracemalloc.start()
    assert read_refusal(tmp_path, bytes(hostile)) == f"disk.{reason}"
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_zvhd_with_damaged_data_is_refused(tmp_path: Path) -> None:
    file = forge.zvhd()
    start = forge.record_offsets(file)[1] + c.RECORD.size
    file[start : start + 64] = b"\xff" * 64
    assert read_refusal(tmp_path, file) == "disk.damaged_block"


def test_zvhd_with_data_past_the_disks_end_is_refused(tmp_path: Path) -> None:
    file = forge.zvhd(stored=[(3, forge.block(1))])
    assert read_refusal(tmp_path, file) == "disk.past_end"


def test_zvhd_reader_closes_its_file(tmp_path: Path) -> None:
    path = tmp_path / "disk.zvhd"
    path.write_bytes(forge.zvhd())
    with zvhd.ZvhdReader(Window(path), examine(forge.zvhd())) as reader:
        pass
    with pytest.raises(OSError, match="descriptor"):
        next(reader.pending_chunks())


def test_zvhd_header_alone_tells_the_size_of_a_file_not_unpacked_yet() -> None:
    start = PrefixBytes(bytes(forge.zvhd()[: c.PAGE]))
    assert zvhd.examine(start, max_virtual_size=1 << 40, depth="start").virtual_size == forge.SIZE
    with pytest.raises(BeyondPrefix):
        zvhd.examine(start, max_virtual_size=1 << 40, depth="headers")
