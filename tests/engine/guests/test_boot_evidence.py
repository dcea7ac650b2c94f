"""The judgement over what a booting guest showed."""

from __future__ import annotations

import pytest

from tasks.engine.guests.boot_evidence import BootLevel, Observation, firmware_gave_up, level_of

SHELL = 'BdsDxe: starting Boot0002 "EFI Internal Shell" from Fv'
LOADER = 'BdsDxe: starting Boot0001 "UEFI Misc Device" from Pci'


@pytest.mark.parametrize(
    ("text", "read", "level"),
    [
        ("Booting from Hard Disk...", 512, BootLevel.NONE),
        ("Booting from Hard Disk...", 70_000, BootLevel.DISK),
        ("Linux version 6.1.0-cloud", 0, BootLevel.KERNEL),
        ("Linux version 6.1.0-cloud\n\nweb login: ", 0, BootLevel.LOGIN),
    ],
)
def test_level_under_bios(text: str, read: int, level: BootLevel):
    assert level_of(Observation(console=text, bytes_read=read, uefi=False)) is level


@pytest.mark.parametrize(("text", "level"), [(SHELL, BootLevel.NONE), (LOADER, BootLevel.DISK)])
def test_level_under_uefi_asks_the_firmware_and_not_the_bytes_it_read(text: str, level: BootLevel):
    assert level_of(Observation(console=text, bytes_read=1 << 20, uefi=True)) is level


@pytest.mark.parametrize("text", ["\nNo bootable device.\n", SHELL + "\nUEFI Interactive Shell v2.2"])
def test_firmware_that_gave_up_is_understood(text: str):
    assert firmware_gave_up(Observation(console=text, bytes_read=0, uefi=False))


def test_levels_are_ranked():
    assert [level.rank for level in BootLevel] == [4, 3, 2, 1, 0]
