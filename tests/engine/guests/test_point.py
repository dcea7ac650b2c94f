"""The moment of a capture on a real guest: frozen for an instant, read by its changes, and let go whatever fails.

One guest serves all of these tests, from its launch to its crash; what a test leaves is cleared away before the next.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import libvirt
import libvirt_qemu
import pytest

from deployments.sample_guest.disk import ROOT_START
from tasks.engine.blobs.chunks import ChunkStore
from tasks.engine.blobs.keeping import Uncollected
from tasks.engine.blobs.manifest import Manifest
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.pipeline import ingest
from tasks.engine.disks.changed_reader import ChangedReader
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.nbd_reader import NbdReader
from tasks.engine.disks.raw_reader import RawReader
from tasks.engine.errors import CaptureRefused, HostUnavailable
from tasks.engine.geometry import CHUNK_SIZE, DiskReader
from tasks.engine.guests import backup, checkpoints, domain, freezing, point, watch
from tasks.engine.guests.agent import ping
from tasks.engine.guests.backing import FileBacking
from tasks.engine.guests.backup import BackupPlan
from tasks.engine.guests.checkpoints import LAUNCH
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.domain_xml import DiskSpec, DomainSpec
from tasks.engine.guests.freezing import Freeze
from tasks.engine.guests.hypervisor import Hypervisor, domain_name
from tasks.engine.guests.overlay import EcsFiles, create_overlay, ecs_files, make_folder
from tasks.engine.guests.point import Point, PointRequest, Wish
from tasks.engine.guests.ready import wait_ready
from tasks.engine.guests.watch import Debt
from tasks.engine.owner import this_process

pytestmark = pytest.mark.guest

DISK = "vda"
GROWTH = (5 << 20) + 512
"""By which the guest's disk is larger than its base; it ends within a chunk."""
NEEDS_RECOVERY = 4
"""ext4's mark of a file system that was not let go cleanly: https://docs.kernel.org/filesystems/ext4/globals.html."""
WRITER = """echo $$ >/run/writer; while :; do head -c 32768 /dev/urandom >>/root/log; sync
[ $(stat -c %s /root/log) -lt 8000000 ] || : >/root/log; done"""
HOOK = "/etc/qemu/fsfreeze-hook"
HOOK_SECONDS = 23


@dataclass
class Guest:
    """The running guest, and commands in it through its agent."""

    hypervisor: Hypervisor
    spec: DomainSpec
    files: EcsFiles
    base: FileBacking

    @property
    def id(self) -> UUID:
        return self.spec.ecs_id

    @property
    def domain(self) -> Any:
        return self.hypervisor.domain(self.id)

    def start(self) -> None:
        domain.start(self.hypervisor, self.spec)
        self.await_agent()

    def await_agent(self) -> None:
        assert wait_ready(self.hypervisor, self.id, console=self.spec.console, timeout_seconds=240).by == "agent"

    def agent(self, command: str, **arguments: object) -> Any:
        question = json.dumps({"execute": command, "arguments": arguments})
        return json.loads(libvirt_qemu.qemuAgentCommand(self.domain, question, 30, 0))["return"]

    def spawn(self, command: str) -> int:
        """Start a shell command that goes on by itself."""
        pid: int = self.agent("guest-exec", path="/bin/sh", arg=["-c", command], **{"capture-output": True})["pid"]
        return pid

    def run(self, command: str) -> str:
        """Standard output of a shell command, which must succeed."""
        pid = self.spawn(command)
        while not (status := self.agent("guest-exec-status", pid=pid))["exited"]:
            time.sleep(0.05)
        assert status["exitcode"] == 0, command
        return base64.b64decode(status.get("out-data", "")).decode()

    def frozen(self) -> bool:
        return bool(self.agent("guest-fsfreeze-status") == "frozen")

    def writes(self) -> bool:
        return not self.frozen() and self.run("date >/root/alive && sync && echo yes") == "yes\n"

    def at_rest(self) -> bool:
        """Whether nothing of a capture is left, not even a file."""
        left = {path.name for path in self.files.folder.iterdir()} - {"disk-0.qcow2", "console.log"}
        return not backup.runs(self.domain) and not left and self.writes()


