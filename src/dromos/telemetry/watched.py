"""What all exporters of metrics do alike: hear of a bridge's events, and look at it when asked."""

import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dromos.events import BridgeEvent
from dromos.interfaces import Handler
from dromos.snapshot import Census
from dromos.telemetry.measuring import Measurement, Measurer
from dromos.telemetry.table import METRICS, Metric
from dromos.telemetry.timing import timed

__all__ = [
    "BY_NAME",
    "CARRIED",
    "CARRYING",
    "CODES",
    "ENDPOINTS",
    "Exporter",
    "Figures",
    "Seen",
    "Watched",
]

ENDPOINTS: Final = 100
"""Endpoints that are told apart."""

CODES: Final = 40
"""Close codes that are told apart; a far side may make up 4,000."""

BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in METRICS}

CARRIED: Final = {
    ("bridge_messages_total", "received"): "received",
    ("bridge_messages_total", "sent"): "sent",
    ("bridge_message_bytes_total", "received"): "bytes_received",
    ("bridge_message_bytes_total", "sent"): "bytes_sent",
}
"""What links count themselves, by metric and direction: in a census it has these names.

The end of a link tells its part for good; that of open links is read when somebody asks.
"""

CARRYING: Final = frozenset(name for name, _ in CARRIED)
"""The metrics among them."""


class Watched(Protocol):
    """A `dromos.Bridge`, as its metrics see it."""

    def census(self) -> Census:
        """Return its running sessions added up."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there is to see of bridges at one moment.

    Attributes:
        status: Open sessions divided by running sessions; 0 if none runs.
        census: Their running sessions added up.
        carried: What all links have carried, those that ended included, as in `CARRIED`; what
            no link has told is absent.
    """

    status: float
    census: Census
    carried: Mapping[tuple[str, str], int]


class Figures(ABC):
    """What several bridges have counted together.

    Their events come on one thread or several, and whoever reads is on yet another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Weakly: a bridge that nobody has any more has no sessions either.
        self._measurers = weakref.WeakSet[Measurer]()
        self._bridges = weakref.WeakSet[Watched]()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._most: Counter[tuple[str, str]] = Counter()

    def follow(self, measurer: Measurer) -> None:
        """Have a bridge's sessions counted in the status."""
        with self._lock:
            self._measurers.add(measurer)

    def watch(self, bridge: Watched) -> None:
        """Have a bridge looked at whenever somebody reads."""
        with self._lock:
            self._bridges.add(bridge)

    def add(self, measurement: Measurement, connection_id: str) -> None:
        """Count a measurement of this connection's."""
        if measurement.name not in CARRYING:
            self.count(measurement, connection_id)
            return
        with self._lock:
            self._ended[measurement.name, measurement.labels[0]] += int(measurement.value or 0)

    @abstractmethod
    def count(self, measurement: Measurement, connection_id: str) -> None:
        """Count one that no link carries."""

    def hear(self, event: BridgeEvent) -> None:  # noqa: B027 - a hook
        """Hear of an event that has been counted; most have no use for it."""

    def look(self) -> Seen:
        """Return what there is to see now."""
        with self._lock:
            # These first: a link that ends meanwhile is then missed once, and not counted twice.
            ended = Counter(self._ended)
            bridges, measurers = list(self._bridges), list(self._measurers)
        census = _added_up([bridge.census() for bridge in bridges])
        return Seen(
            status=_status(measurers), census=census, carried=self._never_less(ended, census)
        )

    def status(self) -> float:
        """Return open sessions divided by running ones; a look costs more."""
        with self._lock:
            return _status(list(self._measurers))

    def _never_less(
        self, ended: Counter[tuple[str, str]], census: Census
    ) -> dict[tuple[str, str], int]:
        """Add up; Prometheus takes a counter that falls for one that began anew."""
        with self._lock:
            for key, name in CARRIED.items():
                live: int | None = getattr(census, name)
                if live is not None or key in ended:
                    self._most[key] = max(self._most[key], ended[key] + (live or 0))
            return dict(self._most)


class Exporter:
    """The metrics of one bridge, whichever system they go to."""

    def __init__(self, figures: Figures, measurer: Measurer) -> None:
        self._figures = figures
        self._measurer = measurer
        self._bridge: weakref.ref[Watched] | None = None
        figures.follow(measurer)

    def on_event(self, event: BridgeEvent) -> None:
        """Count an event: what `Bridge(on_event=...)` takes."""
        for measurement in self._measurer.measure(event):
            self._figures.add(measurement, event.connection_id)
        self._figures.hear(event)

    def watch(self, bridge: Watched) -> None:
        """Read from this bridge, whenever somebody asks, what makes no events.

        Those are the states of its sessions, the messages and bytes on its open links and its
        tokens' expiry.

        Raises:
            ValueError: If another one is watched already: its sessions have the same numbers.
        """
        if self._bridge is not None and self._bridge() is not bridge:
            kind = type(self).__name__
            raise ValueError(f"another bridge is watched already: make another {kind}")
        self._bridge = weakref.ref(bridge)
        self._figures.watch(bridge)

    def timed(self, handler: Handler) -> Handler:
        """Return a handler that does the same, and whose callbacks are timed.

            from dromos.telemetry.prometheus import PrometheusMetrics
            metrics = PrometheusMetrics()
            await bridge.maintain_websocket("c-1", "wss://host/ws", metrics.timed(handler))

        Each call of each callback looks at a clock twice and adds to a histogram: the only
        thing here that costs something for each message.

        Args:
            handler: What `Bridge.maintain_websocket` and `Group.start` take.

        Raises:
            TypeError: If `handler` is a class.
        """
        return timed(handler, self._observe_callback, now=time.perf_counter)

    def _observe_callback(self, method: str, seconds: float) -> None:
        self._figures.add(Measurement("bridge_handler_duration_seconds", (method,), seconds), "")

    def observe_loop_lag(self, seconds: float) -> None:
        """Count how late the event loop was; see `dromos.telemetry.loop_lag`."""
        self._figures.add(Measurement("bridge_loop_lag_seconds", (), seconds), "")


def _status(measurers: list[Measurer]) -> float:
    running = sum(measurer.running for measurer in measurers)
    connected = sum(measurer.connected for measurer in measurers)
    return connected / running if running else 0.0


def _sum(told: list[int | None]) -> int | None:
    known = [each for each in told if each is not None]
    return sum(known) if known else None


def _added_up(seen: list[Census]) -> Census:
    states: Counter[Any] = Counter()
    for census in seen:
        states.update(census.states)
    expiries = [census.token_expires_at for census in seen if census.token_expires_at is not None]
    return Census(
        at=max((census.at for census in seen), default=0.0),
        states=states,
        received=sum(census.received for census in seen),
        sent=sum(census.sent for census in seen),
        bytes_received=_sum([census.bytes_received for census in seen]),
        bytes_sent=_sum([census.bytes_sent for census in seen]),
        token_expires_at=min(expiries, default=None),
    )
