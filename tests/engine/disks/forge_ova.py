"""OVA packages, whole or with one lie in them. The reader under test is tasks.engine.disks.ova."""

import hashlib
import io
import tarfile
from pathlib import Path

DISKS = {"web-disk1.vmdk": b"KDMV" + b"one" * 1000, "web-disk2.vmdk": b"KDMV" + b"two" * 700}
NAMESPACES = (
    'xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" '
    'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"'
)
VMDK_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"


def ovf(disks: dict[str, bytes] | None = None, *, file: str = "", disk: str = "", drives: str = "") -> bytes:
    """A descriptor of these disks, 8 GiB each; `file` and `disk` are more attributes of each, `drives` hardware items."""
    names = DISKS if disks is None else disks
    files = "".join(
        f'<File ovf:id="file{n}" ovf:href="{name}" {file or f"""ovf:size="{len(data)}" """}/>'
        for n, (name, data) in enumerate(names.items(), 1)
    )
    units = "" if "capacity" in disk else 'ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^30"'
    listed = "".join(
        f'<Disk ovf:diskId="vmdisk{n}" ovf:fileRef="file{n}" ovf:format="{VMDK_FORMAT}" {units} {disk}/>'
        for n in range(1, len(names) + 1)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Envelope {NAMESPACES}><References>{files}</References>'
        f"<DiskSection><Info>disks</Info>{listed}</DiskSection>"
        f"<VirtualSystem ovf:id='web'><VirtualHardwareSection>{drives}</VirtualHardwareSection></VirtualSystem></Envelope>"
    ).encode()


def drive(disk: int, *, parent: int, address: int) -> str:
    return (
        f"<Item><rasd:AddressOnParent>{address}</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/vmdisk{disk}"
        f"</rasd:HostResource><rasd:Parent>{parent}</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>"
    )


def manifest(files: dict[str, bytes], algorithm: str = "SHA256") -> bytes:
    lines = (f"{algorithm}({name})= {hashlib.new(algorithm.lower(), data).hexdigest()}\n" for name, data in files.items())
    return "".join(lines).encode()


def package(algorithm: str = "SHA256") -> dict[str, bytes]:
    """Descriptor, manifest and both disks, in the order the specification wants."""
    described = {"web.ovf": ovf(), **DISKS}
    return {"web.ovf": described["web.ovf"], "web.mf": manifest(described, algorithm), **DISKS}


def tar(files: dict[str, bytes], *, form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            add(archive, name, data)
    return out.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    """Add a member, its header fields changed as asked."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for field, value in fields.items():
        setattr(entry, field, value)
    archive.addfile(entry, io.BytesIO(data))


def write(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(tar(files))
    return path


def resized(archive: bytes, name: str, size: int) -> bytes:
    """The archive with another size in the header of member `name`, which keeps its right checksum."""
    at = archive.index(name.encode().ljust(100, b"\0"))
    header = bytearray(archive[at : at + 512])
    header[124:136] = b"%011o\0" % size if size < 8**11 else (1 << 95 | size).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return archive[:at] + bytes(header) + archive[at + 512 :]
