"""The catalog's tables of shares, the publish gate and the marketplace. The others are `models.tables`."""

# No postponed annotations here, as in models.tables.
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field

from models.rows import INDEXED_WORD, Row, new_id, utc_now, word_column
from models.vocabulary import Decision, MemberState, Purpose, VersionState, WithdrawnFor


class Member(Row, table=True):
    """One share of an image with one account. `digest` is what was offered: the image is seen while it has that content.

    `image_created_at` is the image's, so that an account's shared images are listed in order from one index.
    """

    __table_args__ = (
        UniqueConstraint("image_id", "account"),
        Index("ix_member_account_state_image", "account", "state", "image_created_at", "image_id"),
        Index("ix_member_expires_at", "expires_at"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    image_id: str = Field(foreign_key="image.id", max_length=36)
    account: str = Field(foreign_key="account.name", max_length=63)
    owner: str = Field(max_length=63)
    state: MemberState = Field(default=MemberState.PENDING, sa_type=word_column(MemberState))
    digest: str = Field(max_length=64)
    image_created_at: datetime
    expires_at: datetime | None = None
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)


class Listing(Row, table=True):
    """A marketplace product of one account. `version_id` is its newest listed version, which is what others see; `listed_at` is
    that one's, None where nothing is listed."""

    __table_args__ = (
        UniqueConstraint("owner", "title"),
        Index("ix_listing_title", "title"),
        Index("ix_listing_listed_at_id", "listed_at", "id"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    owner: str = Field(foreign_key="account.name", max_length=63)
    title: str = Field(max_length=128)
    # No foreign key: version refers to listing already.
    version_id: str | None = Field(default=None, max_length=36)
    listed_at: datetime | None = None
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)


class Version(Row, table=True):
    """One immutable image of a listing with all that is said of it. Nothing but its state changes once it is submitted.

    `image_created_at` is the image's, as in a share.
    """

    __table_args__ = (
        UniqueConstraint("listing_id", "number"),
        UniqueConstraint("listing_id", "name"),
        Index("ix_version_state_review_until", "state", "review_until"),
        Index("ix_version_owner_created_at", "owner", "created_at"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    listing_id: str = Field(foreign_key="listing.id", max_length=36)
    owner: str = Field(foreign_key="account.name", max_length=63)
    number: int
    name: str = Field(max_length=32)
    state: VersionState = Field(default=VersionState.DRAFT, sa_type=word_column(VersionState))
    image_id: str = Field(foreign_key="image.id", max_length=36, index=True)
    image_created_at: datetime
    digest: str = Field(max_length=64)
    summary: str = Field(max_length=255)
    description: str = Field(default="", sa_type=Text)
    categories: list[str] = Field(default_factory=list, sa_type=JSON)
    support_contact: str = Field(max_length=255)
    licence: str = Field(sa_type=Text)
    licence_digest: str = Field(max_length=64)
    logo_png: bytes | None = Field(default=None, sa_type=LargeBinary, repr=False)
    scan_id: str | None = Field(default=None, max_length=36)
    review_run_id: str | None = Field(default=None, max_length=36)
    review_until: datetime | None = None
    decision: Decision | None = Field(default=None, sa_type=word_column(Decision))
    reviewer: str | None = Field(default=None, max_length=63)
    note: str = Field(default="", max_length=1024)
    decided_at: datetime | None = None
    withdrawn_for: WithdrawnFor | None = Field(default=None, sa_type=word_column(WithdrawnFor))
    withdrawn_at: datetime | None = None
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)


class ListingWord(Row, table=True):
    """The search index of what is listed: one row a word or category (`:web`) of a listing."""

    __tablename__ = "listing_word"
    __table_args__ = (Index("ix_listing_word_listing_id_word", "listing_id", "word"),)

    # Begun words are found by a range, which a language's order would not give.
    word: str = Field(primary_key=True, sa_type=INDEXED_WORD)
    listing_id: str = Field(primary_key=True, foreign_key="listing.id", max_length=36)


class Subscription(Row, table=True):
    """An account's agreement to one text of a listing's licence: it covers every version with that text."""

    __table_args__ = (Index("ix_subscription_account_accepted_at", "account", "accepted_at"),)

    account: str = Field(primary_key=True, foreign_key="account.name", max_length=63)
    listing_id: str = Field(primary_key=True, foreign_key="listing.id", max_length=36, index=True)
    licence_digest: str = Field(primary_key=True, max_length=64)
    version_id: str = Field(foreign_key="version.id", max_length=36)
    accepted_at: datetime = Field(default_factory=utc_now)


class DiskScan(Row, table=True):
    """What a scan found on a disk of this content by these rules, whichever image holds it."""

    __tablename__ = "disk_scan"

    digest: str = Field(primary_key=True, max_length=64)
    rules: str = Field(primary_key=True, max_length=16)
    content: dict[str, Any] = Field(sa_type=JSON)
    at: datetime = Field(default_factory=utc_now)


class Scan(Row, table=True):
    """One passage through the publish gate: the verdict of a day, its findings, the report and the package list."""

    __table_args__ = (Index("ix_scan_image_id_at", "image_id", "at"),)

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    image_id: str = Field(foreign_key="image.id", max_length=36)
    digest: str = Field(max_length=64)
    owner: str = Field(max_length=63)
    purpose: Purpose = Field(sa_type=word_column(Purpose))
    passed: bool
    findings: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    report: str = Field(default="", sa_type=Text)
    sbom: str = Field(default="", sa_type=Text)
    at: datetime = Field(default_factory=utc_now)
