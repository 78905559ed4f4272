"""Renders bridge events as OpenTelemetry spans: attempts, refreshes and hand-overs."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dromos import events
from dromos.events import BridgeEvent
from dromos.telemetry.facts import error_facts
from dromos.telemetry.otel_names import SCOPE, Attributes, where

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span, TracerProvider

__all__ = ["OtelSpans"]

ATTEMPT: Final = "bridge.attempt"
REFRESH: Final = "bridge.refresh"
HANDOVER: Final = "bridge.handover"


class _Begun(NamedTuple):
    """A span that has not ended, and the Unix time at which it began."""

    span: "Span"
    at: float


@dataclass(slots=True)
class _Open:
    """The spans of a session that have not ended."""

    about: Attributes
    links: "list[Link]"
    attempts: dict[int, _Begun] = field(default_factory=dict[int, _Begun])
    refresh: _Begun | None = None
    handover: _Begun | None = None


class OtelSpans:
    """The spans of one bridge.  Without an SDK they go nowhere, at next to no cost.

        bridge = Bridge(tokens, on_event=OtelSpans().on_event)

    A connection lives for months, and a trace should not: each attempt without an open link,
    each refresh and each hand-over begins a trace of its own.  It is linked to the span in
    which the session was started, if there was one.  A hand-over's attempt is its child.
    """

    def __init__(self, *, tracer_provider: "TracerProvider | None" = None) -> None:
        """Begin without a span.

        Args:
            tracer_provider: Who collects.  None (default) is the global one.

        Raises:
            ImportError: If `opentelemetry-api` is not installed.
        """
        self._trace = trace = _api()
        self._tracer = (tracer_provider or trace.get_tracer_provider()).get_tracer(SCOPE)
        self._sessions: dict[int, _Open] = {}

    def on_event(self, event: BridgeEvent) -> None:
        """Begin or end spans: what `Bridge(on_event=...)` takes."""
        if isinstance(event, events.SessionStarted):
            self._sessions[event.session] = self._begun(event)
            return
        spans = self._sessions.get(event.session)
        if spans is None:
            return
        self._hear_of_attempts(spans, event)
        self._hear_of_refreshes(spans, event)
        self._hear_of_handovers(spans, event)
        if isinstance(event, events.SessionEnded):
            del self._sessions[event.session]

    def _begun(self, event: events.SessionStarted) -> _Open:
        about = where(event.endpoint)
        about |= {"bridge.connection_id": event.connection_id, "bridge.session": event.session}
        around = self._trace.get_current_span().get_span_context()
        return _Open(about, [self._trace.Link(around)] if around.is_valid else [])

    def _hear_of_attempts(self, spans: _Open, event: BridgeEvent) -> None:
        match event:
            case events.AttemptStarted(link=link, handover=handover):
                parent = None
                if handover:
                    parent = spans.handover = self._start(HANDOVER, spans, event)
                attempt = self._start(ATTEMPT, spans, event, within=parent)
                attempt.span.set_attribute("bridge.link", link)
                spans.attempts[link] = attempt
            case events.LinkOpened(link=link):
                self._end(spans.attempts.pop(link, None), event)
            case events.AttemptFailed(link=int(link), error=error):
                self._end(spans.attempts.pop(link, None), event, error)
            case events.AttemptFailed(link=None, error=error):
                # No token, so no dial: an attempt that is over as soon as it is told of.
                self._end(self._start(ATTEMPT, spans, event), event, error)
            case events.RenewalFailed(error=error) | events.RenewalStopped(error=error):
                self._end_attempts(spans, event, error)
            case events.SessionEnded(error=error):
                self._end_attempts(spans, event, error)
            case _:
                pass

    def _end_attempts(self, spans: _Open, event: BridgeEvent, error: Exception | None) -> None:
        for attempt in spans.attempts.values():
            self._end(attempt, event, error)
        spans.attempts.clear()

    def _hear_of_refreshes(self, spans: _Open, event: BridgeEvent) -> None:
        match event:
            case events.RefreshStarted():
                self._end(spans.refresh, event)
                spans.refresh = self._start(REFRESH, spans, event)
            case events.TokenObtained():
                if spans.refresh is not None:
                    self._tell_token(spans.refresh.span, event)
                self._end(spans.refresh, event)
                spans.refresh = None
            case events.AttemptFailed() | events.RenewalFailed() | events.SessionEnded():
                self._end(spans.refresh, event, event.error)
                spans.refresh = None
            case _:
                pass

    def _tell_token(self, refresh: "Span", event: events.TokenObtained) -> None:
        refresh.set_attribute("bridge.token.generation", event.generation)
        if not event.renewed:
            refresh.set_attribute("error.type", "failed")
            had_to_do = "the token that was there has to do"
            refresh.set_status(self._trace.Status(self._trace.StatusCode.ERROR, had_to_do))

    def _hear_of_handovers(self, spans: _Open, event: BridgeEvent) -> None:
        match event:
            case events.HandedOver():
                self._end(spans.handover, event)
            case events.RenewalFailed() | events.RenewalStopped():
                self._end(spans.handover, event, event.error)
            case events.Disconnected(error=Exception()) | events.SessionEnded():
                # The old link did not last: what is being dialled will end a gap instead.
                self._end(spans.handover, event, event.error)
            case _:
                return
        spans.handover = None

    def _start(
        self, name: str, spans: _Open, event: BridgeEvent, *, within: _Begun | None = None
    ) -> _Begun:
        from opentelemetry.context import Context

        # An empty context: else the span in which the session was started would be the
        # parent of all that happens in the months to come.
        context = Context()
        if within is not None:
            context = self._trace.set_span_in_context(within.span, context)
        span: Span = self._tracer.start_span(
            name,
            context=context,
            kind=self._trace.SpanKind.CLIENT,
            attributes=spans.about,
            links=spans.links,
            start_time=_nanoseconds(event.at),
        )
        return _Begun(span, event.at)

    def _end(
        self, begun: _Begun | None, event: BridgeEvent, error: Exception | None = None
    ) -> None:
        if begun is None:
            return
        span, at = begun
        if isinstance(event, events.SessionEnded) and error is None:
            span.set_attribute("bridge.outcome", "cancelled")
        if error is not None:
            # Not `record_exception`, which adds a traceback, and it holds what frames hold.
            told = error_facts(error)
            span.set_attribute("error.type", told["error_type"])
            if "status" in told:
                span.set_attribute("http.response.status_code", told["status"])
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, told["error"]))
        # By the wall clock, which somebody may have set back meanwhile.
        span.end(_nanoseconds(max(at, event.at)))


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)


def _api() -> Any:
    try:
        from opentelemetry import trace
    except ImportError as error:
        raise ImportError(
            'OpenTelemetry spans need opentelemetry-api: pip install "dromos[otel]"'
        ) from error
    return trace
