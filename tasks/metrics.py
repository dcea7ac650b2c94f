"""The catalog's and this host's figures as Prometheus reads them. Where they come from is `models.figures`, `models.tallies`
and `tasks.engine.serving.counters`; how they are served is `tasks.engine.scraping`.

Names ending in `_total` only grow: the catalog's whatever is deleted, the host's until its NBD server is started again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlmodel import Session

from models import figures
from models.accounts import require_operator
from models.tables import Tally
from models.tallies import BOUNDS, IMAGE_MAKERS, list_tallies
from models.vocabulary import Outcome
from tasks.engine.serving.counters import HostCounters, read_counters
from tasks.engine.settings import load_settings
from tasks.resources import catalog, require_account

Samples = Mapping[Any, float]
"""Values by the tuple of their labels."""


def exposition(part: Literal["all", "catalog", "host"] = "all") -> bytes:
    """The text. Of several hosts with one catalog, one serves `all` of it and the others `host`.

    Raises StateRefused unless the account that asks is an operator, and Unavailable.
    """
    began = time.monotonic()
    settings = load_settings()
    found: list[Metric] = []
    with catalog() as session:
        require_operator(session, name=require_account(session, account=settings.account), step="read the metrics")
        if part != "host":
            found += _catalog_metrics(session)
    counters = read_counters(settings.exports_socket.parent) if part != "catalog" else None
    found += _host_metrics(settings.host, counters) if counters else []
    found.append(gauge("metrics_collect_seconds", "How long it took to collect these.", (), {(): time.monotonic() - began}))
    return _text(found)


def counter(name: str, help: str, labels: Sequence[str], samples: Samples) -> Metric:
    """`ims_<name>_total`."""
    family = CounterMetricFamily(f"ims_{name}", help, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def gauge(name: str, help: str, labels: Sequence[str], samples: Samples) -> Metric:
    """`ims_<name>`."""
    family = GaugeMetricFamily(f"ims_{name}", help, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _catalog_metrics(session: Session) -> Iterator[Metric]:
    tallies = list_tallies(session)
    yield _attempts(tallies)
    yield from _made(tallies)
    yield from _operations(session)
    yield from _images(session)
    ecs = {(count.host, count.state.value): float(count.ecs) for count in figures.count_ecs(session)}
    yield gauge("ecs", "ECSs by host and state, deleted ones not among them.", ("host", "state"), ecs)


def _attempts(tallies: Sequence[Tally]) -> Metric:
    help = "Attempts of operations that ended, by outcome: done, failed, or lost where their process ended without a word."
    family = HistogramMetricFamily("ims_operation_duration_seconds", help, labels=("kind", "outcome"))
    limits = [*(f"{bound}.0" for bound in BOUNDS), "+Inf"]
    for tally in tallies:
        buckets = list(zip(limits, map(float, accumulate(tally.spread)), strict=True))
        family.add_metric((tally.kind, tally.outcome.value), buckets, tally.seconds)
    return family


def _made(tallies: Sequence[Tally]) -> Iterator[Metric]:
    """Of images that were finished, in bytes of all time."""
    done = [tally for tally in tallies if tally.kind in IMAGE_MAKERS and tally.outcome is Outcome.DONE]
    for name, help, samples in (
        ("data", "Guest-visible data of disks that were brought in.", {tally.kind: tally.data_bytes for tally in done}),
        ("stored", "The same, compressed.", {tally.kind: tally.stored_bytes for tally in done}),
        ("new", "What had to be stored of it: the rest was there.", {tally.kind: tally.new_bytes for tally in done}),
        (
            "saved",
            "Data that took no room, by compression or because it was there.",
            {tally.kind: max(0, tally.data_bytes - tally.new_bytes) for tally in done},
        ),
    ):
        yield counter(f"image_{name}_bytes", help, ("kind",), {(kind,): float(value) for kind, value in samples.items()})


def _operations(session: Session) -> Iterator[Metric]:
    running = figures.count_running(session)
    under_way = {(each.kind,): float(each.operations) for each in running}
    oldest = {(each.kind,): each.oldest.timestamp() for each in running}
    failed = {(): float(figures.count_failed(session))}
    yield gauge("operations_running", "Operations that nobody has ended.", ("kind",), under_way)
    yield gauge("operations_oldest_timestamp_seconds", "When the oldest of them was first begun.", ("kind",), oldest)
    yield gauge("operations_failed", "Operations that failed and were not tried again.", (), failed)


def _images(session: Session) -> Iterator[Metric]:
    counts = {(count.type.value, count.state.value): float(count.images) for count in figures.count_images(session)}
    held = figures.sum_bytes(session)
    help = "Images by the widest circle that may launch them and by state, deleted ones not among them."
    yield gauge("images", help, ("type", "state"), counts)
    yield gauge("images_virtual_bytes", "Sizes of their disks as guests see them.", (), {(): float(held.virtual)})
    yield gauge("images_data_bytes", "Data on their disks.", (), {(): float(held.data)})
    yield gauge("images_stored_bytes", "The same, compressed, each image counted whole.", (), {(): float(held.stored)})


def _host_metrics(host: str, counters: HostCounters) -> Iterator[Metric]:
    label, here = ("host",), (host,)
    demanded = counters.fetched_chunks - counters.filled_chunks
    fetched = {(host, "guest"): float(demanded), (host, "fill"): float(counters.filled_chunks)}
    yield counter("cache_hits", "Chunk reads that the host's cache answered.", label, {here: float(counters.hits)})
    help = "Chunks fetched from the store, because a guest waited for them or in the background."
    yield counter("cache_fetched_chunks", help, ("host", "cause"), fetched)
    yield counter("cache_fetched_bytes", "Their raw bytes.", label, {here: float(counters.fetched_bytes)})
    yield counter("cache_failures", "Chunk reads that failed.", label, {here: float(counters.failures)})
    yield counter("exports_read_bytes", "Bytes read of served disks.", label, {here: float(sum(counters.read.values()))})
    yield gauge("cache_used_bytes", "Bytes of chunks in the host's cache.", label, {here: float(counters.cache_bytes)})
    yield gauge("cache_capacity_bytes", "Bytes that it may hold.", label, {here: float(counters.cache_capacity)})
    help = "When the host's NBD server was started, and counts since."
    yield gauge("exports_start_timestamp_seconds", help, label, {here: counters.started})


class _Found(Collector):
    """Metrics that were collected before."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        return self._metrics


def _text(metrics: Sequence[Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Found(metrics))
    return generate_latest(registry)
