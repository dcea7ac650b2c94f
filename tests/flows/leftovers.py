"""What killed runs leave behind, made by hand: rows, operations, domains, folders. No tests here."""

from __future__ import annotations

import os
import uuid
import xml.etree.ElementTree as ET
from typing import Any

import libvirt
from guest_shell import domain

from models.ecs import NewEcs, create_ecs, delete_ecs
from models.locks import lock_ecs
from models.operations import Owner, Request, begin_operation, bind_subject, fail, finish, record_step
from models.tables import Ecs
from models.trail import Actor
from tasks.engine.settings import load_settings
from tasks.resources import catalog


def copy_guest(ecs_id: str, copy_id: str) -> None:
    """Define the ECS's guest a second time under another id, with a folder."""
    root = ET.fromstring(domain(ecs_id).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    for name, text in (("name", f"ims-{copy_id}"), ("uuid", copy_id)):
        element = root.find(name)
        assert element is not None
        element.text = text
    libvirt.open("qemu:///system").defineXML(ET.tostring(root, encoding="unicode"))
    (load_settings().ecs_folder / copy_id).mkdir()


def left_of(ecs_id: str) -> list[str]:
    """What this host still has of an ECS."""
    names = [found.name() for found in libvirt.open("qemu:///system").listAllDomains()]
    folder = load_settings().ecs_folder / ecs_id
    return [name for name in names if ecs_id in name] + [folder.name for _ in range(folder.exists())]


def new_row(image: dict[str, Any], *, deleted: bool = False) -> str:
    """An ECS's row without anything on the host: building, or a tombstone."""
    with catalog(write=True) as session:
        new = NewEcs(name="row-alone", image_id=image["id"], host=load_settings().host, flavor="tiny")
        row = create_ecs(session, new=new, by=Actor("admin"))
        if deleted:
            delete_ecs(session, ecs=row, by=Actor("admin"))
        return row.id


def dead_operation(
    kind: str, *, subject: str | None = None, locks: str | None = None, step: tuple[str, dict[str, Any]] | None = None
) -> str:
    """A running operation whose process is gone."""
    owner = Owner(load_settings().host, 1 << 22, "0")
    request = Request(kind=kind, account="admin", key=str(uuid.uuid4()))
    with catalog(write=True) as session:
        begun = begin_operation(session, request=request, owner=owner, is_alive=lambda owner: True)
        assert begun.lease is not None
        if subject is not None:
            bind_subject(session, lease=begun.lease, subject_id=subject)
        if step is not None:
            record_step(session, lease=begun.lease, name=step[0], detail=step[1])
        if locks is not None:
            lock_ecs(session, ecs_id=locks, operation_id=begun.operation.id, is_alive=lambda owner: True)
        return begun.operation.id


def ended_operation(kind: str, *, failed: bool) -> str:
    """One that is over."""
    owner = Owner(load_settings().host, os.getpid(), "0")
    request = Request(kind=kind, account="admin", key=str(uuid.uuid4()))
    with catalog(write=True) as session:
        begun = begin_operation(session, request=request, owner=owner, is_alive=lambda owner: True)
        assert begun.lease is not None
        if failed:
            fail(session, lease=begun.lease, code="c", message="m")
        else:
            finish(session, lease=begun.lease, result={})
        return begun.operation.id


def set_ecs(ecs_id: str, **values: object) -> None:
    """Write on an ECS's row as nobody should."""
    with catalog(write=True) as session:
        row = session.get(Ecs, ecs_id)
        assert row is not None
        row.sqlmodel_update(values)
        session.add(row)
