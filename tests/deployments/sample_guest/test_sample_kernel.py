"""The chosen modules, what modprobe reads of them, and the initial RAM disk."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deployments.sample_guest.kernel import Kernel, Module, initial_ramdisk, module_files, read_kernel
from deployments.sample_guest.packages import contents, fetched, kernel_package


@pytest.fixture(scope="module")
def kernel(packages: Path) -> Kernel:
    with contents(kernel_package(fetched(packages))) as package:
        return read_kernel(package)


def test_read_kernel_takes_what_modules_need(kernel: Kernel) -> None:
    assert {"virtio_ring", "jbd2", "libata", "cdrom", "failover"} <= kernel.modules.keys()
    assert len(kernel.modules) < 60


def test_early_modules_leave_the_network_to_the_root(kernel: Kernel) -> None:
    early = list(kernel.early())
    assert early.index("virtio") < early.index("virtio_blk")
    assert "virtio_net" not in early


def test_module_table_lists_the_deepest_need_last() -> None:
    modules = {
        "a": Module("kernel/a.ko", b"\0alias=fs-a\0", ("b",)),
        "b": Module("kernel/b.ko", b"", ("c",)),
        "c": Module("kernel/c.ko", b"", ()),
    }
    files = module_files("6.1", modules)
    assert files["lib/modules/6.1/modules.dep"].startswith(b"kernel/a.ko: kernel/b.ko kernel/c.ko\n")
    assert files["lib/modules/6.1/modules.alias"] == b"alias fs-a a\n"


def test_initial_ramdisk_unpacks_with_cpio(kernel: Kernel, busybox: Path, tmp_path: Path) -> None:
    archive = initial_ramdisk(kernel, busybox=busybox.read_bytes(), init=b"#!/bin/sh\n")
    subprocess.run([busybox, "cpio", "-id", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "init").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "lib" / "modules" / kernel.release / "modules.dep").is_file()
    assert (tmp_path / "bin/switch_root").readlink() == Path("busybox")
