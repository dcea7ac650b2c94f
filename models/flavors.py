"""Flavors: the sizes of guest that can be asked for. Whether an image fits one is decided in `models.ecs`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from models.exceptions import NotVisible
from models.tables import Flavor


def get_flavor(session: Session, *, name: str) -> Flavor:
    flavor = session.get(Flavor, name)
    if flavor is None:
        raise NotVisible("flavor", name)
    return flavor


def list_flavors(session: Session) -> Sequence[Flavor]:
    """Smallest first."""
    return session.exec(select(Flavor).order_by(col(Flavor.memory_mib), col(Flavor.vcpus))).all()
