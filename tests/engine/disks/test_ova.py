"""OVA packages: what a good one gives, and every way in which one may lie."""

import gzip
import tarfile
from io import BytesIO
from pathlib import Path

import forge_ova as forge
import pytest

from tasks.engine.disks.formats import DiskFormat, Window
from tasks.engine.disks.ova import open_ova, verify_manifest
from tasks.engine.disks.wrappers import OutputLimits, unwrap
from tasks.engine.errors import DiskRefused

GIB = 1 << 30


def read(window: Window) -> bytes:
    return window.path.read_bytes()[window.offset :][: window.size]


def refusal(tmp_path: Path, archive: bytes | dict[str, bytes], call=open_ova) -> str:
    path = tmp_path / "hostile.ova"
    path.write_bytes(archive if isinstance(archive, bytes) else forge.tar(archive))
    with pytest.raises(DiskRefused) as refused:
        call(Window(path))
    return refused.value.code


def with_ovf(descriptor: bytes) -> dict[str, bytes]:
    return {"web.ovf": descriptor, **forge.DISKS}


def test_ova_gives_its_disks_as_windows_in_order(tmp_path: Path) -> None:
    disks = open_ova(Window(forge.write(tmp_path / "web.ova", forge.package())))
    assert [(disk.name, disk.capacity, disk.compression, disk.format) for disk in disks] == [
        ("web-disk1.vmdk", 8 * GIB, None, DiskFormat.VMDK),
        ("web-disk2.vmdk", 8 * GIB, None, DiskFormat.VMDK),
    ]
    assert [read(disk.window) for disk in disks] == list(forge.DISKS.values())


def test_ova_disks_follow_the_drives_of_the_hardware_section(tmp_path: Path) -> None:
    drives = forge.drive(1, parent=3, address=1) + forge.drive(2, parent=3, address=0)
    disks = open_ova(Window(forge.write(tmp_path / "web.ova", with_ovf(forge.ovf(drives=drives)))))
    assert [disk.name for disk in disks] == ["web-disk2.vmdk", "web-disk1.vmdk"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_ova_of_every_tar_flavour_is_read(tmp_path: Path, form: int) -> None:
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in forge.package().items():
            forge.add(archive, f"./{name}", data, mtime=1.5 if form == tarfile.PAX_FORMAT else 1)
    (tmp_path / "web.ova").write_bytes(out.getvalue())
    assert len(open_ova(Window(tmp_path / "web.ova"))) == 2
    assert verify_manifest(Window(tmp_path / "web.ova")) is True


def test_ova_inside_a_window_is_read(tmp_path: Path) -> None:
    archive = forge.tar(forge.package())
    (tmp_path / "outer").write_bytes(b"x" * 100 + archive + b"y" * 100)
    disks = open_ova(Window(tmp_path / "outer", 100, len(archive)))
    assert read(disks[1].window) == forge.DISKS["web-disk2.vmdk"]


def test_ova_with_a_gzip_disk_says_so_and_it_unwraps(tmp_path: Path) -> None:
    disks = {"web.vmdk.gz": gzip.compress(b"KDMV" * 1000)}
    descriptor = forge.ovf(disks, file='ovf:compression="gzip"')
    (disk,) = open_ova(Window(forge.write(tmp_path / "web.ova", {"web.ovf": descriptor, **disks})))
    assert disk.compression == "gz"
    unwrap(disk.window, tmp_path / "web.vmdk", kind="gz", limits=OutputLimits(max_bytes=1 << 20))
    assert (tmp_path / "web.vmdk").read_bytes() == b"KDMV" * 1000


UNITS = {
    'ovf:capacity="5"': 5,
    'ovf:capacity="5" ovf:capacityAllocationUnits="byte"': 5,
    'ovf:capacity="5" ovf:capacityAllocationUnits="byte * 2^20"': 5 << 20,
    'ovf:capacity="5" ovf:capacityAllocationUnits="byte*10^9"': 5 * 10**9,
    'ovf:capacity="5" ovf:capacityAllocationUnits="MegaBytes"': 5 << 20,
}


@pytest.mark.parametrize(("attributes", "capacity"), UNITS.items())
def test_ova_capacity_has_units(tmp_path: Path, attributes: str, capacity: int) -> None:
    path = forge.write(tmp_path / "web.ova", with_ovf(forge.ovf(disk=attributes)))
    assert open_ova(Window(path))[0].capacity == capacity


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_ova_manifest_that_holds_is_verified_with_progress(tmp_path: Path, algorithm: str) -> None:
    files, seen = forge.package(algorithm), list[int]()
    assert verify_manifest(Window(forge.write(tmp_path / "web.ova", files)), progress=seen.append) is True
    assert seen[-1] == sum(len(data) for name, data in files.items() if name != "web.mf")


def test_ova_without_manifest_is_not_verified(tmp_path: Path) -> None:
    assert verify_manifest(Window(forge.write(tmp_path / "web.ova", with_ovf(forge.ovf())))) is False


def _changed_disk(files: dict[str, bytes]) -> None:
    files["web-disk2.vmdk"] = files["web-disk2.vmdk"][:-1] + b"!"


def _changed_descriptor(files: dict[str, bytes]) -> None:
    files["web.ovf"] = files["web.ovf"].replace(b"disks", b"DISKS")


def _unlisted_disk(files: dict[str, bytes]) -> None:
    files["web.mf"] = files["web.mf"][: files["web.mf"].index(b"SHA256(web-disk2")]


def _absent_file(files: dict[str, bytes]) -> None:
    files["web.mf"] += b"SHA256(absent.vmdk)= " + b"0" * 64 + b"\n"


def _listed_twice(files: dict[str, bytes]) -> None:
    files["web.mf"] += files["web.mf"]


def _weak_algorithm(files: dict[str, bytes]) -> None:
    files["web.mf"] = files["web.mf"].replace(b"SHA256(web.ovf)", b"MD5(web.ovf)")


def _no_text(files: dict[str, bytes]) -> None:
    files["web.mf"] = bytes(range(256))


LIES = [_changed_disk, _changed_descriptor, _unlisted_disk, _absent_file, _listed_twice, _weak_algorithm, _no_text]


@pytest.mark.parametrize("lie", LIES)
def test_ova_manifest_that_does_not_hold_is_refused(tmp_path: Path, lie) -> None:
    files = forge.package()
    lie(files)
    assert refusal(tmp_path, files, verify_manifest) == "disk.ova_manifest"


NAMES = ["../escape.vmdk", "/etc/passwd", "a/../../b", "sub/disk.vmdk", "..", "a\\b", "x\ny", "./../x"]


@pytest.mark.parametrize("name", NAMES)
def test_ova_member_with_a_path_is_refused(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, forge.package() | {name: b"x"}) == "disk.ova_name"


@pytest.mark.parametrize("href", [*NAMES[:4], "http://example.test/x.vmdk", "file:///etc/passwd"])
def test_ova_descriptor_that_points_elsewhere_is_refused(tmp_path: Path, href: str) -> None:
    assert refusal(tmp_path, with_ovf(forge.ovf({href: b"x"}))) == "disk.ova_name"


def test_ova_descriptor_that_names_an_absent_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, with_ovf(forge.ovf({"absent.vmdk": b"x"}))) == "disk.ova_reference"


