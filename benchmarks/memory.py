"""import.memory: the most memory an import takes, for 10 GB of data and, as its peer, for 1 GB. Bounded means equal.

Each import is a process of its own, this module run as a program; its children (the disk reader's) count as well.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.embedded_store import empty, fresh_bucket
from benchmarks.importing import import_disk
from benchmarks.imports import Bench
from benchmarks.results import Result, alternate
from benchmarks.sample_disk import make_large_disk
from tasks.engine.blobs.s3 import S3Address, open_bucket

GB = 1000**3
BUCKET = "memory"
SECRET = "BENCH_SECRET"


def memory(bench: Bench) -> Iterator[Result]:
    """Peak resident memory in MB."""
    large = make_large_disk(bench.scratch / "large.raw", data_bytes=10 * GB)
    small = make_large_disk(bench.scratch / "small.raw", data_bytes=GB)
    yield alternate("import.memory", ours=lambda: _peak(bench, large), peer=lambda: _peak(bench, small), unit="MB")
    large.unlink()
    small.unlink()


def _peak(bench: Bench, disk: Path) -> float:
    empty(fresh_bucket(bench.address, name=BUCKET))
    command = [sys.executable, "-m", "benchmarks.memory", str(disk), bench.address.endpoint, bench.address.access_key]
    environment = os.environ | {SECRET: bench.address.secret_key}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def _import_alone(disk: str, endpoint: str, access_key: str) -> None:
    """In the child: import, then print the peak in MB."""
    address = S3Address(endpoint, access_key, os.environ[SECRET])
    import_disk(Path(disk), open_bucket(address, BUCKET))
    print((_high_water() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024 / 1e6)


def _high_water() -> int:
    """This process's own peak in KiB; its ru_maxrss would begin with what its parent had when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])


if __name__ == "__main__":
    _import_alone(*sys.argv[1:])
