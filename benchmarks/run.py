"""Run the benchmarks, all or those named: `python -m benchmarks.run [NAME ...]`; then results.json and the table in README.md.

A benchmark is a function that takes a `Bench` and yields `Result`s; new modules join by a line in BENCHMARKS.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks import capture, catalog_lists, imports, launch, loading, memory, shares
from benchmarks.deployment import end_on_sigterm
from benchmarks.embedded_store import embedded_store
from benchmarks.imports import Bench
from benchmarks.results import Result, merge

BENCHMARKS: dict[str, Callable[[Bench], Iterator[Result]]] = {
    "import.first": imports.first,
    "import.first.no_store": imports.no_store,
    "import.first.limit": shares.limit,
    "import.sibling": imports.sibling,
    "import.sparse": imports.sparse,
    "import.memory": memory.memory,
    "launch": launch.launch,
    "capture": capture.capture,
    "catalog": catalog_lists.catalog,
    "load.imports": loading.imports,
    "load.launches": loading.launches,
}

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def main(names: list[str]) -> None:
    """Run them one after the other; each is kept as soon as it is measured."""
    with tempfile.TemporaryDirectory(prefix="ims-bench-") as folder, embedded_store(Path(folder) / "store") as address:
        bench = Bench(Path(folder), address)
        for name in names or BENCHMARKS:
            for result in BENCHMARKS[name](bench):
                print(_line(result.as_row().values()), flush=True)
                write_table(merge([result]))


def write_table(rows: list[dict[str, object]]) -> None:
    """Replace the table in README.md."""
    head = ["| name | ours | peer | ratio | unit | runs |", "|---|---:|---:|---:|---|---:|"]
    table = "\n".join([BEGIN, *head, *(_line(row.values()) for row in rows), END])
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text(before + table + rest.partition(END)[2])


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    end_on_sigterm()
    main(sys.argv[1:])
