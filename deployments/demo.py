"""The main job, shown: the sample guest is imported as VMDK and as ZVHD, and an ECS boots from it. `make demo` runs this.

It only calls the `ims` command, as a person would; the services must be up.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from deployments.sample_guest import build
from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.formats import DiskFormat, Window
from tasks.engine.disks.gate import examine
from tasks.engine.disks.raw_reader import RawReader
from tasks.engine.disks.zvhd_writer import blocks_of, write_zvhd
from tasks.engine.settings import load_settings

ECS_NAME = "demo"


def main() -> int:
    """Run the demo; returns the exit code of the step that failed, or 0."""
    folder = load_settings().home / "sample"
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    raw = _step("Building the sample guest", lambda: _sample(folder))
    vmdk = _step("Writing it as VMDK", lambda: _vmdk(raw))
    zvhd = _step("Writing it as ZVHD", lambda: write_as_zvhd(raw))
    image = _step("Importing the VMDK, with inspection and boot check", lambda: _import(vmdk, "demo-vmdk"))
    again = _step("Importing the ZVHD, the same disk in another format", lambda: _import(zvhd, "demo-zvhd"))
    _say(f"  stored for the first: {image['bytes_new']:,} bytes; for the second: {again['bytes_new']:,} bytes")
    _remove_old()
    ecs = _step("Launching an ECS from it", lambda: _ims("ecs", "launch", again["id"], "--name", ECS_NAME, "--flavor", "tiny"))
    _show(ecs)
    return 0


def _show(ecs: dict[str, Any]) -> None:
    console = _ims("ecs", "console", ecs["id"], "--lines", "200")["console"]
    prompts = [line for line in console.splitlines() if "login:" in line]
    picture = _ims("ecs", "screenshot", ecs["id"])["path"]
    status = _ims("status")
    _say(f"\nThe ECS is {ecs['state']}, ready after {ecs['seconds_to_ready']} s under {ecs['accelerator']}.")
    _say(f"Its console says:   {prompts[-1] if prompts else '(no login yet)'}")
    _say(f"Its screen:         {picture}")
    _say(f"The Prefect UI:     {status['prefect_ui']}")
    if login := status.get("prefect_login"):
        _say(f"  its login is in   {login}")
    _say(f"Stop the ECS with   ims ecs delete {ECS_NAME}")
    _say("Stop everything with make down")


def _sample(folder: Path) -> Path:
    path = folder / "sample.raw"
    if not path.exists():
        build(path)
    return path


def _vmdk(raw: Path) -> Path:
    target = raw.with_suffix(".vmdk")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", str(raw), str(target)], check=True)
    return target


def write_as_zvhd(raw: Path) -> Path:
    target, window = raw.with_suffix(".zvhd"), Window(raw)
    with FileBytes(window) as file:
        found = examine(file, declared=DiskFormat.RAW, max_virtual_size=1 << 40, depth="full")
    with RawReader(window, found) as reader, target.open("wb") as out:
        blocks = blocks_of(reader)
        write_zvhd(out, virtual_size=found.virtual_size, blocks=blocks, uuid=uuid.uuid4(), timestamp=int(time.time()))
    return target


def _import(path: Path, name: str) -> dict[str, Any]:
    return _ims("image", "import", str(path), "--name", name)


def _remove_old() -> None:
    for ecs in _ims("ecs", "list")["ecs"]:
        if ecs["name"] == ECS_NAME:
            _ims("ecs", "delete", ecs["id"])


def _ims(*arguments: str) -> dict[str, Any]:
    """One command; its progress goes to the terminal, its failure ends the demo with its exit code."""
    done = subprocess.run([sys.executable, "-m", "flows.cli", *arguments, "--json"], stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if error := answer.get("error"):
        _say(f"ims {' '.join(arguments)}: {error['code']}: {error['message']}")
        raise SystemExit(done.returncode)
    return answer


def _step(title: str, action: Any) -> Any:
    _say(f"{title} ...")
    begun = time.monotonic()
    result = action()
    _say(f"  {time.monotonic() - begun:.1f} s")
    return result


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
