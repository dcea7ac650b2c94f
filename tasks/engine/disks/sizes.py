"""What a virtual size may be, and how a number that must be a power of two is checked; the same for every format."""

from __future__ import annotations

from tasks.engine.disks.codes import refusal


def require_virtual_size(size: int, *, maximum: int) -> None:
    """`size` guest-visible bytes are at least one sector and at most `maximum`."""
    if size <= 0:
        raise refusal("too_small", "the virtual disk has no content")
    if size > maximum:
        raise refusal("too_large", f"the virtual disk has {size} bytes, at most {maximum} are accepted")


def is_power_of_two(number: int, *, least: int, most: int) -> bool:
    return least <= number <= most and number & (number - 1) == 0
