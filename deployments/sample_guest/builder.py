"""Builds the sample guest's disk from fetched packages: the one place that knows the order of the steps.

The parts are in `packages.py`, `kernel.py`, `root.py` and `disk.py`; `__main__.py` is the command.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from deployments.sample_guest import disk
from deployments.sample_guest.kernel import initial_ramdisk, read_kernel
from deployments.sample_guest.packages import contents, default_folder, fetched, kernel_package, wanted_packages
from deployments.sample_guest.root import OWNERS, assemble, filled

_HERE = Path(__file__).parent


def build(destination: Path, *, packages: Path | None = None) -> Path:
    """Writes the raw disk at `destination`, whole or not at all, from the fetched packages; returns the path."""
    files = fetched(packages or default_folder())
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".sample-guest-") as scratch:
        finished = _build_in(Path(scratch), files)
        os.replace(finished, destination)
    return destination


def _build_in(scratch: Path, files: dict[str, Path]) -> Path:
    values = {"ROOT_UUID": disk.ROOT_UUID, "BOOT_UUID": disk.boot_uuid()}
    with contents(kernel_package(files)) as package:
        kernel = read_kernel(package)
    tree = scratch / "root"
    assemble(tree, wanted=wanted_packages(), packages=files, kernel=kernel, values=values)
    init = filled((_HERE / "init").read_text(), values).encode()
    ramdisk = initial_ramdisk(kernel, busybox=(tree / "usr/bin/busybox").read_bytes(), init=init)
    disk.make_boot_partition(scratch / "boot.fat", files=_boot_files(scratch, image=kernel.image, ramdisk=ramdisk))
    disk.make_root_partition(scratch / "root.ext4", tree=tree, owners=OWNERS)
    disk.assemble_disk(scratch / "disk.raw", boot=scratch / "boot.fat", root=scratch / "root.ext4")
    return scratch / "disk.raw"


def _boot_files(scratch: Path, *, image: bytes, ramdisk: bytes) -> list[Path]:
    folder = scratch / "boot"
    folder.mkdir()
    parts = {"syslinux.cfg": (_HERE / "syslinux.cfg").read_bytes(), "vmlinuz": image, "initrd": ramdisk}
    for name, body in parts.items():
        (folder / name).write_bytes(body)
    return [folder / name for name in parts]
