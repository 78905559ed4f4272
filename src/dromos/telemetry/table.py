"""The metrics: what each is called, what it counts, and with which labels."""

from dataclasses import dataclass
from typing import Final, Literal

from dromos.telemetry.timing import CALLBACKS

__all__ = ["METRICS", "Metric"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: Its name in Prometheus.
        otel: Its name in OpenTelemetry, where units are not part of names.
        kind: `"counter"`, `"gauge"` or `"histogram"`.
        unit: `"s"`, `"1"`, or what is counted, in braces: UCUM, as OpenTelemetry has it.
        labels: The names of its labels.
        meaning: What it tells, in a sentence.
        values: What its one label may be, where that is known; each is there from the beginning.
        buckets: Upper bounds of a histogram's buckets.
    """

    name: str
    otel: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...] = ()
    meaning: str
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

METRICS: Final = (
    # The four of the Go original, with its names.
    Metric(
        name="bridge_connections_total",
        otel="bridge.connections",
        kind="counter",
        unit="{connection}",
        labels=("endpoint",),
        meaning="Times that a session came to have an open link; a hand-over does not count.",
    ),
    Metric(
        name="bridge_disconnects_total",
        otel="bridge.disconnects",
        kind="counter",
        unit="{disconnect}",
        labels=("endpoint", "cause", "code"),
        meaning="Times that a session lost its last open link; a hand-over does not count. "
        "The cause is transient, permanent or shutdown, the code the CLOSE's if there was one.",
    ),
    Metric(
        name="bridge_token_refreshes_total",
        otel="bridge.token.refreshes",
        kind="counter",
        unit="{refresh}",
        labels=("outcome",),
        meaning="Token refresh cycles by what came of them; "
        "cancelled ones belonged to sessions that ended meanwhile.",
        values=("renewed", "failed", "cancelled"),
    ),
    Metric(
        name="bridge_connection_status",
        otel="bridge.connection.status",
        kind="gauge",
        unit="1",
        meaning="Open sessions divided by running sessions; 0 if none runs.",
    ),
    # What the Go original leaves in the dark.  OpenMetrics calls a counter without its `_total`,
    # so that a gauge `bridge_connections` would be the first counter's name again.
    Metric(
        name="bridge_sessions",
        otel="bridge.sessions",
        kind="gauge",
        unit="{session}",
        labels=("state",),
        meaning="Running sessions by where they are.",
        values=("waiting", "authorizing", "dialing", "greeting", "open", "closing"),
    ),
    Metric(
        name="bridge_sessions_ended_total",
        otel="bridge.sessions.ended",
        kind="counter",
        unit="{session}",
        labels=("endpoint", "outcome"),
        meaning="Sessions that are over: closed by us, cancelled, permanently failed, or with "
        "nobody but a person to help (interaction).",
    ),
    Metric(
        name="bridge_connect_attempts_total",
        otel="bridge.connect.attempts",
        kind="counter",
        unit="{attempt}",
        labels=("endpoint", "outcome"),
        meaning="Attempts at a token and a dial: opened, refused with an HTTP status, "
        "unreachable, no_token, failed in another way, or cancelled.",
    ),
    Metric(
        name="bridge_connect_duration_seconds",
        otel="bridge.connect.duration",
        kind="histogram",
        unit="s",
        labels=("endpoint",),
        meaning="How long dials took that opened a link: DNS, TCP, TLS and upgrade.",
        buckets=_QUICK,
    ),
    Metric(
        name="bridge_gap_seconds",
        otel="bridge.gap.duration",
        kind="histogram",
        unit="s",
        labels=("endpoint", "cause"),
        meaning="How long sessions were without a link, once they had one again. The cause is "
        "lost (no CLOSE), going_away (1001 or 1012), closed (another code), or handler.",
        buckets=_SLOW,
    ),
    Metric(
        name="bridge_handovers_total",
        otel="bridge.handovers",
        kind="counter",
        unit="{handover}",
        labels=("outcome",),
        meaning="Hand-overs by what came of them; the old link serves on after a failed one.",
        values=("completed", "failed", "cancelled"),
    ),
    Metric(
        name="bridge_handover_overlap_seconds",
        otel="bridge.handover.overlap",
        kind="histogram",
        unit="s",
        meaning="How long both links of a completed hand-over were open.",
        buckets=_SLOW,
    ),
    Metric(
        name="bridge_token_refresh_duration_seconds",
        otel="bridge.token.refresh.duration",
        kind="histogram",
        unit="s",
        labels=("outcome",),
        meaning="How long token refresh cycles took.",
        values=("renewed", "failed"),
        buckets=_SLOW,
    ),
    Metric(
        name="bridge_token_min_ttl_seconds",
        otel="bridge.token.min_ttl",
        kind="gauge",
        unit="s",
        meaning="Until the first token of a running session expires; negative once it has. "
        "Absent if none ever will.",
    ),
    Metric(
        name="bridge_messages_total",
        otel="messaging.client.*.messages",  # sent or consumed
        kind="counter",
        unit="{message}",
        labels=("direction",),
        meaning="Messages that crossed a link.",
        values=("received", "sent"),
    ),
    Metric(
        name="bridge_message_bytes_total",
        otel="bridge.message.bytes",
        kind="counter",
        unit="By",
        labels=("direction",),
        meaning="Bytes that messages took on the wire, with all that comes with them: frames, "
        "pings, TLS and handshakes.  Sent ones have arrived.  Absent where the kernel does not "
        "tell: only Linux does.",
    ),
    Metric(
        name="bridge_messages_lost_total",
        otel="bridge.messages.lost",
        kind="counter",
        unit="{message}",
        labels=("reason",),
        meaning="Messages that came and no handler saw (dropped), that the outbox gave up "
        "(unsent), or that may not have arrived (unknown).",
        values=("dropped", "unsent", "unknown"),
    ),
    Metric(
        name="bridge_handler_failures_total",
        otel="bridge.handler.failures",
        kind="counter",
        unit="{failure}",
        labels=("method",),
        meaning="Callbacks of the agent that raised.",
        values=(*CALLBACKS, "dedupe", "correlate"),
    ),
    Metric(
        name="bridge_handler_duration_seconds",
        otel="bridge.handler.duration",
        kind="histogram",
        unit="s",
        labels=("method",),
        meaning="How long callbacks of the agent took, what they await included; "
        "of handlers that `timed` or a service's `time_handlers` has wrapped only.",
        buckets=(0.0005, *_QUICK),
    ),
    Metric(
        name="bridge_ping_rtt_seconds",
        otel="bridge.ping.rtt",
        kind="histogram",
        unit="s",
        labels=("endpoint",),
        meaning="How long the answers to pings took.",
        buckets=_QUICK,
    ),
    Metric(
        name="bridge_loop_lag_seconds",
        otel="bridge.loop.lag",
        kind="histogram",
        unit="s",
        meaning="How late the event loop was, where somebody measures it.",
        buckets=_QUICK,
    ),
)
"""All of them.

Nothing here costs anything for each message, but for `bridge_handler_duration_seconds`, which
has to be asked for.
"""