@pytest.fixture(scope="module")
def launched(uri: str, open_folder: Path, sample: FileBacking) -> Iterator[Guest]:
    """The guest after its first start."""
    (open_folder / "point").mkdir(mode=0o711)
    files = ecs_files(open_folder / "point", uuid4())
    make_folder(files)
    create_overlay(files.overlay(0), backing=sample, virtual_size=sample.virtual_size + GROWTH)
    disks = [DiskSpec(overlay=files.overlay(0), backing=sample)]
    spec = DomainSpec(ecs_id=UUID(files.folder.name), disks=disks, console=files.console, kvm=False, memory_mib=256)
    with Hypervisor(uri) as hypervisor:
        try:
            domain.launch(hypervisor, spec)
            guest = Guest(hypervisor, spec, files, sample)
            guest.await_agent()
            yield guest
        finally:
            domain.delete(hypervisor, spec.ecs_id)


@pytest.fixture
def guest(launched: Guest) -> Iterator[Guest]:
    """The guest, running and at rest."""
    if domain.state(launched.hypervisor, launched.id) is not DomainState.RUNNING:
        launched.start()
    yield launched
    if domain.state(launched.hypervisor, launched.id) is DomainState.RUNNING:
        freezing.thaw(launched.domain)
        backup.end(launched.domain, launched.files)
    watch.settle(launched.files)


def take(guest: Guest, name: str, *since: str, consistency: Wish = "best") -> Point:
    request = PointRequest(name=name, since={DISK: since}, consistency=consistency)
    return point.take(guest.domain, guest.files, request)


@contextmanager
def taken(guest: Guest, name: str, *since: str, consistency: Wish = "best") -> Iterator[Point]:
    made = take(guest, name, *since, consistency=consistency)
    try:
        yield made
    finally:
        point.release(guest.domain, guest.files)


def stored(reader: DiskReader, parent: Manifest | None = None) -> Manifest:
    store = ChunkStore(MemoryObjects())
    with reader:
        return get_manifest(store.objects, ingest(reader, store, Uncollected(), threads=2, parent=parent).manifest_digest)


def whole(made: Point) -> Manifest:
    return stored(NbdReader(made.socket, export=DISK))


def changed(made: Point, parent: Manifest) -> ChangedReader:
    context = backup.bitmap_context(DISK)
    return ChangedReader(made.socket, export=DISK, context=context, base_size=parent.virtual_size)


def base_of(guest: Guest) -> Manifest:
    return stored(RawReader(Window(guest.base.path), Finding(DiskFormat.RAW, guest.base.virtual_size)))


def wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_point_is_taken_in_an_instant_and_leaves_a_checkpoint(guest: Guest) -> None:
    with taken(guest, "ims-first", LAUNCH, consistency="filesystem") as made:
        print(f"frozen for {made.frozen_seconds} s")
        assert (made.consistency, made.thawed, made.note, made.since) == ("filesystem", True, "", {DISK: LAUNCH})
        assert 0 < made.frozen_seconds < 3
        assert watch.owed(guest.files) == Debt.begin()
        assert backup.runs(guest.domain)
        assert guest.writes()
    assert guest.at_rest()
    assert {LAUNCH, "ims-first"} <= checkpoints.names(guest.domain)


