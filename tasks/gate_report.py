"""What the publish gate says of an image: plain values, and the report as markdown. No Prefect; the steps are `tasks.gate`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel

from models.market_tables import Scan
from models.tables import Image
from tasks.engine.inspection.content import Content, Finding, Severity
from tasks.markdown import boot_parts, cell, code, fenced, table

SHOWN_FINDINGS = 200
SHOWN_NOTES = 50
MAX_PATH = 120


class FindingView(BaseModel):
    """Something found: `code` is stable, `path` is inside the image, `severity` is `finding` (rejects) or `warning`."""

    code: str
    path: str
    detail: str
    remedy: str
    severity: str


class ScanView(BaseModel):
    """One passage through the gate; the report and the package list are read by the scan's id."""

    id: str
    image_id: str
    digest: str
    purpose: str
    passed: bool
    findings: list[FindingView]
    at: datetime


def scan_view(row: Scan) -> ScanView:
    """The verdict as people and programs see it."""
    findings = [FindingView.model_validate(each) for each in row.findings]
    return ScanView(
        id=row.id,
        image_id=row.image_id,
        digest=row.digest,
        purpose=row.purpose,
        passed=row.passed,
        findings=findings,
        at=row.at,
    )


def gate_markdown(image: Image, content: Content, findings: Sequence[Finding], *, at: datetime) -> str:
    """The report. Text that came from the disk stands in code, never rendered."""
    against = [each for each in findings if each.severity is Severity.FINDING]
    warnings = [each for each in findings if each.severity is Severity.WARNING]
    verdict = "**passed**" if not against else f"**did not pass**: {len(against)} findings"
    rows = [
        ("Image", f"`{image.id}`"),
        ("Digest", f"`{image.digest}`"),
        ("Verdict", verdict),
        ("System", code(content.facts.product_name, limit=MAX_PATH)),
        ("Boot proof", f"{image.boot_proof}"),
        ("Looked at", f"{content.files:,} files, {len(content.packages):,} packages"),
        ("At", f"{at:%Y-%m-%d %H:%M} UTC"),
    ]
    parts = [f"# Publish gate: {cell(image.name)}", table(("", ""), rows)]
    parts += _section("Findings", against, "None.") + _section("Warnings", warnings, "None.")
    if content.notes:
        parts.append(f"## Not looked at\n\n{fenced(chr(10).join(content.notes[:SHOWN_NOTES]))}")
    return "\n\n".join([*parts, *boot_parts(image.boot_detail)])


def _section(title: str, found: Sequence[Finding], none: str) -> list[str]:
    if not found:
        return [f"## {title}\n\n{none}"]
    rows = [
        (f"`{each.code}`", code(each.path, limit=MAX_PATH), code(each.detail, limit=MAX_PATH), cell(each.remedy))
        for each in found[:SHOWN_FINDINGS]
    ]
    more = f"\n\n{len(found) - SHOWN_FINDINGS} more" if len(found) > SHOWN_FINDINGS else ""
    return [f"## {title}\n\n{table(('Code', 'Path', 'What', 'Remedy'), rows)}{more}"]
