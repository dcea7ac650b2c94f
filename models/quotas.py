"""Exact limits per account: images, bytes and creations under way. The limits themselves are columns of the account.

Use is counted from the image rows while the account's row is locked, so it can neither drift nor race: on PostgreSQL the
lock is the row's, on SQLite it is the write transaction's.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import case, func
from sqlmodel import Session, col, select

from models.exceptions import NotVisible, QuotaReached
from models.tables import Account, Image
from models.vocabulary import UNFINISHED_IMAGE, ImageState


class Usage(NamedTuple):
    """What an account holds: images not deleted, their bytes (reserved until active), creations under way."""

    images: int
    bytes: int
    creations: int


def lock_account(session: Session, *, name: str) -> Account:
    """The account, locked until the caller's transaction ends; everything that counts its images waits here."""
    # Not the full FOR UPDATE: rows that merely refer to the account may still be inserted beside us.
    locked = select(Account).where(Account.name == name).with_for_update(key_share=True)
    account = session.exec(locked.execution_options(populate_existing=True)).first()
    if account is None:
        raise NotVisible("account", name)
    return account


def usage(session: Session, *, account: str) -> Usage:
    unfinished = case((col(Image.state).in_(UNFINISHED_IMAGE), 1), else_=0)
    counted = select(func.count(), func.sum(Image.reserved_bytes), func.sum(unfinished)).where(
        Image.owner == account, Image.state != ImageState.DELETED
    )
    images, held, creations = session.exec(counted).one()
    return Usage(images, int(held or 0), int(creations or 0))


def reserve_image(session: Session, *, account: str, size: int) -> None:
    """Make sure that one more image of `size` bytes fits; the caller inserts it before committing. Raises QuotaReached."""
    limits = lock_account(session, name=account)
    used = usage(session, account=account)
    _check("images", limit=limits.max_images, used=used.images, more=1)
    _check("creations", limit=limits.max_creations, used=used.creations, more=1)
    _check("bytes", limit=limits.max_bytes, used=used.bytes, more=size)


def reserve_creation(session: Session, *, account: str) -> None:
    """Make sure that one more creation may be under way: an image in error is being retried. Raises QuotaReached."""
    limits = lock_account(session, name=account)
    used = usage(session, account=account)
    _check("creations", limit=limits.max_creations, used=used.creations, more=1)


def settle_bytes(session: Session, *, image: Image, size: int) -> None:
    """Replace the bytes reserved for an image by those it turned out to hold. Raises QuotaReached."""
    session.refresh(image, with_for_update=True)  # image before account, as everywhere: no two runs wait for each other
    limits = lock_account(session, name=image.owner)
    used = usage(session, account=image.owner)
    if size > image.reserved_bytes:
        _check("bytes", limit=limits.max_bytes, used=used.bytes, more=size - image.reserved_bytes)
    image.reserved_bytes = size
    session.add(image)
    session.flush()


def _check(name: str, *, limit: int, used: int, more: int) -> None:
    if used + more > limit:
        raise QuotaReached(name, limit, used)
