"""OpenTelemetry traces of requests, where the operator wants them: a span each, with stages and parts below.

Spans tell routes, names of parts, times and outcomes. What could lead to a person never enters one: no ids of
users or sessions, no paths, no queries, no texts of errors.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.statuses import answer, route_of
from upnext import __version__
from upnext.errors import ReleaseError
from upnext.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

T = TypeVar("T")
UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
PARENT = frozenset({b"traceparent", b"tracestate"})
"""Headers that tell of a caller's span."""
EXPORT_S = 5.0
"""Seconds that a collector may take for a batch, which no request waits for."""
_tracer: ContextVar[Tracer | None] = ContextVar("tracer", default=None)
"""Of the request under way; None where it is not traced."""


class Tracing:
    """Where spans go. A request costs nothing more than a look at this where there is none."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self.tracer = provider.get_tracer("upnext", __version__)

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """To the collector that the settings name, in the background; None where they name none."""
        if not settings.traces_endpoint:
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.traces_share)),
            resource=Resource.create({"service.name": "upnext", "service.version": __version__}),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=settings.traces_endpoint, timeout=EXPORT_S)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider)

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


class Traced:
    """A span for each request to an ASGI app, as a child of the caller's where it sends ``traceparent``."""

    def __init__(self, app: Any, tracing: Callable[[], Tracing | None]) -> None:
        self._app, self._tracing = app, tracing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        tracing = None
        if scope["type"] == "http" and scope["path"] not in UNTRACED:
            with suppress(ReleaseError):  # while the server starts
                tracing = self._tracing()
        if tracing is None:
            await self._app(scope, receive, send)
            return
        told = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in PARENT}
        parent = TraceContextTextMapPropagator().extract(told, Context())
        token = _tracer.set(tracing.tracer)
        try:
            with tracing.tracer.start_as_current_span(
                scope["method"],
                parent,
                SpanKind.SERVER,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                await answer(self._app, scope, receive, send, partial(_tell, span, scope))
        finally:
            _tracer.reset(token)


def _tell(span: Span, scope: Any, status: int) -> None:
    route = route_of(scope)
    span.update_name(f"{scope['method']} {route}")
    span.set_attribute("http.request.method", scope["method"])
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def span(name: str) -> AbstractContextManager[object]:
    """A span below the current one, while a request is traced; else nothing."""
    tracer = _tracer.get()
    return nullcontext() if tracer is None else _span(tracer, name)


def spanned(name: str, part: Callable[[], T]) -> T:
    """What a part gives, in a span of its own."""
    with span(name):
        return part()


def note(**attributes: str | int | float) -> None:
    """Tell something of the current span, as ``upnext.NAME``."""
    if _tracer.get() is not None:
        get_current_span().set_attributes({f"upnext.{name}": value for name, value in attributes.items()})


def skipped(part: str, why: str) -> None:
    """Tell that the answer goes on without a part."""
    if _tracer.get() is not None:
        get_current_span().add_event("skipped", {"upnext.part": part, "upnext.why": why})


@contextmanager
def _span(tracer: Tracer, name: str) -> Iterator[object]:
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as made:
        try:
            yield made
        except BaseException as error:
            made.set_status(StatusCode.ERROR, type(error).__name__)
            raise
