"""Streaming folders through a pipe: by the real tar over folders of this host, and archives that no tar would write."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from tasks.engine.inspection import guest_stream
from tasks.engine.inspection.c_scan import EXCLUDE_BYTES, HEADER_BYTES, RESUME_BYTES
from tasks.engine.inspection.guest_files import Budget
from tasks.engine.inspection.guest_stream import Incomplete, excluding, stream
from tasks.engine.inspection.tar_members import Member, members

SPECIAL = "a*b[c]?\\"
BIG = RESUME_BYTES + (2 << 20)


class LocalTar:
    """tar_out as the appliance does it, for a folder of this host; `calls` has what each was to leave out."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def tar_out(self, folder: str, target: str, *, numericowner: bool, excludes: list[str]) -> None:
        self.calls.append(excludes)
        with tempfile.NamedTemporaryFile("w") as listing, open(target, "wb") as pipe:
            listing.writelines(f"{each}\n" for each in excludes)
            listing.flush()
            command = ["tar", "-C", folder, f"--exclude-from={listing.name}", "--numeric-owner", "-cf", "-", "."]
            done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise RuntimeError(f"tar_out: {done.stderr.decode(errors='replace')}")


def everything(
    handle: object, folder: Path, *, budget: Budget | None = None, excludes: tuple[str, ...] = ()
) -> dict[str, Member]:
    budget = budget or Budget(until=float("inf"))
    found = stream(handle, str(folder), excludes=excludes, limit_of=lambda _: 1 << 20, budget=budget)
    return {each.path: each for each in found}


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.write(b"head")
        file.truncate(size)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a/b/c", "d", "a/.b", SPECIAL):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(name.encode())
    return tmp_path


def test_every_file_goes_by_once_whatever_is_big(tree: Path):
    expected = {str(path.relative_to(tree)) for path in tree.rglob("file")}
    for number, folder in enumerate(("a", "a/b", "a/b/c", "d", SPECIAL, ".")):
        sparse(tree / folder / f"big{number}\\[x]*", BIG + (number << 40))
        expected.add(str(Path(folder) / f"big{number}\\[x]*"))
    handle = LocalTar()
    found = everything(handle, tree)
    assert set(found) == expected
    assert len(handle.calls) == 7
    assert {each.data[:4] for path, each in found.items() if "big" in path} == {b"head"}


def test_name_that_tar_cannot_be_told_is_waited_for(tree: Path):
    sparse(tree / "new\nline", BIG)
    sparse(tree / "d" / os.fsdecode(b"\xff"), BIG)
    handle = LocalTar()
    assert {"new\nline", "d/\udcff", "a/b/c/file"} <= set(everything(handle, tree))
    assert len(handle.calls) == 1


def test_unspeakable_file_of_any_size_costs_no_more_than_the_budget(tree: Path):
    sparse(tree / "new\nline", 1 << 42)
    with pytest.raises(Incomplete, match="too much"):
        everything(LocalTar(), tree)


@pytest.mark.parametrize("budget", [Budget(until=float("inf"), entries=3), Budget(until=float("inf"), bytes=9)])
def test_budget_ends_the_stream(tree: Path, budget: Budget):
    with pytest.raises(Incomplete, match="too much"):
        everything(LocalTar(), tree, budget=budget)


def test_pipes_links_and_excludes(tree: Path):
    os.mkfifo(tree / "fifo")
    (tree / "link").symlink_to("/etc/shadow")
    (tree / "d" / "other").hardlink_to(tree / "d" / "file")
    found = everything(LocalTar(), tree, excludes=("./a",))
    assert sorted(each for each in found if "other" not in each and "d/file" not in each) == [f"{SPECIAL}/file", "fifo", "link"]
    assert sorted(found[each].linked for each in ("d/file", "d/other")) == [False, True]
    assert not found["link"].data


def test_failure_of_tar_is_told_after_what_there_is(tree: Path):
    handle, found = LocalTar(), []
    real = handle.tar_out

    def failing(*args: str, **options: object) -> None:
        real(*args, **options)
        raise RuntimeError("tar: ./x: Cannot open: Structure needs cleaning")

    handle.tar_out = failing
    with pytest.raises(Incomplete, match="needs cleaning"):
        found.extend(stream(handle, str(tree), excludes=(), limit_of=lambda _: 9, budget=Budget(until=float("inf"))))
    assert len(found) == 4


def test_folder_that_is_gone_is_told(tmp_path: Path):
    with pytest.raises(Incomplete, match="No such file"):
        everything(LocalTar(), tmp_path / "absent")


def test_disk_that_does_not_answer_is_no_incomplete_stream(tree: Path):
    class Dead(LocalTar):
        def tar_out(self, *args: object, **options: object) -> None:
            raise RuntimeError("tar: ./x: Input/output error")

    with pytest.raises(RuntimeError, match="Input/output error") as failure:
        everything(Dead(), tree)
    assert not isinstance(failure.value, Incomplete)


def test_finished_folders_are_left_out_as_a_whole():
    seen = ["a/1", "a/b/2", "c/d/3", "c/e/4", "c/5", "c/e/big"]
    assert excluding(seen, ["c/e/big"]) == ["./c/e/big", "./a", "./c/d", "./c/e/4", "./c/5"]


def test_what_is_left_out_fits_a_message_with_the_big_files_first():
    seen = [f"{number:05}" + "n" * 200 for number in range(20_000)]
    patterns = excluding([*seen, "big"], ["x/old", "big"])
    assert patterns[:2] == ["./x/old", "./big"]
    assert sum(map(len, patterns)) < EXCLUDE_BYTES
    with pytest.raises(Incomplete):
        excluding([], [each * 9 for each in seen])


def archive(*entries: tarfile.TarInfo) -> io.BytesIO:
    blocks = b"".join(each.tobuf(tarfile.GNU_FORMAT) + bytes(-(-min(each.size, 512) // 512) * 512) for each in entries)
    return io.BytesIO(blocks + bytes(10_240))


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        entry("x", tarfile.GNUTYPE_LONGNAME, 1 << 40),
        entry("x", tarfile.GNUTYPE_LONGLINK, HEADER_BYTES + 1),
        entry("x", tarfile.XHDTYPE, 512),
        entry("x", tarfile.GNUTYPE_SPARSE, 512),
        entry("x", b"Z"),
        entry("x", tarfile.REGTYPE, 1 << 62),
    ],
)
def test_archive_that_tar_does_not_write_is_refused(hostile: tarfile.TarInfo):
    with pytest.raises(tarfile.TarError):
        list(members(archive(entry("good"), hostile), lambda _: 9))


def test_names_lead_nowhere_and_are_not_kept_from_being_long():
    found = list(members(archive(entry("../../etc/passwd"), entry("n" * 60_000)), lambda _: 9))
    assert [len(each.path) for each in found] == [16, 60_000]


def test_archive_of_nothing_is_an_error_and_not_empty():
    with pytest.raises(tarfile.TarError):
        list(members(io.BytesIO(b""), lambda _: 9))


def test_closing_the_reader_ends_the_sender(tree: Path):
    sparse(tree / "big", 1 << 40)
    found = guest_stream.stream(LocalTar(), str(tree), excludes=(), limit_of=lambda _: 9, budget=Budget(until=float("inf")))
    assert next(found)
    found.close()
