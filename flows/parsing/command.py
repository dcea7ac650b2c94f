"""What the `ims` command takes: nouns, verbs and their options, each with the function that it runs. `flows.cli` runs it.

Functions are named as "module:function", so that no command pays for what another one imports.
"""

from __future__ import annotations

import argparse
from typing import Any

from flows.parsing.market import add_gate, add_market, add_shares
from flows.parsing.nouns import Nouns, page_options, run_options

FORMATS = ("raw", "qcow", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "zvhd", "zvhd2", "ova")
EXPORTS = ("raw", "qcow2", "vmdk", "vhd", "vhdx", "zvhd", "zvhd2")


def make_parser() -> argparse.ArgumentParser:
    """The whole command."""
    parser = argparse.ArgumentParser(prog="ims", description="Images and the ECSs launched from them.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print exactly one JSON object")
    common.add_argument("--account", help="who asks (default: IMS_ACCOUNT, else admin)")
    nouns = parser.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    _services(nouns, common)
    _accounts(nouns, common)
    _images(nouns, common)
    _ecs(nouns, common)
    _series(nouns, common)
    _store(nouns, common)
    _inbox(nouns, common)
    _hosts(nouns, common)
    add_market(nouns, common)
    return parser


def _services(nouns: Any, common: argparse.ArgumentParser) -> None:
    for verb, help in (
        ("up", "start the embedded services that are not running"),
        ("down", "stop what `ims up` started; data stays"),
        ("status", "show which services run"),
    ):
        nouns.add_parser(verb, parents=[common], help=help, description=help).set_defaults(
            run=f"flows.commands.services:{verb}"
        )
    help = "repair or report what killed runs left behind on this host (operators only)"
    reconcile = nouns.add_parser("reconcile", parents=[common], help=help, description=help)
    reconcile.add_argument("--dry-run", action="store_true", help="change nothing, say what would be done")
    reconcile.add_argument(
        "--remove-strangers", action="store_true", help="also remove domains and files that the catalog does not know"
    )
    reconcile.add_argument("--detach", action="store_true", help="hand the run to a worker and return")
    reconcile.set_defaults(run="flows.commands.operator:reconcile")
    help = "what the catalog holds, who holds it, and how fast runs are (operators only)"
    report = nouns.add_parser("report", parents=[common], help=help, description=help)
    report.add_argument("--days", type=int, default=30, metavar="N", help="how far back runs are looked at (default: 30)")
    report.set_defaults(run="flows.commands.watching:report")
    help = "figures of catalog and host in Prometheus' text format (operators only)"
    metrics = nouns.add_parser("metrics", parents=[common], help=help, description=help)
    metrics.add_argument(
        "--serve", type=int, metavar="PORT", help="serve them on 127.0.0.1 to whoever has IMS_HOME/metrics.token"
    )
    metrics.add_argument("--part", choices=("all", "catalog", "host"), default="all", help="of several hosts, one serves all")
    metrics.set_defaults(run="flows.commands.watching:show")


def _accounts(nouns: Any, common: argparse.ArgumentParser) -> None:
    account = Nouns(nouns, common, "account", "who owns images and ECSs")
    _account_verbs(account)
    account.add("list", "flows.commands.accounts:list_all", "list the accounts (operators only)")
    flavor = Nouns(nouns, common, "flavor", "sizes of guests")
    flavor.add("list", "flows.commands.accounts:flavors", "list the flavors")
    audit = Nouns(nouns, common, "audit", "who changed what, and when")
    audit.add("list", "flows.commands.accounts:audit", "the newest changes of what is yours").add_argument(
        "--subject", metavar="ID", help="of this image or ECS only"
    )


def _account_verbs(account: Nouns) -> None:
    create = account.add("create", "flows.commands.accounts:create", "make an account and show its API key once")
    create.add_argument("name")
    create.add_argument("--reviewer", action="store_true", help="it may review versions of the marketplace")
    change = account.add("set", "flows.commands.accounts:change", "set an account's roles and limits (operators only)")
    change.add_argument("name")
    for role in ("operator", "reviewer"):
        change.add_argument(f"--{role}", action=argparse.BooleanOptionalAction, help=f"give or take the {role} role")
    for limit in ("images", "creations", "bytes"):
        change.add_argument(f"--max-{limit}", type=int, metavar="N")
    for verb, function, help in (
        ("show", "show", "an account and what it uses of its limits"),
        ("keys", "list_keys", "the keys that prove an account, without what they are"),
        ("rotate", "rotate", "make a new API key in place of the others and show it once"),
        ("revoke", "revoke", "end API keys at once"),
    ):
        parser = account.add(verb, f"flows.commands.accounts:{function}", help)
        parser.add_argument("name", nargs="?", help="default: the account that asks; another one as an operator")
        if verb == "rotate":
            parser.add_argument("--grace-hours", type=int, default=0, metavar="N", help="let the old keys live on for so long")
        if verb == "revoke":
            parser.add_argument("--key", metavar="ID", help="this key only")


