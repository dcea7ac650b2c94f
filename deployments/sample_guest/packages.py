"""The Debian packages that the sample guest is made of: fetched once with apt, read from a folder ever after.

Nothing is installed on this host and nothing here knows what a disk is; `root.py` and `kernel.py` pick from the packages.
"""

from __future__ import annotations

import fcntl
import fnmatch
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.errors import HostUnavailable
from tasks.engine.settings import load_settings

KERNEL = "linux-image-amd64"
INDEX = "sample-guest.json"
_LIST = Path(__file__).with_name("packages.txt")
_ALWAYS = "usr/share/doc/*/copyright"


@dataclass(frozen=True)
class Wanted:
    """One line of packages.txt: a package and the paths kept of it, as shell patterns."""

    name: str
    patterns: tuple[str, ...]

    def keeps(self, path: str) -> bool:
        """Whether a path of the package, without a leading slash, belongs into the guest."""
        return any(fnmatch.fnmatch(path, pattern) for pattern in (_ALWAYS, *self.patterns))


def wanted_packages() -> list[Wanted]:
    """What packages.txt asks for, in its order; the kernel is there by the name of its metapackage."""
    lines = (line.split("#")[0].split() for line in _LIST.read_text().splitlines())
    return [Wanted(words[0], tuple(words[1:])) for words in lines if words]


def default_folder() -> Path:
    """Where setup puts the packages unless it is told otherwise."""
    return load_settings().home / "packages"


def fetch(folder: Path) -> list[Path]:
    """Makes sure that every package is in the folder and returns the files; instant when they already are."""
    if (present := _indexed(folder)) is not None:
        return present
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=folder) as scratch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _indexed(folder) or _publish(_download(Path(scratch)), folder=folder)


def fetched(folder: Path) -> dict[str, Path]:
    """The fetched files by package name; refuses to guess when setup has not run."""
    files = _indexed(folder)
    if files is None:
        raise HostUnavailable(
            "packages",
            f"{folder} does not hold the sample guest's packages",
            remedy="Run `make setup`, which fetches them.",
        )
    return {file.name.split("_")[0]: file for file in files}


def kernel_package(packages: dict[str, Path]) -> Path:
    """The package with the kernel itself; its name has the release in it, the metapackage's has not."""
    return next(file for name, file in packages.items() if re.match(r"linux-image-\d", name))


def control(package: Path) -> str:
    """The package's control paragraph, as dpkg's status file has it."""
    return _run("dpkg-deb", "--field", str(package))


@contextmanager
def contents(package: Path) -> Iterator[tarfile.TarFile]:
    """The package's files, open for reading in any order."""
    with tempfile.TemporaryFile() as plain:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=plain, check=True, timeout=300)
        plain.seek(0)
        with tarfile.open(fileobj=plain) as tar:
            yield tar


def _download(folder: Path) -> list[Path]:
    kernel = _kernel_package()
    names = [package.name for package in wanted_packages()]
    _run("apt-get", "--quiet", "download", *names, kernel, cwd=folder)
    return sorted(folder.glob("*.deb"))


def _kernel_package() -> str:
    """The package behind the metapackage: its name changes with each kernel release."""
    found = re.search(r"Depends: (linux-image-\S+)", _run("apt-cache", "depends", KERNEL))
    if not found:
        raise HostUnavailable("packages", f"apt knows no package behind {KERNEL}", remedy="Run `apt-get update`.")
    return found[1]


def _publish(files: list[Path], *, folder: Path) -> list[Path]:
    """Moves the new files in and the index last, so that a killed fetch leaves the old set valid or none."""
    (folder / INDEX).unlink(missing_ok=True)
    for old in folder.glob("*.deb"):
        old.unlink()
    for file in files:
        shutil.move(file, folder / file.name)
    index = {
        "wanted": [package.name for package in wanted_packages()],
        "files": {file.name: (folder / file.name).stat().st_size for file in files},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return [folder / file.name for file in files]


def _indexed(folder: Path) -> list[Path] | None:
    """The files that the folder's index names, unless one is missing or packages.txt has changed since."""
    try:
        index = json.loads((folder / INDEX).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    sizes = {folder / name: size for name, size in index["files"].items()}
    same = index["wanted"] == [package.name for package in wanted_packages()]
    whole = all(file.is_file() and file.stat().st_size == size for file, size in sizes.items())
    return list(sizes) if same and whole else None


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise HostUnavailable("packages", f"{command[0]} failed: {reason}", remedy="Run `apt-get update` and repeat.")
    return done.stdout
