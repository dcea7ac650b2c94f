"""Publish: an image becomes a version on the marketplace, once the gate and a reviewer let it pass.

Draft, scan, review, listed. A finding rejects the version; what was found is corrected by capturing anew and publishing the
next version. The review is a run of its own (`review-version`), which waits for its form without a process.
Needs the catalog, this host's libvirt, NBD server and libguestfs.
"""

from __future__ import annotations

from prefect import flow

from models.vocabulary import Purpose
from tasks import gate, images, publishing, reviewing
from tasks.market_views import MarketView
from tasks.publishing import Product
from tasks.requests import (
    AccountName,
    Categories,
    Identifier,
    Licence,
    ListingOptions,
    Summary,
    SupportContact,
    Title,
    VersionName,
)
from tasks.sagas import Call, saga


@flow(name="publish-image", flow_run_name="publish {title} {version} for {account}", description=__doc__)
def publish_image(
    image: Identifier,
    title: Title,
    version: VersionName,
    summary: Summary,
    categories: Categories,
    support_contact: SupportContact,
    licence: Licence,
    account: AccountName = "admin",
    options: ListingOptions = ListingOptions(),  # noqa: B008  # immutable in use, and the form shows its fields
) -> MarketView:
    """Submit the account's own image. Raises NotFound, RequestRefused, StateRefused; a rejected version is a result."""
    image_id = images.image_id_of(account, image)
    said = {"summary": summary, "categories": categories, "support_contact": support_contact, "licence": licence}
    product = Product(title=title, version=version, description=options.description, logo_png=options.logo_png, **said)
    facts = {"image": image_id, "title": title, "version": version}
    with saga(Call(kind="publish", account=account, key=options.idempotency_key, facts=facts)) as held:
        if held.result is not None:
            return MarketView.model_validate(held.result)
        version_id = publishing.submit(held, image_id, product)
        gate.scan_disk(image_id)
        gate.prove_boot(held, image_id)
        scan = gate.judge(held, image_id, Purpose.PUBLISH)
        publishing.close_scan(held, version_id, scan, options.review_days)
        reviewing.ask_reviewers(held, version_id)
        return publishing.report_version(held, version_id)