@pytest.mark.parametrize(("consistency", "flag"), [("filesystem", 0), ("crash", NEEDS_RECOVERY)])
def test_file_system_is_clean_at_a_frozen_point_alone(guest: Guest, consistency: Wish, flag: int) -> None:
    with taken(guest, f"ims-{consistency}", consistency=consistency) as made, NbdReader(made.socket, export=DISK) as reader:
        super_block = reader.read_chunk(ROOT_START // CHUNK_SIZE)[1024:2048]
    assert made.consistency == consistency
    assert super_block[0x60] & NEEDS_RECOVERY == flag


def test_changes_are_few_and_hold_what_was_written(guest: Guest) -> None:
    with taken(guest, "ims-before") as made:
        before = whole(made)
    marker = uuid4().hex
    guest.run(f"for n in $(seq 3000); do echo {marker}; done >/root/file; sync")
    with taken(guest, "ims-after", "ims-before") as made, changed(made, before) as reader:
        chunks = [chunk.read() for chunk in reader.pending_chunks()]
        assert stored(reader, before) == whole(made) != before
    assert 0 < len(chunks) < 20
    assert any(f"{marker}\n{marker}\n".encode() in chunk for chunk in chunks)


def test_changes_equal_a_whole_read_while_the_guest_writes(guest: Guest) -> None:
    points = {LAUNCH: base_of(guest)}
    guest.spawn(WRITER)
    for number in range(5):
        since = LAUNCH if number % 2 == 0 else f"ims-round-{number - 1}"
        with taken(guest, f"ims-round-{number}", since) as made:
            assert (made.since, made.consistency) == ({DISK: since}, "filesystem")
            points[f"ims-round-{number}"] = whole(made)
            assert stored(changed(made, points[since]), points[since]).digest == points[f"ims-round-{number}"].digest
    guest.run("kill $(cat /run/writer)")
    assert len({manifest.digest for manifest in points.values()}) == 6


def test_point_that_nobody_read_leaves_all_changes_to_the_older_one(guest: Guest) -> None:
    with taken(guest, "ims-older") as made:
        older = whole(made)
    guest.run("echo one >/root/one; sync")
    take(guest, "ims-unread", "ims-older")
    guest.run("echo two >/root/two; sync")
    point.release(guest.domain, guest.files, checkpoint="ims-unread")
    assert guest.at_rest()
    assert "ims-unread" not in checkpoints.names(guest.domain)
    guest.run("echo three >/root/three; sync")
    with taken(guest, "ims-newer", "ims-unread", "ims-older") as made:
        assert made.since == {DISK: "ims-older"}
        assert stored(changed(made, older), older) == whole(made)


def test_point_without_an_agent_is_refused_or_of_crash_consistency(guest: Guest) -> None:
    guest.spawn("sleep 1; kill -STOP $(pidof qemu-ga); sleep 13; kill -CONT $(pidof qemu-ga)")
    time.sleep(2)
    with pytest.raises(CaptureRefused) as failure:
        take(guest, "ims-refused", consistency="filesystem")
    assert failure.value.code == "capture.consistency"
    assert watch.owed(guest.files) is None
    assert not backup.runs(guest.domain)
    assert "ims-refused" not in checkpoints.names(guest.domain)
    with taken(guest, "ims-silent") as made:
        assert (made.consistency, made.frozen_seconds, made.thawed) == ("crash", 0.0, True)
        assert "no guest agent" in made.note
    wait_until(lambda: ping(guest.domain))
    assert guest.at_rest()


def left_behind(guest: Guest, debt: Debt) -> None:
    """A capture's doing up to just before its thaw."""
    watch.note(guest.files, debt)
    assert freezing.freeze(guest.domain) is Freeze.FROZEN
    checkpoints.drop(guest.domain, {"ims-left"} & checkpoints.names(guest.domain))
    backup.begin(guest.domain, guest.files, BackupPlan(since={DISK: None}, checkpoint="ims-left"))


def ended_process() -> int:
    with subprocess.Popen(["true"]) as child:
        return child.pid


def test_debt_of_a_dead_capture_is_paid_whatever_lies_beside_it(guest: Guest) -> None:
    left_behind(guest, Debt(pid=ended_process(), started="1", frozen_since=time.time()))
    beside = [guest.files.folder.parent / name for name in ("0", "stray", "zzz", str(uuid4()))]
    for folder in beside:
        folder.mkdir()
        EcsFiles(folder).debt.write_text("{")
    assert list(watch.relieve_all(guest.hypervisor, guest.files.folder.parent)) == []
    assert guest.at_rest()
    assert [EcsFiles(folder).debt.exists() for folder in beside] == [True, True, True, False]


def test_debt_of_a_dead_capture_is_paid_on_a_full_disk(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    left_behind(guest, Debt(pid=ended_process(), started="1", frozen_since=time.time()))
    monkeypatch.setattr(watch, "note", full)
    assert watch.relieve(guest.hypervisor, guest.files, guest.id)
    assert guest.at_rest()


def test_relief_waits_for_a_capture_that_begins(guest: Guest) -> None:
    watch.note(guest.files, Debt(pid=ended_process(), started="1", frozen_since=time.time()))
    with ThreadPoolExecutor(1) as pool:
        with watch.alone(guest.files):
            relief = pool.submit(watch.relieve, guest.hypervisor, guest.files, guest.id)
            time.sleep(0.3)
            assert not relief.done()
            watch.note(guest.files, Debt.begin())
        assert not relief.result()
    assert watch.owed(guest.files) == Debt.begin()


def test_debt_of_a_live_capture_is_its_own_until_it_takes_too_long(guest: Guest) -> None:
    debt = replace(Debt.begin(), frozen_since=time.time())
    left_behind(guest, debt)
    assert not watch.relieve(guest.hypervisor, guest.files, guest.id)
    assert list(watch.relieve_all(guest.hypervisor, guest.files.folder.parent)) == []
    assert guest.frozen()
    watch.note(guest.files, replace(debt, frozen_since=time.time() - watch.FROZEN_SECONDS - 1))
    assert list(watch.relieve_all(guest.hypervisor, guest.files.folder.parent)) == [guest.id]
    assert guest.writes()
    assert backup.runs(guest.domain)
    assert watch.owed(guest.files) == Debt.begin()


LIVE = {"pid": this_process().pid, "started": this_process().started}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"pid": 1}',
        '{"pid": "x", "started": "1", "frozen_since": null}',
        '{"pid": Infinity, "started": "1", "frozen_since": null}',
        json.dumps({**LIVE, "frozen_since": "soon"}),
    ],
)
def test_debt_that_cannot_be_read_is_a_frozen_guest_of_nobody(guest: Guest, text: str) -> None:
    assert freezing.freeze(guest.domain) is Freeze.FROZEN
    guest.files.debt.write_text(text)
    assert watch.relieve(guest.hypervisor, guest.files, guest.id)
    assert guest.at_rest()


