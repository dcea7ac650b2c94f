"""The sample guest's root file system as a folder: package files, BusyBox's commands, and the overlay beside this module.

Owners are not set here (the builder need not be root): `disk.py` writes them into the file system, from `OWNERS`.
"""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

from deployments.sample_guest.kernel import Kernel, module_files
from deployments.sample_guest.packages import Wanted, contents, control

OVERLAY = Path(__file__).with_name("overlay")
OWNERS = {"home/ims": 1000}
"""User and group of a path and all below it; everything else is root's."""

_MERGED = ("bin", "sbin", "lib", "lib64")
_FOLDERS = {
    "boot": 0o755,
    "dev": 0o755,
    "etc/ssh": 0o755,
    "home/ims": 0o700,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr/local/bin": 0o755,
    "usr/local/sbin": 0o755,
    "var/cache": 0o755,
    "var/lib/cloud/data": 0o755,
    "var/lib/dpkg/info": 0o755,
    "var/log": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
}
_LINKS = {
    "etc/mtab": "/proc/self/mounts",
    "etc/resolv.conf": "/run/resolv.conf",
    "usr/bin/sh": "busybox",
    "var/lock": "/run/lock",
    "var/run": "/run",
}
_FOREIGN_APPLETS = {"dpkg", "dpkg-deb", "rpm", "rpm2cpio", "linuxrc", "mke2fs", "mkdosfs"}
"""Names under which something would take BusyBox for the real thing, or that a guest has no use for."""


def assemble(root: Path, *, wanted: list[Wanted], packages: dict[str, Path], kernel: Kernel, values: dict[str, str]) -> None:
    """Fills an empty folder with the guest's files; `values` replace @NAME@ in the overlay's files."""
    _make_folders(root)
    for package in wanted:
        with contents(packages[package.name]) as files:
            _extract(files, package=package, root=root)
    for path, body in module_files(kernel.release, kernel.modules).items():
        _write(root / "usr" / path, body, mode=0o644)
    _link_applets(root)
    _copy_overlay(root, values=values)
    status = "\n".join(_status(control(file)) for _, file in sorted(packages.items()))
    _write(root / "var/lib/dpkg/status", status.encode(), mode=0o644)
    _write(root / "etc/machine-id", b"", mode=0o444)


def _make_folders(root: Path) -> None:
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for path, mode in _FOLDERS.items():
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path).chmod(mode)
    for path, target in _LINKS.items():
        (root / path).symlink_to(target)


def merged(path: str) -> str:
    """Where a package's path lies in a root whose /bin, /sbin and /lib are links into /usr."""
    return f"usr/{path}" if PurePosixPath(path).parts[0] in _MERGED else path


def _extract(files: tarfile.TarFile, *, package: Wanted, root: Path) -> None:
    for member in files.getmembers():
        path = member.name.removeprefix("./")
        if not package.keeps(path) or member.isdir():
            continue
        target = root / merged(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            target.symlink_to(member.linkname)
        elif (stream := files.extractfile(member)) is not None:
            _write(target, stream.read(), mode=member.mode & 0o777)


def _link_applets(root: Path) -> None:
    """Makes BusyBox's commands, except where a package brought the real one."""
    listed = subprocess.run(
        [root / "usr/bin/busybox", "--list-full"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    for path in listed.split():
        target = root / merged(path)
        if target.name not in _FOREIGN_APPLETS and not os.path.lexists(target):
            target.symlink_to("/usr/bin/busybox")


def _copy_overlay(root: Path, *, values: dict[str, str]) -> None:
    for source in sorted(OVERLAY.rglob("*")):
        if source.is_file():
            body = filled(source.read_text(), values)
            _write(root / source.relative_to(OVERLAY), body.encode(), mode=_overlay_mode(source, body))


def filled(text: str, values: dict[str, str]) -> str:
    """The text with each @NAME@ replaced; a name without a value is a mistake in the overlay."""
    return re.sub(r"@([A-Z_]+)@", lambda found: values[found[1]], text)


def _overlay_mode(source: Path, body: str) -> int:
    if source.name == "shadow":
        return 0o640
    return 0o755 if body.startswith("#!") else 0o644


def _status(paragraph: str) -> str:
    """A control paragraph as dpkg keeps it of an installed package."""
    return re.sub(r"^(Package: .*)$", r"\1\nStatus: install ok installed", paragraph, count=1, flags=re.M)


def _write(target: Path, body: bytes, *, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(body)
    target.chmod(mode)
