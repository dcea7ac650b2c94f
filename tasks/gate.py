"""Steps of the publish gate: what is on an image's disk, whether it boots, what follows from both today.

What is looked for is `tasks.engine.inspection`; what is kept of it `models.gate`; how it reads `tasks.gate_report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from prefect import task

from models.gate import Passage, keep_content, known_content, record_passage
from models.images import own_image
from models.operations import heartbeat
from models.tables import Image
from models.versions import require_publishable
from models.vocabulary import BootProof, Purpose
from tasks.engine.errors import BootRefused, NotFound
from tasks.engine.inspection.content import RULES, Content, Finding, Severity
from tasks.engine.inspection.guestfs import DiskSource, InspectionLimits
from tasks.engine.inspection.sbom import sbom_json
from tasks.engine.inspection.scanning import scan
from tasks.engine.inspection.support import support_finding
from tasks.engine.inspection.vulnerabilities import known_vulnerabilities
from tasks.engine.settings import load_settings
from tasks.exports import require_server
from tasks.gate_report import ScanView, gate_markdown, scan_view
from tasks.policies import ONCE, RETRIED
from tasks.progress import log
from tasks.reports import publish
from tasks.resources import catalog
from tasks.sagas import Saga
from tasks.verification import accelerator, check_boot

SCAN_SECONDS = 900
BOOTS = (BootProof.AGENT, BootProof.LOGIN)
"""Signs of life that a user can do something with; a kernel's first lines are none."""


@task(**RETRIED, task_run_name="scan disk")
def scan_disk(image_id: str) -> int:
    """Look at every file of the image's system disk, in a caged appliance, unless the same content was looked at by these
    rules. Returns the number of findings."""
    content = _content(_image(image_id))
    log.info("Scan: %d files, %d packages, %d findings", content.files, len(content.packages), len(content.findings))
    return len(content.findings)


@task(**RETRIED, task_run_name="prove boot")
def prove_boot(saga: Saga, image_id: str) -> BootProof:
    """Boot the account's own image unless it has shown a login or an agent before; that it does not is for `judge` to say."""
    with catalog() as session:
        image = own_image(session, account=saga.account, image_id=image_id)
        require_publishable(image)
    if image.boot_proof in BOOTS:
        return image.boot_proof
    try:
        return check_boot.fn(saga, image_id)
    except BootRefused as refusal:
        log.info("Boot check: %s", refusal.message)
        return BootProof.NONE


@task(**RETRIED, task_run_name="judge")
def judge(saga: Saga, image_id: str, purpose: Purpose) -> ScanView:
    """Put together what the disk holds, how it boots, until when its system is supported and which vulnerabilities are known
    of its packages; keep the verdict and publish the report."""
    passage = pass_gate(image_id, purpose)
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        image = session.get_one(Image, image_id)
        view = scan_view(record_passage(session, image=image, passage=passage, by=saga.actor))
    publish(key=f"scan-{image_id}", text=passage.report, title=f"Gate: {image.name}")
    saga.result = view.model_dump(mode="json")
    return view


def pass_gate(image_id: str, purpose: Purpose) -> Passage:
    """The verdict of today on an image, whosever it is, with its report and its package list."""
    image, now = _image(image_id), datetime.now(UTC)
    content = _content(image)
    findings = findings_of(image, content)
    return Passage(
        purpose=purpose,
        passed=not any(finding.severity is Severity.FINDING for finding in findings),
        findings=[finding.as_json() for finding in findings],
        report=gate_markdown(image, content, findings, at=now),
        sbom=sbom_json(content, name=image.name, version=image.id, digest=image.digest or "", at=now),
    )


@task(**ONCE, task_run_name="check image")
def require_gate(account: str, image_id: str) -> None:
    """Refuse before anything is scanned what cannot be for others: not active, licensed, without a single system disk."""
    with catalog() as session:
        require_publishable(own_image(session, account=account, image_id=image_id))


def findings_of(image: Image, content: Content) -> list[Finding]:
    """Everything that speaks against the image today, findings before warnings."""
    found = [*content.findings, *_boot_findings(image)]
    if support := support_finding(content.facts, today=datetime.now(UTC).date()):
        found.append(support)
    if dump := load_settings().osv_dump:
        found += known_vulnerabilities(content, dump=dump)
    if content.more:
        found.append(_more(content.more))
    return sorted(found, key=lambda each: (each.severity is not Severity.FINDING, each.code, each.path))


def _boot_findings(image: Image) -> Sequence[Finding]:
    if image.boot_proof in BOOTS:
        return ()
    shown = f"the strongest sign of life was: {image.boot_proof}"
    remedy = "Look at the screen and the end of the console in the report; capture or import it anew once it boots."
    return (Finding(code="boot.no_login", path="", detail=f"it showed neither an agent nor a login; {shown}", remedy=remedy),)


def _more(count: int) -> Finding:
    return Finding(
        code="scan.more", path="", detail=f"{count} more findings than the report has room for", remedy="Start over."
    )


def _scan(digest: str) -> Content:
    require_server()
    limits = InspectionLimits(kvm=accelerator().kind == "kvm", timeout_seconds=SCAN_SECONDS)
    content = scan([DiskSource(load_settings().exports_socket, export=digest)], limits)
    with catalog(write=True) as session:
        keep_content(session, digest=digest, rules=RULES, content=content.as_json())
    return content


def _image(image_id: str) -> Image:
    """The image, whosever it is: whether the run may look at it was decided when it began."""
    with catalog() as session:
        image = session.get(Image, image_id)
    if image is None:
        raise NotFound("image", image_id)
    return image


def _content(image: Image) -> Content:
    """What is on the image's system disk, from an earlier scan of that content by these rules where there was one."""
    digest = next((disk.digest for disk in image.disks), None)
    if digest is None:
        raise NotFound("image", image.id)
    with catalog() as session:
        known = known_content(session, digest=digest, rules=RULES)
    return Content.from_json(known) if known else _scan(digest)
