"""The bill of materials is valid CycloneDX, the same every time, whatever names a disk gave its packages."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from tasks.engine.inspection.content import Content, Package
from tasks.engine.inspection.facts import OsFacts
from tasks.engine.inspection.sbom import sbom_json

AT = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
DIGEST = "ab" * 32
DEBIAN = OsFacts(type="linux", distro="debian", major=12, minor=5, product_name="Debian GNU/Linux 12 (bookworm)")
LIBSSL = Package(name="libssl3", version="3.0.11-1", architecture="amd64", source="openssl")


def made(content: Content, name: str = "web") -> str:
    return sbom_json(content, name=name, version="1.0", digest=DIGEST, at=AT)


def document(*packages: Package, facts: OsFacts = DEBIAN) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(made(Content(facts=facts, packages=packages)))
    return parsed


def purl(package: Package, facts: OsFacts = DEBIAN) -> str | None:
    found: str | None = document(package, facts=facts)["components"][0].get("purl")
    return found


def test_the_image_is_an_operating_system_with_its_digest():
    told = document(LIBSSL)
    image = told["metadata"]["component"]
    assert (told["specVersion"], image["type"], image["name"], image["version"]) == ("1.6", "operating-system", "web", "1.0")
    assert {each["name"]: each["value"] for each in image["properties"]} == {
        "ims:image:digest": DIGEST,
        "ims:os:distro": "debian",
        "ims:os:version": "12",
        "ims:os:name": "Debian GNU/Linux 12 (bookworm)",
    }
    assert told["metadata"]["timestamp"] == AT.isoformat()


@pytest.mark.parametrize(
    ("facts", "package", "expected"),
    [
        (DEBIAN, LIBSSL, "pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12&upstream=openssl"),
        (
            OsFacts(type="linux", distro="ubuntu", major=22, minor=4),
            replace(LIBSSL, version="1:2~rc1+b1", source_version="1:2~rc1"),
            "pkg:deb/ubuntu/libssl3@1:2~rc1%2Bb1?arch=amd64&distro=ubuntu-22.04&upstream=openssl%401:2~rc1",
        ),
        (
            OsFacts(type="linux", distro="rhel", major=9, minor=4),
            Package(
                name="openssl-libs",
                version="1:3.0.7-27.el9",
                architecture="x86_64",
                kind="rpm",
                source="openssl",
                source_version="3.0.7-27.el9",
            ),
            "pkg:rpm/redhat/openssl-libs@3.0.7-27.el9?arch=x86_64&distro=redhat-9&epoch=1&upstream=openssl",
        ),
        (
            OsFacts(type="linux", distro="alpinelinux", major=3, minor=18),
            Package(name="busybox", version="1.36.1-r0", architecture="x86_64", kind="apk"),
            "pkg:apk/alpine/busybox@1.36.1-r0?arch=x86_64&distro=alpine-3.18",
        ),
        (OsFacts(), Package(name="x", version="1"), "pkg:deb/x@1"),
        (DEBIAN, Package(name="x", version="1", kind="msi"), None),
    ],
)
def test_packages_have_the_url_of_their_kind(facts: OsFacts, package: Package, expected: str | None):
    assert purl(package, facts) == expected


def test_the_same_input_gives_the_same_bytes_in_any_order():
    packages = tuple(Package(name=f"p{n % 7}", version=str(n)) for n in range(50))
    first = made(Content(facts=DEBIAN, packages=packages))
    assert made(Content(facts=DEBIAN, packages=packages[::-1] + packages[:3])) == first
    assert len(json.loads(first)["components"]) == 50


def test_serial_numbers_follow_the_image():
    content = Content(facts=DEBIAN)
    serials = {json.loads(made(content, name=name))["serialNumber"] for name in ("web", "db", "web")}
    assert len(serials) == 2
    assert all(UUID(serial) for serial in serials)


HOSTILE = (
    Package(name="", version=""),
    Package(name="/", version="@"),
    Package(name="image", version="ims"),
    Package(name="package-1", version="package-2"),
    Package(name="a/../b@c?d=e#f%00", version="\x00\n<script>", architecture="&x=y", source="??", source_version="%"),
    Package(name="\ud800", version="1", kind="rpm"),
    Package(name="x", version="\ud800", source="\udfff"),
    Package(name="é" * 500, version=":" * 500, kind="rpm"),
    Package(name="x", version="epoch:1", kind="rpm", architecture=" "),
    Package(name="x", version="1", kind="../deb"),
)


def test_hostile_names_make_a_valid_document():
    text = made(Content(facts=replace(DEBIAN, product_name='"}{', distro="%&?"), packages=HOSTILE), name='"],\n"x')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    told = json.loads(text)
    assert len(told["components"]) == len(HOSTILE)
    assert len({each["bom-ref"] for each in told["components"]}) == len(HOSTILE)
    assert all(PackageURL.from_string(each["purl"]) for each in told["components"] if "purl" in each)


def test_an_image_without_packages_makes_a_valid_document():
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(made(Content(facts=OsFacts()))) is None


def test_a_moment_without_time_zone_is_a_mistake():
    with pytest.raises(ValueError, match="time zone"):
        sbom_json(Content(facts=DEBIAN), name="web", version="1", digest=DIGEST, at=datetime(2026, 1, 1))
