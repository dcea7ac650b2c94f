"""Verification finds whatever is wrong, names the disks that it harms, and another disk that has the chunk heals it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_pipeline import DictReader, content

from tasks.engine.blobs.chunks import ChunkStore, chunk_digest, chunk_key
from tasks.engine.blobs.collecting import Rules, collect
from tasks.engine.blobs.keeping import Gone, Uncollected, Verdict
from tasks.engine.blobs.live import LiveChunks
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.manifests import get_manifest, manifest_key
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.pipeline import ingest
from tasks.engine.blobs.verifying import FOLDERS, Verified, harmed, recheck, verify
from tasks.engine.errors import Damaged, StateRefused

ALL = range(FOLDERS)
DISKS = [content(range(3)), content(range(1, 5)), content(range(2), seed=7)]


def stored() -> tuple[ChunkStore, list[ManifestDigest]]:
    store = ChunkStore(MemoryObjects())
    return store, [ingest(DictReader(disk), store, Uncollected(), threads=2).manifest_digest for disk in DISKS]


def seen(store: ChunkStore, digests: Collection[ManifestDigest], folder: Path, folders: Collection[int] = ALL) -> Verified:
    return verify(store, digests, folders=folders, folder=folder, threads=2)


def flip(store: ChunkStore, key: str, *, bit: int) -> None:
    body = bytearray(store.objects.get(key, limit=1 << 30))
    body[bit // 8 % len(body)] ^= 1 << bit % 8
    store.objects.put(key, bytes(body))


def needing(store: ChunkStore, digests: Collection[ManifestDigest]) -> dict[str, set[ManifestDigest]]:
    """What really needs each object."""
    found: dict[str, set[ManifestDigest]] = {}
    for digest in digests:
        found.setdefault(manifest_key(digest), set()).add(digest)
        for _, chunk in get_manifest(store.objects, digest).entries():
            found.setdefault(chunk_key(chunk), set()).add(digest)
    return found


class Told(Uncollected):
    """A ledger that knows of damage, and lets a disk be held when that was proved to be well."""

    def __init__(self, damaged: Collection[str]) -> None:
        self.damaged = frozenset(damaged)

    def register(self) -> frozenset[str]:
        return self.damaged

    def hold(self, digest: ManifestDigest, keys: Collection[str], *, proved: Mapping[str, int]) -> Verdict:
        return Verdict(1, frozenset(key for key in self.damaged if key in keys and key not in proved))


def test_sound_store_has_no_faults(tmp_path: Path) -> None:
    store, digests = stored()
    done = seen(store, digests, tmp_path)
    assert (done.manifests, done.chunks, done.chunks_read, done.found) == (3, 7, 7, {})
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found_with_all_that_it_harms_and_healed(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("verify")
    store, digests = stored()
    truth = needing(store, digests)
    key = data.draw(st.sampled_from(sorted(truth)))
    flip(store, key, bit=data.draw(st.integers(0, 8 * 4000)))
    assume(recheck(store, [key]))  # zstd's header has bits, such as the window's, that change nothing of what is read
    done = seen(store, digests, folder)
    assert set(done.found) == {key}
    assert harmed(store, digests, done.found) == {key: truth[key]}
    for disk in DISKS:
        ingest(DictReader(disk), store, Told(done.found), threads=2)
    assert seen(store, digests, folder).found == {}


def test_missing_chunk_is_found_though_its_folder_is_not_read(tmp_path: Path) -> None:
    store, digests = stored()
    key = chunk_key(chunk_digest(DISKS[0][0]))
    store.objects.delete(key)
    done = seen(store, digests, tmp_path, folders=())
    assert (set(done.found), done.chunks_read) == ({key}, 0)
    assert recheck(store, [key, manifest_key(digests[0])]).keys() == {key}


def test_folders_together_read_every_chunk_once(tmp_path: Path) -> None:
    store, digests = stored()
    shares = [range(start, start + 64) for start in range(0, FOLDERS, 64)]
    assert sum(seen(store, digests, tmp_path, folders=share).chunks_read for share in shares) == 7


def test_disk_that_has_the_damaged_chunk_sends_it_again() -> None:
    store, _ = stored()
    key = chunk_key(chunk_digest(DISKS[0][1]))
    flip(store, key, bit=99)
    done = ingest(DictReader({9: DISKS[0][1]}), store, Told([key]), threads=1)
    assert done.new_chunks == 1
    assert store.get(chunk_digest(DISKS[0][1])) == DISKS[0][1]


def test_damaged_chunk_that_is_only_inherited_is_refused() -> None:
    store, digests = stored()
    key = chunk_key(chunk_digest(DISKS[0][1]))
    flip(store, key, bit=99)
    parent = get_manifest(store.objects, digests[0])
    with pytest.raises(Damaged):
        ingest(DictReader({0: b"new"}), store, Told([key]), threads=1, parent=parent)


def test_chunk_that_went_before_the_disk_was_held_is_sent_by_the_next_attempt() -> None:
    store, _ = stored()
    key = chunk_key(chunk_digest(DISKS[0][0]))

    class Late(Uncollected):
        """The chunk is deleted after it was found present."""

        def hold(self, digest: ManifestDigest, keys: Collection[str], *, proved: Mapping[str, int]) -> Verdict:
            store.objects.delete(key)
            return Verdict(1, frozenset({key}))

    with pytest.raises(Gone):
        ingest(DictReader(DISKS[0]), store, Late(), threads=1)
    assert ingest(DictReader(DISKS[0]), store, Uncollected(), threads=1).new_chunks == 1


def test_live_chunks_are_a_set_on_disk(tmp_path: Path) -> None:
    store, digests = stored()
    with LiveChunks(tmp_path) as live:
        for digest in digests * 2:
            live.add(get_manifest(store.objects, digest))
        chunks = {chunk for digest in digests for _, chunk in get_manifest(store.objects, digest).entries()}
        assert len(live) == len(chunks)
        assert live.among([*chunks, chunk_digest(b"none")]) == chunks
        assert [chunk for number in ALL for chunk in live.under(number)] == sorted(chunks)


class Referring:
    """A registry that knows what is needed and is asked nothing else."""

    def __init__(self, digests: Collection[ManifestDigest]) -> None:
        self.digests = set(digests)

    def references(self) -> set[ManifestDigest]:
        return self.digests

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"a dry run asks for {name}")


def test_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    store, digests = stored()
    store.objects.put("notes/mine", b"not ours")
    store.objects.put("chunks/zz/mine", b"not ours either")
    before = {info.key for info in store.objects.list("")}
    rules = Rules(folder=tmp_path, apply=False, keep_seconds=0)
    found = collect(store.objects, Referring(digests[1:]), rules, delete=store.objects.delete)  # type: ignore[arg-type]
    assert (found.manifests, found.live_chunks, found.garbage, found.deleted) == (2, 6, 2, 0)
    assert {info.key for info in store.objects.list("")} == before
    young = collect(store.objects, Referring(digests[1:]), Rules(folder=tmp_path, apply=False), delete=store.objects.delete)  # type: ignore[arg-type]
    assert (young.garbage, young.young) == (0, 2)


def test_needed_manifest_that_cannot_be_read_stops_the_collector(tmp_path: Path) -> None:
    store, digests = stored()
    flip(store, manifest_key(digests[1]), bit=900)
    with pytest.raises(StateRefused) as refused:
        collect(store.objects, Referring(digests), Rules(folder=tmp_path, apply=False), delete=store.objects.delete)  # type: ignore[arg-type]
    assert refused.value.code == "store.incomplete"
