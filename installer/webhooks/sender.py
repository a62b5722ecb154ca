"""Delivers events to one server from a thread of its own, in order; a server that is slow or gone costs nothing."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from installer.answers.model import Webhook
from installer.errors import HyperError
from installer.web import Client, Place
from installer.webhooks.event import KIND, SIGNATURE, Event, sign

STEP_PATIENCE = 10.0
"""Seconds for telling of a step: the next one is more interesting."""
PATIENCE = 120.0
"""Seconds for telling that it started."""


class Sender:
    """One server's events."""

    def __init__(self, webhook: Webhook, secret: bytes | None, client: Client) -> None:
        self._webhook = webhook
        self._secret = secret
        self._client = client
        self._place = replace(Place.parse(webhook.url), certificate=webhook.certificate)
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._notes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._end_by = float("inf")
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Send it when its turn comes; returns at once."""
        if event.event in self._webhook.events:
            self._queue.put(event)

    def end(self, end_by: float) -> None:
        """There will be no more events; give up at this time (of the monotonic clock)."""
        self._end_by = end_by
        self._ending.set()
        self._queue.put(None)

    def wait(self) -> bool:
        """Wait until all is sent or given up; whether it was sent."""
        self._thread.join(max(0.0, self._end_by - time.monotonic()))
        if self._thread.is_alive():
            self._notes.put(f"webhook {self._place}: not every event was delivered in time")
        return not self._thread.is_alive()

    def notes(self) -> tuple[str, ...]:
        """What went wrong since the last time."""
        found = []
        while not self._notes.empty():
            found.append(self._notes.get())
        return tuple(found)

    def _work(self) -> None:
        missed, failing = 0, False
        while (event := self._queue.get()) is not None:
            if failing and event.event == "step" and self._ending.is_set():
                missed += 1  # how it ended matters now
                continue
            if self._deliver(event.model_copy(update={"missed": missed})):
                missed, failing = 0, False
            else:
                missed += event.event == "step"
                failing = True

    def _deliver(self, event: Event) -> bool:
        body = event.model_dump_json(exclude_none=True).encode()
        headers: dict[str, str] = {KIND: event.event}
        if self._secret is not None:
            headers[SIGNATURE] = sign(body, self._secret, int(time.time()))
        patience = STEP_PATIENCE if event.event == "step" else PATIENCE
        left = max(0.5, min(patience, self._end_by - time.monotonic()))
        try:
            reply = replace(self._client, patience=left).ask(self._place, body=body, headers=headers)
        except HyperError as error:
            self._notes.put(f"webhook {self._place}: `{event.event}` was not delivered: {error.why}")
            return False
        except Exception as error:  # whatever a server can bring about must not reach the installation
            self._notes.put(
                f"webhook {self._place}: `{event.event}` was not delivered: {type(error).__name__}"
            )
            return False
        if not 200 <= reply.status < 300:
            self._notes.put(
                f"webhook {self._place}: `{event.event}` was refused with HTTP state {reply.status}"
            )
        return True


def make_senders(
    webhooks: tuple[Webhook, ...], read: Callable[[str], bytes], client: Client
) -> tuple[Sender, ...]:
    """One for each. Raises HyperError if a URL or secret cannot be used."""
    return tuple(
        Sender(webhook, read(webhook.secret.file) if webhook.secret else None, client)
        for webhook in webhooks
    )
