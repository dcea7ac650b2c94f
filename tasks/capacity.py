"""Steps of the capacity report: look at the catalog, list the store, publish. What it says is `tasks.capacity_report`."""

from __future__ import annotations

from dataclasses import asdict

from prefect import task

from tasks.capacity_report import CapacityView, StoreLine, capacity_markdown, capacity_view
from tasks.engine.blobs.occupancy import occupancy
from tasks.engine.settings import load_settings
from tasks.policies import ONCE, RETRIED
from tasks.reports import publish
from tasks.resources import catalog, images_bucket
from tasks.sagas import Saga


@task(**RETRIED, task_run_name="look at the catalog")
def look(days: int) -> CapacityView:
    """Everything but the store, in one reading transaction."""
    with catalog() as session:
        return capacity_view(session, days=days)


@task(**RETRIED, task_run_name="list the store")
def list_store() -> StoreLine:
    """Chunks and bytes in the bucket, from a listing of bounded length."""
    return StoreLine(**asdict(occupancy(images_bucket())))


@task(**ONCE, task_run_name="report")
def report_capacity(saga: Saga, view: CapacityView) -> CapacityView:
    """Publish the report; the operation keeps its sums."""
    publish(key="capacity", text=capacity_markdown(view, run_url=load_settings().run_url), title="Catalog and capacity")
    saga.result = view.model_dump(mode="json", include={"at", "bytes", "dedup_factor", "store"})
    return view