def _images(nouns: Any, common: argparse.ArgumentParser) -> None:
    image = Nouns(nouns, common, "image", "templates that ECSs are launched from")
    check = image.add("check", "flows.commands.images:check", "read a file's headers and say whether it can be imported")
    bring = image.add("import", "flows.commands.images:import_", "make an image of an external file")
    for parser in (check, bring):
        parser.add_argument("source", metavar="SOURCE", help="a path, inbox:KEY, or an http(s) URL")
        parser.add_argument("--format", choices=FORMATS, help="refuse the file unless it is of this format")
    bring.add_argument("--name", required=True)
    bring.add_argument("--checksum", metavar="sha256:HEX", help="verified before anything else reads the file")
    bring.add_argument("--verify", choices=("boot", "none"), default="boot", help="boot it before it becomes active (default)")
    bring.add_argument("--description", default="")
    bring.add_argument("--tag", action="append", default=[], dest="tags", metavar="TAG")
    bring.add_argument("--min-memory", type=int, default=0, metavar="MIB")
    run_options(bring)
    listing = image.add("list", "flows.commands.images:list_all", "list the images you see, newest first")
    listing.add_argument("--type", choices=("public", "private", "shared", "marketplace"))
    listing.add_argument("--all", action="store_true", help="also hidden and deprecated ones")
    page_options(listing)
    image.add("show", "flows.commands.images:show", "show one image", subject="IMAGE")
    lineage = image.add("lineage", "flows.commands.images:lineage", "what it came from, and what runs it", subject="IMAGE")
    lineage.add_argument("--draw", action="store_true", help="draw it as a picture in the Prefect UI")
    export = image.add("export", "flows.commands.images:export", "write a disk of an image to a file", subject="IMAGE")
    export.add_argument("--format", required=True, choices=EXPORTS)
    export.add_argument("--to", metavar="PATH", help="new file; without it, the exports bucket and a presigned URL")
    export.add_argument("--disk", type=int, default=0, metavar="INDEX")
    export.add_argument("--detach", action="store_true", help="hand the run to a worker and return")
    add_shares(image)
    add_gate(image)
    image.add("delete", "flows.commands.images:delete", "delete an image; its ECSs live on", subject="IMAGE")
    for verb, help in (
        ("deactivate", "refuse launches and exports of an image"),
        ("reactivate", "allow them again"),
        ("deprecate", "hide an image from lists; it still launches"),
        ("protect", "refuse its deletion"),
        ("unprotect", "allow its deletion"),
    ):
        image.add(verb, f"flows.commands.images:{verb}", help, subject="IMAGE")


def _ecs(nouns: Any, common: argparse.ArgumentParser) -> None:
    ecs = Nouns(nouns, common, "ecs", "guests launched from images")
    launch = ecs.add("launch", "flows.commands.guests:launch", "launch an ECS from an image", subject="IMAGE")
    launch.add_argument("--name", required=True)
    launch.add_argument("--flavor", default="small", help="see `ims flavor list`")
    launch.add_argument("--host", metavar="NAME", help="launch it there (default: a host with room)")
    launch.add_argument("--disk", type=int, metavar="GIB", help="size of the system disk")
    launch.add_argument(
        "--data-disk", action="append", type=int, default=[], metavar="GIB", help="add an empty data disk; may be repeated"
    )
    launch.add_argument("--ssh-key", action="append", default=[], metavar="FILE", help="public key that may log in")
    launch.add_argument("--user-data", metavar="FILE", help="script or cloud-config for first boot, on the host that launches")
    launch.add_argument("--standalone", action="store_true", help="also copy the whole base into the ECS's own file")
    run_options(launch)
    page_options(ecs.add("list", "flows.commands.guests:list_all", "list your ECSs, newest first"))
    ecs.add("show", "flows.commands.guests:show", "show one ECS", subject="ECS")
    console = ecs.add("console", "flows.commands.guests:console", "the end of its serial console", subject="ECS")
    console.add_argument("--lines", type=int, default=50)
    shot = ecs.add("screenshot", "flows.commands.guests:screenshot", "save a picture of its screen", subject="ECS")
    shot.add_argument("--to", metavar="PATH", help="default: beside its disk")
    _capture(ecs)
    attach = ecs.add("attach", "flows.commands.guests:attach", "add a disk from a data-disk image", subject="ECS")
    attach.add_argument("image", metavar="IMAGE", help="an image of a single data disk")
    attach.add_argument("--detach", action="store_true", help="hand the run to a worker and return")
    for verb in ("stop", "start", "delete"):
        ecs.add(verb, f"flows.commands.guests:{verb}", f"{verb} an ECS", subject="ECS")


