"""The sample guest under QEMU: login prompt, NoCloud seed, guest agent, power button."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import guestfs
import pytest
from running_sample import RunningGuest, cd_drive, make_overlay, make_seed, running, virtio_disk

pytestmark = pytest.mark.guest

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl tester@example"
META = f"instance-id: i-one\nlocal-hostname: web1\npublic-keys:\n  - {KEY}\n"
SCRIPT = "#!/bin/sh\necho count >>/root/runs\necho user-data-of-$(hostname)\n"
CONFIG = f"""#cloud-config
hostname: web2
ssh_authorized_keys: ["{KEY}"]
users:
  - default
  - name: alice
    ssh_authorized_keys:
      - {KEY} alice
write_files:
  - path: /etc/app/settings
    permissions: '0600'
    content: |
      first \\ line
      second
runcmd:
  - [sh, -c, "echo 'two words' >/root/ran"]
  - echo $((40 + 2)) >>/root/ran
packages: [nginx]
"""


@pytest.fixture(scope="module")
def overlay(sample_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_overlay(sample_disk, tmp_path_factory.mktemp("overlay") / "disk.qcow2", size="2G")


@pytest.fixture(scope="module")
def guest(overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGuest]:
    """A guest in its first boot, with a script as its user data, that has come to rest."""
    folder = tmp_path_factory.mktemp("guest")
    seed = make_seed(folder, meta_data=META, user_data=SCRIPT)
    with running(folder, *virtio_disk(overlay), *cd_drive(seed)) as started:
        started.wait_for("web1 login:")
        started.wait_for("sample guest: ready")
        yield started


def test_first_boot_runs_the_script_once(guest: RunningGuest) -> None:
    assert "user-data-of-web1" in guest.console()
    assert guest.run("cat /root/runs") == "count\n"
    assert guest.run("cat /var/log/cloud-init-output.log").startswith("user-data-of-web1\n")


def test_first_boot_gives_the_keys_to_both_users(guest: RunningGuest) -> None:
    assert guest.run("cat /root/.ssh/authorized_keys /home/ims/.ssh/authorized_keys") == f"{KEY}\n{KEY}\n"
    assert guest.run("stat -c '%U %a' /home/ims/.ssh/authorized_keys") == "ims 600\n"


def test_first_boot_makes_an_identity(guest: RunningGuest) -> None:
    assert len(guest.run("cat /etc/machine-id").strip()) == 32
    assert guest.run("cat /etc/ssh/ssh_host_ed25519_key.pub").startswith("ssh-ed25519 AAAA")


def test_agent_answers_ping_and_osinfo(guest: RunningGuest) -> None:
    assert guest.agent("guest-ping") == {}
    facts = guest.agent("guest-get-osinfo")
    assert (facts["id"], facts["version-id"], facts["machine"]) == ("debian", "12", "x86_64")
    assert guest.agent("guest-get-host-name") == {"host-name": "web1"}


def test_agent_freezes_and_thaws_the_root(guest: RunningGuest) -> None:
    assert guest.agent("guest-fsfreeze-freeze") == 1
    assert guest.agent("guest-fsfreeze-status") == "frozen"
    assert guest.agent("guest-fsfreeze-thaw") == 1
    assert guest.run("touch /root/after && echo written") == "written\n"


def test_root_fills_the_larger_disk(guest: RunningGuest) -> None:
    assert int(guest.run("stat -f -c '%b' /")) * 4096 > 1_900_000_000


def test_network_has_an_address(guest: RunningGuest) -> None:
    guest.wait_for("eth0 has 10.0.2.15")
    assert "inet 10.0.2.15/24" in guest.run("ip -o -4 addr show eth0")


@pytest.mark.parametrize("user", ["root", "ims"])
def test_ssh_opens_with_a_key_and_without_a_password(guest: RunningGuest, user: str) -> None:
    guest.wait_for("sample guest: ssh host key")
    key = f"/run/{user}.key"
    keys_file = f"~{user}/.ssh/authorized_keys"
    guest.run(f"dropbearkey -t ed25519 -f {key}; dropbearkey -y -f {key} | grep ^ssh- >>{keys_file}")
    login = f"for n in 1 2 3 4 5; do dbclient -y -i {key} {user}@127.0.0.1 id -un && break; sleep 1; done"
    assert guest.run(login) == f"{user}\n"


def test_screen_shows_a_login_too(guest: RunningGuest) -> None:
    # The text screen holds a character and its colour in every two bytes.
    assert b"web1 login:" in bytes.fromhex(guest.run("head -c 4000 /dev/vcs1 | xxd -p | tr -d '\\n'"))


def test_second_boot_keeps_what_the_first_made(guest: RunningGuest, overlay: Path, tmp_path: Path) -> None:
    identity = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub"
    before = guest.run(identity)
    guest.press_power_button()
    assert "reboot: Power down" in guest.console()
    seed = make_seed(tmp_path, meta_data=META, user_data=SCRIPT)
    with running(tmp_path / "again", *virtio_disk(overlay), *cd_drive(seed)) as again:
        again.wait_for("sample guest: ready")
        assert again.run(identity) == before
        assert again.run("cat /root/runs") == "count\n"


def test_new_instance_on_a_used_disk_runs_its_own_config(overlay: Path, guest: RunningGuest, tmp_path: Path) -> None:
    if guest.process.poll() is None:
        guest.press_power_button()
    seed = make_seed(tmp_path, meta_data='{"instance-id": "i-two"}', user_data=CONFIG)
    disk = make_overlay(overlay, tmp_path / "copy.qcow2", backing_format="qcow2")
    with running(tmp_path / "copy", *virtio_disk(disk), *cd_drive(seed)) as copy:
        copy.wait_for("web2 login:")
        copy.wait_for("sample guest: ready")
        assert copy.run("cat /root/ran") == "two words\n42\n"
        assert copy.run("cat /etc/app/settings; stat -c %a /etc/app/settings") == "first \\ line\nsecond\n600\n"
        assert copy.run("cat /home/alice/.ssh/authorized_keys") == f"{KEY} alice\n"
        assert "packages in the cloud-config is not supported" in copy.console()
        copy.ask_to_shut_down()


def test_boot_without_seed_or_virtio_reaches_the_login(sample_disk: Path, tmp_path: Path) -> None:
    disk = make_overlay(sample_disk, tmp_path / "disk.qcow2")
    sata = ("-drive", f"file={disk},format=qcow2,if=none,id=disk", "-device", "ide-hd,drive=disk")
    with running(tmp_path / "plain", *sata) as plain:
        plain.wait_for("sample login:")
        plain.press_power_button()


def test_libguestfs_recognises_the_system(sample_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBGUESTFS_BACKEND", "direct")
    monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
    handle = guestfs.GuestFS(python_return_dict=True)
    handle.add_drive_opts(str(sample_disk), format="raw", readonly=True)
    handle.launch()
    try:
        (root,) = handle.inspect_os()
        assert (handle.inspect_get_distro(root), handle.inspect_get_major_version(root)) == ("debian", 12)
        assert (handle.inspect_get_arch(root), handle.inspect_get_hostname(root)) == ("x86_64", "sample")
        assert handle.inspect_get_mountpoints(root).keys() == {"/", "/boot"}
    finally:
        handle.close()
