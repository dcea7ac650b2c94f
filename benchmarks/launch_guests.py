"""One guest launched and timed: ours over the chunk server, the peer from an image that is downloaded and converted first.

The steps are those of `tasks.guests.build_guest`, without its catalog and its flow, which both rivals would need.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from minio import Minio

from benchmarks.launch_host import Host, wait_until
from benchmarks.launch_images import Image
from tasks.engine.guests import domain
from tasks.engine.guests.backing import AnyBacking, Backing, FileBacking
from tasks.engine.guests.domain_xml import DiskSpec, DomainSpec
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.overlay import EcsFiles, create_overlay, ecs_files, make_folder, remove_folder
from tasks.engine.guests.ready import wait_ready
from tasks.engine.guests.seed import Seed, write_seed

READY_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Launch:
    """Seconds from the launch's begin, and the bytes the guest's disk was asked for by then. `ready` is 0 where not awaited.

    `started`: libvirt has let the guest's processors run. `booted`: the guest has read the first sector of its disk, so that
    the first instruction of the image can run.
    """

    started: float
    booted: float
    ready: float
    read_bytes: int


@dataclass(frozen=True, slots=True)
class Launcher:
    """Launches guests on one host."""

    host: Host
    hypervisor: Hypervisor
    kvm: bool

    def ours(self, image: Image) -> Launch:
        """From the chunk server, which has nothing cached, until the guest is ready."""
        self.host.restart_agent()
        socket = self.host.settings.exports_socket
        backing = Backing(socket=socket, export=image.digest, virtual_size=image.virtual_size)
        return self._launch(lambda _: backing, until_ready=True)

    def peer(self, image: Image, *, client: Minio, bucket: str, until_ready: bool) -> Launch:
        """From a raw file, made of the downloaded image."""

        def fetch(files: EcsFiles) -> AnyBacking:
            return download(image, files.folder, client=client, bucket=bucket)

        return self._launch(fetch, until_ready=until_ready)

    def spec(self, ecs_id: UUID, files: EcsFiles, backing: AnyBacking) -> DomainSpec:
        """The guest over a new overlay, with a new seed."""
        create_overlay(files.overlay(0), backing=backing, virtual_size=backing.virtual_size)
        write_seed(files.seed, Seed(instance_id=ecs_id, hostname="bench"))
        return DomainSpec(
            ecs_id=ecs_id,
            disks=[DiskSpec(overlay=files.overlay(0), backing=backing)],
            console=files.console,
            kvm=self.kvm,
            seed=files.seed,
        )

    def _launch(self, prepare: Callable[[EcsFiles], AnyBacking], *, until_ready: bool) -> Launch:
        ecs_id = uuid4()
        files = ecs_files(self.host.settings.ecs_folder, ecs_id)
        try:
            began = time.monotonic()
            make_folder(files)
            spec = self.spec(ecs_id, files, prepare(files))
            domain.start(self.hypervisor, spec)
            started = time.monotonic() - began
            guest = self.hypervisor.domain(ecs_id)
            wait_until(lambda: guest.blockStats("vda")[0] > 0, seconds=READY_SECONDS)
            booted = time.monotonic() - began
            if until_ready:
                wait_ready(self.hypervisor, ecs_id, console=files.console, timeout_seconds=READY_SECONDS)
            ready = time.monotonic() - began if until_ready else 0.0
            guest.suspend()
            return Launch(started, booted, ready, guest.blockStats("vda")[1])
        finally:
            domain.delete(self.hypervisor, ecs_id)
            remove_folder(files)


def download(image: Image, folder: Path, *, client: Minio, bucket: str) -> FileBacking:
    """The peer's preparation: the whole image fetched with the same SDK and converted to a raw file."""
    compressed, raw = folder / "image.qcow2", folder / "image.raw"
    client.fget_object(bucket, image.name, str(compressed))
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(compressed), str(raw)], check=True)
    compressed.unlink()
    return FileBacking(path=raw, virtual_size=image.virtual_size)
