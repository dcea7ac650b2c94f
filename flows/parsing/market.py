"""What `ims market` takes, and what `ims image` does to share, scan and revoke. The rest is `flows.parsing.command`."""

from __future__ import annotations

import argparse
from typing import Any

from flows.parsing.nouns import Nouns, page_options, run_options


def add_shares(image: Nouns) -> None:
    """Verbs of an image's shares."""
    share = image.add("share", "flows.commands.shares:share", "offer an image to other accounts", subject="IMAGE")
    share.add_argument("accounts", nargs="+", metavar="ACCOUNT")
    share.add_argument("--days", type=int, metavar="N", help="the share ends by itself after so many days")
    unshare = image.add("unshare", "flows.commands.shares:unshare", "take an image back from accounts", subject="IMAGE")
    unshare.add_argument("accounts", nargs="+", metavar="ACCOUNT")
    accept = image.add("accept", "flows.commands.shares:accept", "accept an image that is shared with you", subject="IMAGE")
    accept.add_argument("--digest", help="refuse anything but this content")
    image.add("reject", "flows.commands.shares:reject", "hide an image that is shared with you", subject="IMAGE")
    image.add("leave", "flows.commands.shares:leave", "give a share back for good", subject="IMAGE")
    image.add("members", "flows.commands.shares:members", "who was offered your image, and what they answered", subject="IMAGE")
    offers = image.add("offers", "flows.commands.shares:offers", "what others share with you")
    offers.add_argument("--state", choices=("pending", "accepted", "rejected"), default="pending")
    page_options(offers)


def add_gate(image: Nouns) -> None:
    """Verbs of the publish gate, and of revocation."""
    scan = image.add(
        "scan", "flows.commands.images:scan", "put an image through the publish gate; exit 2 where it fails", subject="IMAGE"
    )
    scan.add_argument("--sbom", metavar="PATH", help="write the package list (CycloneDX) to a file")
    scan.add_argument("--detach", action="store_true", help="hand the run to a worker and return")
    image.add("scans", "flows.commands.images:scans", "earlier scans of your image", subject="IMAGE")
    image.add("report", "flows.commands.images:report", "the report and package list of a scan", subject="SCAN")
    image.add("public", "flows.commands.images:public", "scan an image and show it to all (operators only)", subject="IMAGE")
    image.add("unpublic", "flows.commands.images:unpublic", "take a public image back (operators only)", subject="IMAGE")
    revoke = image.add("revoke", "flows.commands.images:revoke", "deactivate an image and say what runs it", subject="IMAGE")
    revoke.add_argument("--descendants", action="store_true", help="and all that descends from it")


def add_market(nouns: Any, common: argparse.ArgumentParser) -> None:
    """The noun `market`."""
    market = Nouns(nouns, common, "market", "products that anybody may subscribe to and launch")
    _publish(market)
    listing = market.add("list", "flows.commands.market:list_all", "what is listed, newest first")
    listing.add_argument(
        "--search", default="", metavar="WORDS", help="each begins a word of title, summary, system or publisher"
    )
    listing.add_argument("--category", metavar="NAME")
    page_options(listing)
    market.add("show", "flows.commands.market:show", "a product, its licence and its versions", subject="LISTING")
    market.add("mine", "flows.commands.market:mine", "the versions that you submitted")
    market.add("version", "flows.commands.market:version", "a version and what the gate found", subject="VERSION")
    subscribe = market.add(
        "subscribe", "flows.commands.market:subscribe", "accept a licence and be able to launch", subject="LISTING"
    )
    accepted = subscribe.add_mutually_exclusive_group()
    accepted.add_argument("--accept", action="store_true", help="accept the licence that `ims market show` prints now")
    accepted.add_argument("--licence", metavar="DIGEST", help="accept the licence with this SHA-256 and no other")
    market.add("subscriptions", "flows.commands.market:subscriptions", "what you subscribed to")
    market.add("reviews", "flows.commands.market:reviews", "what waits for an answer (reviewers only)")
    review = market.add("review", "flows.commands.market:review", "answer a review (reviewers only)", subject="VERSION")
    review.add_argument("--decision", required=True, choices=("approve", "reject"))
    review.add_argument("--note", default="", help="what the publisher is told")
    withdraw = market.add("withdraw", "flows.commands.market:withdraw", "close a version", subject="VERSION")
    withdraw.add_argument(
        "--for", dest="scope", choices=("new", "all"), default="new", help="new subscribers (default), or all"
    )
    rescan = market.add("rescan", "flows.commands.market:rescan", "put what is listed through the gate again (operators only)")
    rescan.add_argument("--policy", choices=("notify", "withdraw-new", "withdraw-all"), default="notify")
    rescan.add_argument("--detach", action="store_true", help="hand the run to a worker and return")


def _publish(market: Nouns) -> None:
    publish = market.add(
        "publish", "flows.commands.market:publish", "submit an image as a version of a product", subject="IMAGE"
    )
    publish.add_argument("--title", required=True, help="of the product; its first version makes it")
    publish.add_argument("--version", required=True, metavar="NAME", help="such as 1.0")
    publish.add_argument("--summary", required=True, help="one line")
    publish.add_argument(
        "--category", action="append", required=True, dest="categories", metavar="NAME", help="may be repeated"
    )
    publish.add_argument("--support", required=True, metavar="CONTACT", help="where subscribers ask for help")
    publish.add_argument("--licence", required=True, metavar="FILE", help="text of the licence that subscribers accept")
    described = publish.add_mutually_exclusive_group()
    described.add_argument("--description", default="")
    described.add_argument("--description-file", metavar="FILE")
    publish.add_argument("--logo", metavar="FILE", help="a PNG of at most 64 KiB")
    publish.add_argument("--review-days", type=int, default=7, metavar="N", help="rejected without an answer after so long")
    run_options(publish)
