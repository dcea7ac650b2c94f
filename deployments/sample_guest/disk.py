"""Puts a folder and boot files into a raw disk: MBR, a FAT partition with SYSLINUX, an ext4 root. No loop devices, no root.

Everything that could differ between two builds (identifiers, times, hash seeds, owners) is fixed, so that the same input
gives the same bytes. What the guest is made of is decided in `root.py` and `kernel.py`.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

from tasks.engine.errors import HostUnavailable
from tasks.engine.geometry import SECTOR_SIZE

MIB = 1 << 20
BOOT_START = 1 * MIB
BOOT_SIZE = 23 * MIB
ROOT_START = BOOT_START + BOOT_SIZE
ROOT_SIZE = 68 * MIB
DISK_SIZE = ROOT_START + ROOT_SIZE

ROOT_UUID = "1d5a7c3e-0b52-4b1f-9a53-6f1c5d2e8a40"
BOOT_SERIAL = 0x1D5A7C3E
DISK_SIGNATURE = 0x5A6D1E01
EPOCH = 1_700_000_000
"""The time of every file: a constant, because the content and not the day of the build is what a copy is compared by."""

_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "SOURCE_DATE_EPOCH": str(EPOCH),
    "E2FSPROGS_FAKE_TIME": str(EPOCH),
    "MTOOLS_SKIP_CHECK": "1",
}
_MBR_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
_ZEROS = bytes(MIB // 16)


def boot_uuid() -> str:
    """The boot partition's serial number in the form that fstab and blkid use."""
    return f"{BOOT_SERIAL >> 16:04X}-{BOOT_SERIAL & 0xFFFF:04X}"


def make_boot_partition(target: Path, *, files: list[Path]) -> None:
    """A FAT16 file system that SYSLINUX boots from, holding `files` in its root folder."""
    _truncate(target, BOOT_SIZE)
    geometry = ("-T", str(BOOT_SIZE // SECTOR_SIZE), "-h", "255", "-s", "63", "-H", str(BOOT_START // SECTOR_SIZE))
    _run("mformat", "-i", str(target), *geometry, "-N", f"{BOOT_SERIAL:08X}", "-v", "SAMPLEBOOT", "::")
    for file in files:
        os.utime(file, (EPOCH, EPOCH))
        _run("mcopy", "-m", "-i", str(target), str(file), f"::{file.name}")
    _run("syslinux", "--install", str(target))


def make_root_partition(target: Path, *, tree: Path, owners: dict[str, int]) -> None:
    """An ext4 file system with the folder's files; `owners` maps paths to the user and group of all below them."""
    _truncate(target, ROOT_SIZE)
    paths = _settle_times(tree)
    # Growing to 1000 times the size must stay possible, and the tables of the new part are not worth zeroing.
    options = f"hash_seed={ROOT_UUID},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    _run(
        *("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "1", "-J", "size=4", "-N", "4096"),
        *("-U", ROOT_UUID, "-L", "sample-root", "-E", options, "-d", str(tree), str(target)),
    )
    _fix_inodes(target, paths=paths, owners=owners)


def assemble_disk(target: Path, *, boot: Path, root: Path) -> None:
    """Joins the partitions behind a master boot record; runs of zeros stay holes."""
    with target.open("wb") as disk:
        disk.write(master_boot_record(_MBR_CODE.read_bytes()))
        _copy_sparse(boot, disk.fileno(), at=BOOT_START)
        _copy_sparse(root, disk.fileno(), at=ROOT_START)
        disk.truncate(DISK_SIZE)
    target.chmod(0o644)


def master_boot_record(code: bytes) -> bytes:
    """Boot code, disk signature, an active FAT partition and a Linux partition."""
    entries = _entry(0x0E, BOOT_START, BOOT_SIZE, active=True) + _entry(0x83, ROOT_START, ROOT_SIZE, active=False)
    head = code[:440].ljust(440, b"\0") + struct.pack("<IH", DISK_SIGNATURE, 0)
    return head + entries.ljust(64, b"\0") + b"\x55\xaa"


def _entry(kind: int, start: int, size: int, *, active: bool) -> bytes:
    # fe ff ff is the cylinder address that says "see the sector number".
    far = b"\xfe\xff\xff"
    flags = struct.pack("B", 0x80 if active else 0)
    return flags + far + struct.pack("B", kind) + far + struct.pack("<II", start // SECTOR_SIZE, size // SECTOR_SIZE)


def _settle_times(tree: Path) -> list[str]:
    """Gives every file the fixed time; returns the paths relative to the tree."""
    paths = [str(path.relative_to(tree)) for path in sorted(tree.rglob("*"))]
    for path in paths:
        os.utime(tree / path, (EPOCH, EPOCH), follow_symlinks=False)
    return paths


def _fix_inodes(target: Path, *, paths: list[str], owners: dict[str, int]) -> None:
    """Owners and change times come from the builder's files; this makes them the guest's."""
    script = []
    for path in (*paths, "", "lost+found"):
        owner = next((who for top, who in owners.items() if path == top or path.startswith(f"{top}/")), 0)
        fields: dict[str, int | str] = {"uid": owner, "gid": owner, "generation": 0}
        fields |= dict.fromkeys(("atime", "ctime", "mtime", "crtime"), f"@{EPOCH}")
        fields |= {f"{time}_extra": 0 for time in ("atime", "ctime", "mtime", "crtime")}
        script += [f'set_inode_field "/{path}" {name} {value}' for name, value in fields.items()]
    _run("debugfs", "-w", "-f", "-", str(target), stdin="\n".join(script) + "\n")


def _copy_sparse(source: Path, disk: int, *, at: int) -> None:
    with source.open("rb") as stream:
        while block := stream.read(len(_ZEROS)):
            if block != _ZEROS[: len(block)]:
                os.pwrite(disk, block, at)
            at += len(block)


def _truncate(target: Path, size: int) -> None:
    with target.open("wb") as stream:
        stream.truncate(size)


def _run(*command: str, stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, env=_ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise HostUnavailable("sample_guest", f"{command[0]} failed: {reason}", remedy="Run `make setup` and repeat.")