KINDS = [
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
    b"S",
    b"L",
    b"g",
]


@pytest.mark.parametrize("kind", KINDS)
def test_ova_member_that_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        forge.add(archive, "web.ovf", forge.ovf())
        forge.add(archive, "web-disk1.vmdk", type=kind, linkname="/etc/passwd")
    assert refusal(tmp_path, out.getvalue()) == "disk.ova_member"


def _pax(size: int, body: bytes) -> bytes:
    """A package that begins with an extended header of `body`, said to have `size` bytes."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, size
    return entry.tobuf(tarfile.USTAR_FORMAT) + body.ljust(-(-len(body) // 512) * 512, b"\0") + forge.tar(forge.package())


@pytest.mark.parametrize(
    "body", [b"999 path=x\n", b"nonsense", b"5 path=x\n", b"0 a=b\n", b"21 GNU.sparse.size=1\n", b"9 size=x\n"]
)
def test_ova_with_a_lying_extended_header_is_refused(tmp_path: Path, body: bytes) -> None:
    assert refusal(tmp_path, _pax(len(body), body)) == "disk.ova_member"


def test_ova_with_an_extended_header_of_gigabytes_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, _pax(7 << 30, b"")) == "disk.ova_member"


def test_ova_with_a_path_hidden_in_an_extended_header_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, _pax(18, b"18 path=../escape\n")) == "disk.ova_name"


def test_ova_with_a_size_hidden_in_an_extended_header_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, _pax(22, b"22 size=9999999999999\n")) == "disk.truncated"


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, (1 << 63) - 1])
def test_ova_member_that_claims_more_than_there_is_is_refused(tmp_path: Path, size: int) -> None:
    assert refusal(tmp_path, forge.resized(forge.tar(forge.package()), "web-disk2.vmdk", size)) == "disk.truncated"


def test_ova_member_of_another_size_than_described_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, with_ovf(forge.ovf(file='ovf:size="12"'))) == "disk.ova_size"


def test_ova_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    archive = bytearray(forge.tar(forge.package()))
    archive[3] ^= 1
    assert refusal(tmp_path, bytes(archive)) == "disk.ova_member"


def test_ova_cut_anywhere_is_refused(tmp_path: Path) -> None:
    archive = forge.tar(forge.package()).rstrip(b"\0")
    cuts = range(0, len(archive), 512)
    assert {refusal(tmp_path, archive[:cut]) for cut in cuts} == {"disk.truncated"}


def test_ova_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for data in (forge.ovf(), forge.ovf({})):
            forge.add(archive, "web.ovf", data)
    assert refusal(tmp_path, out.getvalue()) == "disk.ova_duplicate"


@pytest.mark.parametrize("name", ["other.ovf", "other.OVF"])
def test_ova_with_two_descriptors_is_refused(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, forge.package() | {name: forge.ovf()}) == "disk.ova_duplicate"


def test_ova_with_too_many_members_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, {f"file{n}": b"" for n in range(65)}) == "disk.ova_members"


def test_ova_followed_by_other_bytes_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, forge.tar(forge.package()) + b"QFI\xfb") == "disk.trailing_data"
    assert refusal(tmp_path, forge.tar(forge.package()) + bytes(2 << 20)) == "disk.trailing_data"


@pytest.mark.parametrize(("count", "accepted"), [(0, False), (4, True), (5, False)])
def test_ova_has_one_to_four_disks(tmp_path: Path, count: int, accepted: bool) -> None:
    disks = {f"disk{n}.vmdk": b"KDMV" for n in range(count)}
    files = {"web.ovf": forge.ovf(disks), **disks}
    if accepted:
        assert len(open_ova(Window(forge.write(tmp_path / "web.ova", files)))) == count
    else:
        assert refusal(tmp_path, files) == "disk.ova_disks"


def _entity_bomb() -> bytes:
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY l0 "lol">{levels}]><Envelope>&l9;</Envelope>'.encode()


HOSTILE_XML = {
    "external entity": b'<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]><Envelope>&x;</Envelope>',
    "external document type": b'<!DOCTYPE e SYSTEM "http://example.test/x.dtd"><Envelope/>',
    "parameter entity": b'<!DOCTYPE e [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><Envelope/>',
    "entity bomb": _entity_bomb(),
    "quadratic entities": b'<!DOCTYPE e [<!ENTITY a "' + b"a" * 50_000 + b'">]><Envelope>' + b"&a;" * 50_000 + b"</Envelope>",
    "entity bomb in UTF-16": _entity_bomb().decode().encode("utf-16"),
}


@pytest.mark.parametrize("case", HOSTILE_XML)
def test_ova_descriptor_with_entities_is_refused(tmp_path: Path, case: str) -> None:
    assert refusal(tmp_path, with_ovf(HOSTILE_XML[case])) == "disk.ova_xml"


BAD_XML = {
    "no XML": b"not xml",
    "nothing": b"",
    "unknown encoding": b'<?xml version="1.0" encoding="martian"?><Envelope/>',
    "multi-byte encoding": b'<?xml version="1.0" encoding="shift_jis"?><Envelope/>',
    "another root": b"<Domain/>",
    "unclosed nesting": b"<a>" * 300_000,
    "deep nesting": b"<a>" * 149_000 + b"</a>" * 149_000,
    "no file": forge.ovf().replace(b'ovf:fileRef="file1"', b""),
    "unknown file": forge.ovf().replace(b'ovf:fileRef="file1"', b'ovf:fileRef="file9"'),
    "shared file": forge.ovf().replace(b'ovf:fileRef="file1"', b'ovf:fileRef="file2"'),
    "negative capacity": forge.ovf(disk='ovf:capacity="-1"'),
    "endless capacity": forge.ovf(disk=f'ovf:capacity="{"9" * 5000}"'),
    "unknown unit": forge.ovf(disk='ovf:capacity="1" ovf:capacityAllocationUnits="byte * 2^99999999"'),
    "no capacity": forge.ovf().replace(b'ovf:capacity="8"', b""),
    "no href": forge.ovf().replace(b"ovf:href", b"ovf:other"),
    "over a mebibyte": forge.ovf() + b" " * (1 << 20),
}


@pytest.mark.parametrize("case", BAD_XML)
def test_ova_descriptor_that_cannot_be_used_is_refused(tmp_path: Path, case: str) -> None:
    assert refusal(tmp_path, with_ovf(BAD_XML[case])) == "disk.ova_descriptor"


def test_ova_without_descriptor_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, dict(forge.DISKS)) == "disk.ova_descriptor"


ATTRIBUTES = {
    "disk.parent": {"disk": 'ovf:parentRef="vmdisk9"'},
    "disk.ova_chunked": {"file": 'ovf:chunkSize="1000"'},
    "disk.ova_compression": {"file": 'ovf:compression="bzip2"'},
}


@pytest.mark.parametrize(("code", "attributes"), ATTRIBUTES.items())
def test_ova_that_asks_for_something_else_is_refused(tmp_path: Path, code: str, attributes: dict[str, str]) -> None:
    assert refusal(tmp_path, with_ovf(forge.ovf(**attributes))) == code


def test_ova_of_several_systems_is_refused(tmp_path: Path) -> None:
    collection = (
        forge.ovf()
        .replace(b"<VirtualSystem ", b"<VirtualSystemCollection ")
        .replace(b"</VirtualSystem>", b"</VirtualSystemCollection>")
    )
    assert refusal(tmp_path, with_ovf(collection)) == "disk.ova_collection"
