"""On-disk structures of the two partition tables, in their specifications' words; `sniff` reads them.

MBR and GPT: UEFI Specification 2.10, chapter 5 (https://uefi.org/specs/UEFI/2.10/05_GUID_Partition_Table_Format.html).
"""

from __future__ import annotations

import struct
from uuid import UUID

BOOT_CODE = slice(0, 440)
PARTITION_RECORDS = slice(446, 510)
SIGNATURE = slice(510, 512)
SIGNATURE_BYTES = b"\x55\xaa"

PARTITION_RECORD = struct.Struct("<B3sB3sII")
"""BootIndicator, StartingCHS, OSType, EndingCHS, StartingLBA, SizeInLBA."""
OSTYPE_UNUSED = 0x00
OSTYPE_GPT_PROTECTIVE = 0xEE
OSTYPE_ESP = 0xEF

GPT_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
"""Signature, Revision, HeaderSize, HeaderCRC32, Reserved, MyLBA, AlternateLBA, FirstUsableLBA, LastUsableLBA, DiskGUID,
PartitionEntryLBA, NumberOfPartitionEntries, SizeOfPartitionEntry, PartitionEntryArrayCRC32."""
GPT_SIGNATURE = b"EFI PART"
GPT_HEADER_CRC32 = slice(16, 20)
GPT_ENTRY_TYPE = slice(0, 16)
GPT_ENTRY_LBAS = struct.Struct("<QQ")
GPT_ENTRY_LBAS_AT = 32

TYPE_UNUSED = UUID(int=0)
TYPE_ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
TYPE_BIOS_BOOT = UUID("21686148-6449-6e6f-744e-656564454649")