def _capture(ecs: Nouns) -> None:
    capture = ecs.add("capture", "flows.commands.guests:capture", "make an image of a running or stopped ECS", subject="ECS")
    capture.add_argument("--name", required=True, help="name of the image")
    scope = capture.add_mutually_exclusive_group()
    scope.add_argument("--whole", action="store_true", help="all disks at one point in time")
    scope.add_argument("--disk", type=int, metavar="INDEX", help="a data-disk image of this one disk")
    capture.add_argument(
        "--no-generalize", dest="generalize", action="store_false", help="keep host keys, machine-id, logs and the like in it"
    )
    capture.add_argument(
        "--consistency",
        choices=("best", "filesystem", "crash"),
        default="best",
        help="filesystem refuses anything less than frozen file systems, crash does not freeze",
    )
    capture.add_argument(
        "--verify", choices=("boot", "none"), default="boot", help="boot it before it becomes active (default)"
    )
    capture.add_argument("--description", default="")
    capture.add_argument("--tag", action="append", default=[], dest="tags", metavar="TAG")
    capture.add_argument("--series", metavar="NAME", help="series that it belongs to")
    run_options(capture)


def _hosts(nouns: Any, common: argparse.ArgumentParser) -> None:
    host = Nouns(nouns, common, "host", "machines that run guests (operators only)")
    add = host.add("add", "flows.commands.hosts:add", "make a machine known, with its work pool and deployments")
    add.add_argument("name", metavar="NAME", help="as IMS_HOST says there")
    add.add_argument("--uri", default="qemu:///system", help="how others reach its libvirt, such as qemu+ssh://NAME/system")
    add.add_argument("--pool", metavar="NAME", help="work pool that its worker serves (default: the host's name)")
    host.add("list", "flows.commands.hosts:list_all", "the hosts, what they have left, and when they were last heard of")
    for verb, help in (
        ("show", "one host and the ECSs on it"),
        ("drain", "launch nothing there any more; names the ECSs that are still there"),
        ("resume", "launch there again"),
    ):
        host.add(verb, f"flows.commands.hosts:{verb}", help).add_argument("name", metavar="NAME")
    remove = host.add("remove", "flows.commands.hosts:remove", "forget a host on which no ECS is left")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--lost", action="store_true", help="a silent host that will not come back, with the ECSs on it")


def _series(nouns: Any, common: argparse.ArgumentParser) -> None:
    series = Nouns(nouns, common, "series", "images captured again and again, of which the last ones are kept")
    run = series.add("run", "flows.commands.series:run", "capture ECSs into a series and thin it")
    run.add_argument("ecs", nargs="+", metavar="ECS", help="id, or name where it is unambiguous")
    run.add_argument("--series", default="nightly", metavar="NAME")
    run.add_argument("--keep", type=int, default=7, metavar="N", help="images of each ECS to keep (default: 7)")
    run.add_argument("--apply", action="store_true", help="delete what is beyond them; without it they are only named")
    run.add_argument(
        "--no-generalize", dest="generalize", action="store_false", help="keep host keys, machine-id, logs and the like in it"
    )
    run.add_argument("--verify", choices=("boot", "none"), default="boot", help="boot each before it is active (default)")
    run.add_argument("--detach", action="store_true", help="hand the run to a worker and return")
    series.add("list", "flows.commands.series:list_all", "list your series and what they occupy")


def _store(nouns: Any, common: argparse.ArgumentParser) -> None:
    store = Nouns(nouns, common, "store", "chunks and manifests in the object store (operators only)")
    store.add("stats", "flows.commands.store:stats", "logical, unique and stored bytes")
    verify = store.add("verify", "flows.commands.store:verify", "look for what is damaged or missing")
    verify.add_argument("--all", action="store_true", help="read every chunk, not only the share that is due")
    collect = store.add("gc", "flows.commands.store:collect", "find what nothing needs")
    collect.add_argument("--apply", action="store_true", help="delete it; without it nothing is changed")
    collect.add_argument(
        "--keep-hours", type=float, default=24, metavar="N", help="keep objects younger than this (default: 24)"
    )
    collect.add_argument("--adopt", action="store_true", help="take over a bucket that is marked as another catalog's")
    for parser in (verify, collect):
        parser.add_argument("--detach", action="store_true", help="hand the run to a worker and return")


def _inbox(nouns: Any, common: argparse.ArgumentParser) -> None:
    inbox = Nouns(nouns, common, "inbox", "objects put into the inbox bucket, which are imported by themselves")
    inbox.add("list", "flows.commands.inbox:list_all", "your objects there and what became of them")
    inbox.add("serve", "flows.commands.inbox:serve", "receive the store's notifications (`ims up` does it already)")
