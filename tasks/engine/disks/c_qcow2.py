"""On-disk structures of QCOW2 (versions 2 and 3) as docs/interop/qcow2.txt of QEMU names them; big-endian. No logic.

https://www.qemu.org/docs/master/interop/qcow2.html
"""

from __future__ import annotations

from typing import NamedTuple

HEADER_V2 = ">4sIQIIQIIQQIIQ"
HEADER_V3 = ">QQQIIB"
HEADER_V2_LENGTH = 72
HEADER_V3_LENGTH = 104
HEADER_V3_OFFSET = 72
COMPRESSION_TYPE_OFFSET = 104


class HeaderV2(NamedTuple):
    magic: bytes
    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int


class HeaderV3(NamedTuple):
    """The fields that version 3 adds."""

    incompatible_features: int = 0
    compatible_features: int = 0
    autoclear_features: int = 0
    refcount_order: int = 4
    header_length: int = HEADER_V2_LENGTH
    compression_type: int = 0


INCOMPAT_DIRTY = 1 << 0
INCOMPAT_CORRUPT = 1 << 1
INCOMPAT_DATA_FILE = 1 << 2
INCOMPAT_COMPRESSION = 1 << 3
INCOMPAT_EXTENDED_L2 = 1 << 4
INCOMPAT_KNOWN = 0x1F
AUTOCLEAR_RAW_EXTERNAL = 1 << 1

EXTENSION_END = 0
EXTENSION_BITMAPS = 0x23852875
EXTENSION_ENCRYPTION = 0x0537BE77
EXTENSION_DATA_FILE = 0x44415441

BITMAPS_EXTENSION = ">IIQQ"
"""nb_bitmaps, reserved, bitmap_directory_size, bitmap_directory_offset"""

SNAPSHOT_HEADER = ">QIHHIIQII"
"""l1_table_offset, l1_size, id_str_size, name_size, date_sec, date_nsec, vm_clock_nsec, vm_state_size, extra_data_size"""
SNAPSHOT_HEADER_LENGTH = 40

OFFSET_MASK = 0x00FFFFFFFFFFFE00
LEAST_OFFSET = 1 << 9
L1_RESERVED = 0x7F000000000001FF
L2_COMPRESSED = 1 << 62
L2_ZERO = 1
L2_RESERVED = 0x3F000000000001FE
REFCOUNT_TABLE_RESERVED = 0x1FF

MIN_CLUSTER_BITS = 9
MAX_CLUSTER_BITS = 21
MIN_EXTENDED_CLUSTER_BITS = 14
SUBCLUSTERS = 32

MAX_L1_BYTES = 32 << 20
MAX_REFCOUNT_TABLE_BYTES = 8 << 20
MAX_SNAPSHOTS = 65536
MAX_SNAPSHOT_TABLE_BYTES = 64 << 20
MAX_SNAPSHOT_EXTRA_BYTES = 1024
MAX_BITMAPS = 65535
MAX_BITMAP_DIRECTORY_BYTES = 64 << 20
