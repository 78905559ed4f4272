"""What a Prometheus server would read: through the text format, and back."""

import asyncio
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from dromos import HandshakeError, PermanentError, events
from dromos.events import BridgeEvent
from dromos.model import Message
from tests.driver.harness import URL, Notes, Stage, Tokens, until

Key = tuple[str, tuple[tuple[str, str], ...]]


class Scrape:
    """One scrape: samples by name and labels, families by name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = generate_latest(registry).decode()
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        samples = [sample for family in self.families.values() for sample in family.samples]
        self.samples: dict[Key, float] = {}
        for sample in samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in self.samples, f"{key} is there twice"
            self.samples[key] = sample.value
        # The other format is what a server asks for first, and it is stricter about names.
        again = list(read_openmetrics(openmetrics(registry).decode()))
        assert len(again) == len({family.name for family in again})

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return {name for name, _ in self.samples}

    def value(self, name: str, **labels: str) -> float:
        """One sample, by all of its labels."""
        return self.samples[name, tuple(sorted(labels.items()))]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples that have these labels, among others perhaps."""
        return sum(
            value
            for (found, having), value in self.samples.items()
            if found == name and set(labels.items()) <= set(having)
        )

    def has(self, name: str, **labels: str) -> bool:
        """Whether there is a sample with these labels, among others perhaps."""
        return any(
            found == name and set(labels.items()) <= set(having) for found, having in self.samples
        )

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels of each sample of a name."""
        return [dict(having) for found, having in self.samples if found == name]


class ObservedStage(Stage):
    """A stage whose bridge tells more observers."""

    def __init__(self, *observers: Callable[[BridgeEvent], None], **options: Any) -> None:
        self.observers = observers
        super().__init__(**options)

    def _note(self, event: BridgeEvent) -> None:
        super()._note(event)
        for observer in self.observers:
            observer(event)


class Moody(Notes):
    """A handler that does not like every message."""

    async def on_message(self, message: Message) -> None:
        await super().on_message(message)
        if message == "raise":
            raise ValueError("not this one")


async def scripted_run(*observers: Callable[[BridgeEvent], None]) -> ObservedStage:
    """A real bridge that lives through what has a metric; one session runs on, one has ended.

    It hands over, has a handler that raises, loses its link, is refused and finds nobody,
    and comes back.  Another session of it is sent away for good.
    """
    stage = ObservedStage(*observers, tokens=Tokens(lifetime=600), handler=Moody())
    stage.start()
    await until(lambda: stage.handler.sends)
    for message in ("hello", "raise"):
        await stage.handler.sends[0](message)
    await until(lambda: stage.of(events.HandedOver))
    stage.dialer.then(HandshakeError("busy", status=503), HandshakeError("no route to host"))
    stage.far.drop()
    await until(lambda: 2 == len(stage.of(events.Connected)))
    other = asyncio.ensure_future(stage.bridge.maintain_websocket("c-2", URL, Notes()))
    await until(lambda: 3 == len(stage.of(events.Connected)))
    stage.far.close(1008)
    await asyncio.wait([other])
    assert isinstance(other.exception(), PermanentError)
    return stage
