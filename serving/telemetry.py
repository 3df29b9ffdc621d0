"""Figures about the service for Prometheus, in a registry of its own."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric

from feature_repo.near_cache import NearCache
from serving.statuses import answer, route_of

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Telemetry:
    """Counters and histograms; the names are the contract with dashboards and alerts."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.seconds = Histogram(
            "upnext_request_seconds", "Time to answer", ["surface"], buckets=SECONDS, registry=registry
        )
        self.stages = Histogram(
            "upnext_stage_seconds",
            "Time of one stage of the funnel",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.skipped = Counter(
            "upnext_skipped_parts",
            "Parts of a request that failed or were late",
            ["part", "why"],
            registry=registry,
        )
        self.events = Counter("upnext_events", "Engagement events by outcome", ["outcome"], registry=registry)
        self.impressions_lost = Counter(
            "upnext_impressions_lost", "Impressions that could not be logged", registry=registry
        )
        self.features_lost = Counter(
            "upnext_features_lost", "Answers whose ranking features could not be logged", registry=registry
        )
        self.swaps = Counter("upnext_release_swaps", "Releases swapped in", ["outcome"], registry=registry)
        self.release = Gauge(
            "upnext_release_serving",
            "1 for the release that serves, 0 for those before",
            ["version"],
            registry=registry,
        )
        self.applied = Gauge(
            "upnext_live_events_applied", "Log events applied since the start", registry=registry
        )

        self.lacking = Counter(
            "upnext_features_lacking",
            "Values of the online store that could not be used",
            ["view", "why"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "upnext_video_feature_fallbacks",
            "Times that video features came from a place further down the line",
            ["place", "why"],
            registry=registry,
        )
        self.near = NearCaches()
        registry.register(self.near)
        self.variant_answers = Counter(
            "upnext_experiment_answers",
            "Answers by variant; not whole where a part was skipped",
            ["experiment", "variant", "whole"],
            registry=registry,
        )
        self.variant_seconds = Histogram(
            "upnext_experiment_seconds",
            "Time of the funnel's stages by variant",
            ["experiment", "variant"],
            buckets=SECONDS,
            registry=registry,
        )
        self.requests = Counter(
            "upnext_requests", "Requests answered", ["route", "status"], registry=registry
        )

    def answered(self, route: str, status: int) -> None:
        self.requests.labels(route, str(status)).inc()

    def tried(self, variants: Mapping[str, str], seconds: float, whole: bool) -> None:
        """Count an answer for each experiment -> variant: guardrails that the event log does not know."""
        for pair in variants.items():
            self.variant_answers.labels(*pair, "yes" if whole else "no").inc()
            self.variant_seconds.labels(*pair).observe(seconds)

    def skip(self, part: str, why: str) -> None:
        self.skipped.labels(part, why).inc()

    def lack(self, view: str, why: str, number: int) -> None:
        self.lacking.labels(view, why).inc(number)

    def fall_back(self, place: str, why: str) -> None:
        self.fallbacks.labels(place, why).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class NearCaches:
    """Rows that the near caches of the release in use found, missed and dropped."""

    def __init__(self) -> None:
        self.caches: Mapping[str, NearCache] = {}

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "upnext_near_cache_rows", "Rows by what became of them", labels=["view", "outcome"]
        )
        for view, cache in self.caches.items():
            for outcome, number in dict(cache.counts).items():
                family.add_metric([view, outcome], number)
        yield family


class Counted:
    """Counts the answers of an ASGI app by route and status."""

    def __init__(self, app: Any, answered: Callable[[str, int], None]) -> None:
        self._app, self._answered = app, answered

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await answer(self._app, scope, receive, send, lambda status: self._answered(route_of(scope), status))
