"""Why the header gate refuses a file: each reason with what to do about it. docs/disk-codes.md explains them to people.

A reason is the part after `disk.` in an error's code and never changes its meaning.
"""

from __future__ import annotations

from tasks.engine.errors import DiskRefused

_AGAIN = "Copy or download the file again and compare its checksum."
_CONVERT = "Convert the disk to a plain QCOW2 with `qemu-img convert -O qcow2` and import that."
_FLATTEN = "Merge the disk with its parent (`qemu-img convert -O qcow2`) where both files are, and import the result."
_REPAIR = "Repair it where it was made (`qemu-img check -r all` for QCOW2), then convert it to a new file."

REMEDIES = {
    "empty": _AGAIN,
    "too_small": "Name the format if the file really is a raw disk (`--format raw`); otherwise copy it again.",
    "truncated": _AGAIN,
    "not_a_file": "Copy the device's content to a file first.",
    "unknown_format": "Name the format (`--format raw`) if it is a raw disk, padded to whole sectors of 512 bytes.",
    "unsupported_format": _CONVERT,
    "compressed": "Unpack the file first: one layer of gz, xz, zst or bz2 around a disk image is understood.",
    "format_mismatch": "Leave the format out, or name the one that the file has.",
    "polyglot": "Convert it to a plain QCOW2 on a machine where nothing depends on it, or declare it raw if it is.",
    "unknown_version": _CONVERT,
    "unknown_feature": _CONVERT,
    "bad_header": _AGAIN,
    "header_mismatch": _REPAIR,
    "checksum": _AGAIN,
    "damaged_data": _AGAIN,
    "corrupt": _REPAIR,
    "encrypted": "Decrypt it first, for example with `qemu-img convert` and its secret, and import the result.",
    "backing_file": _FLATTEN,
    "data_file": "Make one file of it with `qemu-img convert -O qcow2`, and import that.",
    "parent": _FLATTEN,
    "differencing": _FLATTEN,
    "vmdk_type": "Convert it with `qemu-img convert -O vmdk -o subformat=streamOptimized` where all its files are.",
    "descriptor": _CONVERT,
    "too_large": "Shrink the disk, or ask the operator to raise IMS_MAX_DISK_BYTES.",
    "file_size": _CONVERT,
    "table_size": _CONVERT,
    "cluster_size": _CONVERT,
    "snapshots": "Remove the internal snapshots with `qemu-img snapshot -d`, or convert the disk to a new file.",
    "unaligned": _REPAIR,
    "past_end": _AGAIN,
    "overlap": _REPAIR,
    "bad_entry": _REPAIR,
}


def refusal(reason: str, message: str) -> DiskRefused:
    """The DiskRefused for `reason`, with its remedy."""
    return DiskRefused(reason, message, remedy=REMEDIES[reason])
