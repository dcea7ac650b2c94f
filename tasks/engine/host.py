"""The host agent: keeps this host's NBD server running, brings back guests that its absence paused, and lets go guests
that a capture left frozen or with a backup job.

Run as `python -m tasks.engine.host`; it stays in the foreground, ends nbdkit with itself and holds a lock, so that one
host has one server. What the server does is in `tasks.engine.serving`, what a guest is in `tasks.engine.guests`.
"""

from __future__ import annotations

import ctypes
import fcntl
import grp
import logging
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path
from types import FrameType

from tasks.engine.errors import ImsError
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.resume import resume_paused
from tasks.engine.guests.watch import relieve_all
from tasks.engine.logs import to_file, to_people
from tasks.engine.settings import Settings, load_settings

PLUGIN = Path(__file__).parent / "serving" / "plugin.py"
PR_SET_PDEATHSIG = 1
WATCH_SECONDS = 1.0
RESUME_SECONDS = 4.0
QEMU_GROUPS = ("libvirt-qemu", "qemu", "kvm")

log = logging.getLogger("ims.host")


class Stopped(Exception):
    """A signal asked the agent to end."""


class HostAgent:
    """One nbdkit child, restarted when it dies, and the guests that wait for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server: subprocess.Popen[bytes] | None = None
        self._next_resume = 0.0

    def run(self) -> None:
        """Serve until a signal; returns with the server ended."""
        socket = self._settings.exports_socket
        socket.parent.mkdir(parents=True, exist_ok=True)
        with (socket.parent / "nbd.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Beside the loop below: a guest's agent may take seconds to answer, or never do.
            threading.Thread(target=self._relieve_forever, name="relief", daemon=True).start()
            try:
                while True:
                    self._watch()
                    time.sleep(WATCH_SECONDS)
            finally:
                self._end_server()

    def _watch(self) -> None:
        if self._server is None or self._server.poll() is not None:
            if self._server is not None:
                log.warning("NBD server ended with %s; starting it again", self._server.returncode)
            self._server = self._start_server()
        if time.monotonic() >= self._next_resume:
            self._next_resume = time.monotonic() + RESUME_SECONDS
            self._resume_guests()

    def _start_server(self) -> subprocess.Popen[bytes]:
        """Start nbdkit under a name of its own and move the socket into place when it listens."""
        final = self._settings.exports_socket
        draft = final.with_suffix(".starting")
        draft.unlink(missing_ok=True)
        server = subprocess.Popen(
            ["nbdkit", "--foreground", "--unix", str(draft), "--threads", "16", "python", str(PLUGIN)],
            env={**os.environ, "PYTHONPATH": python_path(), "IMS_HOME": str(self._settings.home)},
            preexec_fn=_end_with_parent,  # prctl must be called in the child
        )
        deadline = time.monotonic() + 30
        while not draft.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise SystemExit("nbdkit did not start; its own words are above")
            time.sleep(0.05)
        _let_qemu_connect(draft)
        draft.rename(final)
        return server

    def _resume_guests(self) -> None:
        try:
            for guest in resume_paused(self._settings.libvirt_uri):
                log.warning("ECS %s was paused by an I/O error: %s", guest.ecs_id, "runs" if guest.running else "still paused")
        except ImsError as error:
            log.warning("cannot look after guests: %s", error)

    def _relieve_forever(self) -> None:
        told = ""
        with Hypervisor(self._settings.libvirt_uri) as hypervisor:
            while True:
                try:
                    left = ", ".join(str(ecs_id) for ecs_id in relieve_all(hypervisor, self._settings.ecs_folder))
                    words = f"still owed a thaw: {left}" if left else ""
                except (ImsError, OSError, ValueError) as error:  # a full disk, a stray folder
                    words = f"cannot look after captured guests: {error}"
                if words and words != told:
                    log.warning(words)
                told = words
                time.sleep(WATCH_SECONDS)

    def _end_server(self) -> None:
        if self._server is None:
            return
        self._server.terminate()
        try:
            self._server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._settings.exports_socket.unlink(missing_ok=True)


def python_path() -> str:
    """Where nbdkit's embedded interpreter finds this project and the packages of this environment."""
    return os.pathsep.join([str(Path(__file__).parents[2]), sysconfig.get_path("purelib")])


def _let_qemu_connect(socket: Path) -> None:
    """Root's QEMU runs as its own user; give its group the socket and nobody else."""
    if os.geteuid() == 0:
        groups = {entry.gr_name: entry.gr_gid for entry in grp.getgrall()}
        group = next((groups[name] for name in QEMU_GROUPS if name in groups), 0)
        os.chown(socket, 0, group)
    socket.chmod(0o660)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(signal.Signals(number).name)


def main() -> int:
    """Run the agent of this host until SIGTERM or SIGINT."""
    settings = load_settings()
    logging.basicConfig(level=logging.INFO, handlers=[to_people(settings, text="%(asctime)s %(levelname)s %(message)s")])
    to_file(settings)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        HostAgent(settings).run()
    except BlockingIOError:
        log.error("another host agent serves this IMS_HOME")
        return 3
    except Stopped as stop:
        log.info("ended by %s", stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
