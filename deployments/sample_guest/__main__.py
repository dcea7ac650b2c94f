"""`python -m deployments.sample_guest OUTPUT`: builds the sample guest's disk; with --fetch, gets its packages first."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deployments.sample_guest.builder import build
from deployments.sample_guest.packages import default_folder, fetch
from tasks.engine.errors import ImsError, Unavailable


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (2 refused, 3 unavailable)."""
    parser = argparse.ArgumentParser(prog="python -m deployments.sample_guest", description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", help="the raw disk to write; without it nothing is built")
    parser.add_argument("--packages", type=Path, default=None, help="folder of the packages (default: IMS_HOME/packages)")
    parser.add_argument("--fetch", action="store_true", help="fetch what is missing with apt-get download")
    options = parser.parse_args(arguments)
    if options.output is None and not options.fetch:
        parser.error("say where to write the disk, or --fetch")
    try:
        return _run(options.output, packages=options.packages or default_folder(), fetch_first=options.fetch)
    except ImsError as error:
        print(error, file=sys.stderr)
        return 3 if isinstance(error, Unavailable) else 2


def _run(output: Path | None, *, packages: Path, fetch_first: bool) -> int:
    if fetch_first:
        print(f"{len(fetch(packages))} packages in {packages}")
    if output is not None:
        disk = build(output, packages=packages).stat()
        print(f"{output}: {disk.st_size / 1e6:.1f} MB, {disk.st_blocks * 512 / 1e6:.1f} MB stored")
    return 0


if __name__ == "__main__":
    sys.exit(main())