def test_relief_of_one_guest_does_not_depend_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[UUID] = set()

    def refuse(_hypervisor: object, _files: EcsFiles, ecs_id: UUID) -> bool:
        seen.add(ecs_id)
        raise HostUnavailable("backup_busy", "no")

    ids = {uuid4() for _ in range(3)}
    for ecs_id in ids:
        make_folder(ecs_files(tmp_path, ecs_id))
        ecs_files(tmp_path, ecs_id).debt.write_text("{")
    monkeypatch.setattr(watch, "relieve", refuse)
    with pytest.raises(HostUnavailable, match="backup_busy"):
        list(watch.relieve_all(Hypervisor("none:///"), tmp_path))
    assert seen == ids


def restart_agent(guest: Guest) -> None:
    def renewed() -> bool:
        with suppress(libvirt.libvirtError, HostUnavailable):
            return ping(guest.domain) and guest.run("pidof qemu-ga") != old
        return False

    old = guest.run("pidof qemu-ga")
    guest.spawn("sleep 0.5; kill $(pidof qemu-ga)")
    wait_until(renewed)


@pytest.fixture
def hanging(guest: Guest) -> Iterator[Guest]:
    """The guest with an agent that does nothing else for a while when it is asked to freeze."""
    hook = rf"#!/bin/sh\n[ $1 != freeze ] || sleep {HOOK_SECONDS}\n"
    guest.run(f"mkdir -p {os.path.dirname(HOOK)}; printf '{hook}' >{HOOK}; chmod 755 {HOOK}")
    restart_agent(guest)
    yield guest
    wait_until(lambda: ping(guest.domain) and freezing.thaw(guest.domain) is not None)
    guest.run(f"echo '#!/bin/sh' >{HOOK}")


def test_thaw_that_a_hanging_agent_owes_is_not_forgotten(hanging: Guest) -> None:
    guest, began = hanging, time.monotonic()
    made = take(guest, "ims-hanging")
    print(f"taken after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 13
    assert (made.consistency, made.thawed) == ("crash", False)
    owed = watch.owed(guest.files)
    assert owed is not None
    assert owed.frozen_since is not None
    point.release(guest.domain, guest.files)
    assert watch.owed(guest.files) == replace(owed, pid=0)
    assert not take(guest, "ims-again", consistency="crash").thawed
    assert watch.owed(guest.files) == owed
    point.release(guest.domain, guest.files)
    wait_until(lambda: watch.relieve(guest.hypervisor, guest.files, guest.id))
    print(f"relieved after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began > HOOK_SECONDS
    assert guest.at_rest()


def test_chain_of_changes_outlives_a_clean_stop(guest: Guest) -> None:
    with taken(guest, "ims-evening") as made:
        evening = whole(made)
    guest.run("echo late >/root/late; sync")
    assert domain.stop(guest.hypervisor, guest.id, grace_seconds=60) == "shutdown"
    guest.start()
    with taken(guest, "ims-morning", "ims-evening") as made:
        assert made.since == {DISK: "ims-evening"}
        assert stored(changed(made, evening), evening) == whole(made) != evening


def qemu_of(guest: Guest) -> int:
    """QEMU's process, by the name that libvirt gives it."""
    wanted = f"guest={domain_name(guest.id)},".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if wanted in path.read_bytes():
                return int(path.parent.name)
    raise AssertionError(wanted)


def test_chain_of_changes_begins_anew_after_a_crash(guest: Guest) -> None:
    with taken(guest, "ims-lost"):
        pass
    os.kill(qemu_of(guest), signal.SIGKILL)
    wait_until(lambda: domain.state(guest.hypervisor, guest.id) is not DomainState.RUNNING)
    guest.start()
    with taken(guest, "ims-anew", "ims-lost", LAUNCH) as made:
        assert made.since == {DISK: None}
        anew = whole(made)
    guest.run("echo back >/root/back; sync")
    with taken(guest, "ims-next", "ims-anew", LAUNCH) as made:
        assert made.since == {DISK: "ims-anew"}
        assert stored(changed(made, anew), anew) == whole(made) != anew
