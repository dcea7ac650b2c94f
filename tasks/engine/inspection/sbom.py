"""The software bill of materials of an image: its installed packages as a CycloneDX 1.6 document.

https://cyclonedx.org/docs/1.6/json/ - an image is an `operating-system`: one "without regard to deployment model". The document
lists what is installed and says nothing of what depends on what, because a scan does not look into that. Package URLs follow
https://github.com/package-url/purl-spec; a package whose name makes no URL has none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import astuple
from datetime import datetime
from typing import Any, cast
from uuid import UUID, uuid5

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.schema.schema import SchemaVersion1Dot6
from packageurl import PackageURL

from tasks.engine.inspection.content import Content, Package
from tasks.engine.inspection.facts import UNKNOWN, OsFacts
from tasks.engine.inspection.support import system_name, version_text

HEADER = {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6"}
PURL_KINDS = ("deb", "rpm", "apk")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
"""What the three package managers allow; anything else was forged."""
PURL_NAMESPACES = {
    "alpinelinux": "alpine",
    "centos-stream": "centos",
    "kalilinux": "kali",
    "oraclelinux": "oracle",
    "rhel": "redhat",
}
"""Where the purl specification's vendors have other names than libguestfs."""
_SERIALS = UUID("5c0f1b0e-6b0b-4a52-9a0e-0d8a5f7f9c3d")


def sbom_json(content: Content, *, name: str, version: str, digest: str, at: datetime) -> str:
    """The document for the image `name` in `version` as of `at`; the same input gives the same bytes.

    `at` has a time zone (ValueError). A second or so per thousand packages.
    """
    if at.tzinfo is None:
        raise ValueError("the moment of a bill of materials needs a time zone")
    bom = Bom(
        serial_number=uuid5(_SERIALS, json.dumps([digest, name, version, at.isoformat()])),
        metadata=BomMetaData(
            component=_image(content.facts, name=name, version=version, digest=digest), timestamp=at, tools=_tools()
        ),
        components=_components(content),
    )
    return json.dumps(HEADER | _plain(bom), indent=2)


def _plain(bom: Bom) -> dict[str, Any]:
    """The library's serialization without its outputter: that takes quadratic time and says that packages depend on nothing."""
    document: dict[str, Any] = json.loads(cast(Any, bom).as_json(view_=SchemaVersion1Dot6))
    return document


def _image(facts: OsFacts, *, name: str, version: str, digest: str) -> Component:
    told = {
        "image:digest": digest,
        "os:distro": system_name(facts),
        "os:version": version_text(facts),
        "os:name": facts.product_name,
    }
    return Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=name,
        version=version,
        bom_ref="image",
        properties=[Property(name=f"ims:{key}", value=value) for key, value in told.items() if value != UNKNOWN],
    )


def _tools() -> ToolRepository:
    return ToolRepository(components=[Component(type=ComponentType.APPLICATION, name="ims", bom_ref="ims")])


def _components(content: Content) -> Iterator[Component]:
    """References are numbers in order, so that no package's name can clash with another reference."""
    for number, package in enumerate(sorted(set(content.packages), key=astuple), start=1):
        yield Component(
            type=ComponentType.LIBRARY,
            name=package.name,
            version=package.version,
            bom_ref=f"package-{number}",
            purl=_purl(package, content.facts),
        )


def _purl(package: Package, facts: OsFacts) -> PackageURL | None:
    """pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12&upstream=openssl, an rpm's epoch as a qualifier."""
    if package.kind not in PURL_KINDS or not NAME.fullmatch(package.name):
        return None
    namespace = PURL_NAMESPACES.get(system_name(facts), system_name(facts))
    epoch, colon, rest = package.version.partition(":") if package.kind == "rpm" else ("", "", "")
    qualifiers = {
        "arch": package.architecture,
        "distro": "" if namespace == UNKNOWN else f"{namespace}-{version_text(facts)}",
        "epoch": epoch if colon and epoch != "0" else "",
        "upstream": _upstream(package),
    }
    known = None if namespace == UNKNOWN else namespace
    url = PackageURL(package.kind, known, package.name, rest if colon else package.version, qualifiers)
    try:
        return PackageURL.from_string(url.to_string())
    except ValueError:
        return None


def _upstream(package: Package) -> str:
    """The source package, with its version where that is another one; an rpm's source is named without an epoch."""
    if not package.source:
        return ""
    own = package.version.rpartition(":")[2] if package.kind == "rpm" else package.version
    other = package.source_version not in ("", own)
    return f"{package.source}@{package.source_version}" if other else package.source
