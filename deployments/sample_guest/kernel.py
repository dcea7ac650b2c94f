"""The sample guest's kernel: the few modules it needs, and the initial RAM disk that finds and mounts the root.

The kernel package is only read from; the root file system that the modules land in is `root.py`'s.
"""

from __future__ import annotations

import re
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import PurePosixPath

EARLY_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "ahci",
    "ata_piix",
    "nvme",
    "sd_mod",
    "sr_mod",
    "crc32c_generic",
    "crc32c_intel",
    "ext4",
)
LATE_MODULES = (
    "virtio_console",
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
    "evdev",
    "button",
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
)
_INIT_APPLETS = (
    "basename",
    "blockdev",
    "cat",
    "dd",
    "findfs",
    "modprobe",
    "mount",
    "printf",
    "readlink",
    "sh",
    "sleep",
    "switch_root",
)


@dataclass
class Kernel:
    """One kernel: its release name, its compressed image and its modules in the order that satisfies them."""

    release: str
    image: bytes
    modules: dict[str, Module] = field(default_factory=dict)

    def early(self) -> dict[str, Module]:
        """The modules without which the root cannot be found, with what those need."""
        names = _closure(EARLY_MODULES, {name: module.needs for name, module in self.modules.items()})
        return {name: self.modules[name] for name in names}


@dataclass(frozen=True)
class Module:
    """One module: its place below lib/modules/<release>, its bytes and the modules it needs directly."""

    path: str
    body: bytes
    needs: tuple[str, ...]

    def aliases(self) -> list[str]:
        """The other names under which the kernel may ask for the module, e.g. fs-ext4."""
        return [alias.decode() for alias in re.findall(rb"\0alias=([^\0]+)", self.body)]


def read_kernel(package: tarfile.TarFile) -> Kernel:
    """Takes the image and the needed modules out of an open linux-image package."""
    members = {member.name.removeprefix("./"): member for member in package.getmembers() if member.isfile()}
    image = next(path for path in members if path.startswith("boot/vmlinuz-"))
    kernel = Kernel(release=image.removeprefix("boot/vmlinuz-"), image=_body(package, members[image]))
    paths = {_module_name(path): path for path in members if path.endswith(".ko")}
    queue = [*EARLY_MODULES, *LATE_MODULES]
    while queue:
        name = queue.pop()
        if name not in kernel.modules:
            body = _body(package, members[paths[name]])
            kernel.modules[name] = Module(paths[name].split(f"{kernel.release}/", 1)[1], body, _needs(body))
            queue.extend(kernel.modules[name].needs)
    return kernel


def module_files(release: str, modules: dict[str, Module]) -> dict[str, bytes]:
    """The content of a /lib/modules for modprobe: paths from the root to bytes."""
    folder = f"lib/modules/{release}"
    table = {name: module.needs for name, module in modules.items()}
    lines = []
    for name, module in sorted(modules.items()):
        # modprobe loads the list from its end, so what is needed deepest stands last.
        needed = [modules[other].path for other in reversed(_closure((name,), table)) if other != name]
        lines.append(f"{module.path}: {' '.join(needed)}".rstrip() + "\n")
    aliases = (f"alias {alias} {name}\n" for name, module in sorted(modules.items()) for alias in module.aliases())
    files = {f"{folder}/{module.path}": module.body for module in modules.values()}
    files[f"{folder}/modules.dep"] = "".join(lines).encode()
    files[f"{folder}/modules.alias"] = "".join(aliases).encode()
    return files


def initial_ramdisk(kernel: Kernel, *, busybox: bytes, init: bytes) -> bytes:
    """An uncompressed cpio archive; unpacking a compressed one costs an emulated processor more than reading it."""
    files = {f"usr/{path}": body for path, body in module_files(kernel.release, kernel.early()).items()}
    archive = _Archive()
    archive.add_folders(("dev", "proc", "sys", "run", "root", "bin"))
    archive.add("init", stat.S_IFREG | 0o755, init)
    archive.add("lib", stat.S_IFLNK | 0o777, b"usr/lib")
    archive.add("bin/busybox", stat.S_IFREG | 0o755, busybox)
    for applet in _INIT_APPLETS:
        archive.add(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    for path, body in sorted(files.items()):
        archive.add_folders(tuple(str(parent) for parent in reversed(PurePosixPath(path).parents))[1:])
        archive.add(path, stat.S_IFREG | 0o644, body)
    return archive.close()


class _Archive:
    """A cpio archive of the kind the kernel unpacks ("newc"), with fixed owners and times."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._seen: set[str] = set()

    def add_folders(self, paths: tuple[str, ...]) -> None:
        for path in paths:
            if path not in self._seen:
                self.add(path, stat.S_IFDIR | 0o755, b"")

    def add(self, path: str, mode: int, body: bytes) -> None:
        self._seen.add(path)
        name = path.encode() + b"\0"
        fields = (len(self._seen), mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % value for value in fields)
        self._parts += [_padded(header + name), _padded(body)]

    def close(self) -> bytes:
        self.add("TRAILER!!!", 0, b"")
        return b"".join(self._parts)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _body(package: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = package.extractfile(member)
    assert stream is not None, member.name  # noqa: S101  # only regular files are asked for
    return stream.read()


def _module_name(path: str) -> str:
    return PurePosixPath(path).stem.replace("-", "_")


def _needs(body: bytes) -> tuple[str, ...]:
    """The modules named by the `depends` entry of a module's own description."""
    found = re.search(rb"\0depends=([A-Za-z0-9_,-]*)\0", body)
    names = found[1].decode().split(",") if found else []
    return tuple(name.replace("-", "_") for name in names if name)


def _closure(names: tuple[str, ...], table: dict[str, tuple[str, ...]]) -> list[str]:
    """The names and all they need, each after what it needs."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        for other in table[name]:
            visit(other)
        done.setdefault(name)

    for name in names:
        visit(name)
    return list(done)
