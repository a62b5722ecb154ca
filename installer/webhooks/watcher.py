"""Follows an installation and tells its webhooks."""

import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from installer.answers.model import Answers
from installer.errors import Exit, HyperError
from installer.execute.context import Context
from installer.execute.executor import Result
from installer.execute.progress import Moment, State
from installer.execute.records import HOST_KEY, UNLOCK_KEY
from installer.execute.recovery import RECOVERY_KEY
from installer.execute.watch import Watcher
from installer.facts import Facts
from installer.plan.model import Plan
from installer.probe.identity import Identity, identity
from installer.probe.root import LiveRoot, Root
from installer.web import Client
from installer.webhooks.event import BundleTold, ErrorTold, Event, EventKind, StepTold
from installer.webhooks.sender import Sender, make_senders

PATIENCE_AT_END = 30.0
"""Seconds to wait at the end for what is not yet delivered."""


class WebhookWatcher(Watcher):
    """Tells every webhook of the answers."""

    def __init__(self, answers: Answers, client: Client, root: Root | None = None) -> None:
        """Begins to listen; nothing is sent yet.

        Raises:
            HyperError: a webhook's secret cannot be read (Exit.answers).
        """
        self._host = answers.hostname
        self._root = root or LiveRoot()
        self._identity = Identity()
        self._installation = str(uuid.uuid4())
        self._senders: tuple[Sender, ...] = make_senders(answers.webhooks, _secret, client)

    def planned(self, facts: Facts, plan: Plan, *, resumed: bool) -> None:  # noqa: ARG002
        """Learns which machine it is."""
        self._identity = identity(self._root, facts)

    def begins(self, context: Context) -> None:  # noqa: ARG002
        """Tells that it started."""
        self._tell("started", percent=0.0)

    def step(self, at: Moment, total: int, state: State) -> None:
        """Tells of a step."""
        told = StepTold(id=at.step.id, summary=at.step.summary, number=at.number, of=total, state=state)
        self._tell("step", step=told, percent=round(at.percent, 2))

    def finished(self, context: Context, result: Result) -> None:
        """Tells that it succeeded, and waits a little until that is delivered."""
        keys = tuple(
            event.details[0]
            for event in context.journal.events
            if event.what == "learned" and event.step in (HOST_KEY, UNLOCK_KEY) and event.details
        )
        sealed = context.journal.learned(RECOVERY_KEY)
        self._tell(
            "succeeded",
            percent=100.0,
            seconds=round(result.seconds, 1),
            host_keys=keys,
            recovery_key=sealed,
        )
        self._end()

    def failed(self, error: HyperError, bundle: BundleTold | None) -> None:
        """Tells that it failed, and waits a little until that is delivered."""
        told = ErrorTold(what=error.what, why=error.why, remedy=error.remedy, code=error.code)
        self._tell("failed", error=told, bundle=bundle)
        self._end()

    def notes(self) -> tuple[str, ...]:
        """Of every server."""
        return tuple(note for sender in self._senders for note in sender.notes())

    def _tell(self, kind: EventKind, **values: Any) -> None:
        event = Event(
            id=str(uuid.uuid4()),
            time=datetime.now(UTC),
            installation=self._installation,
            event=kind,
            host=self._host,
            identity=self._identity,
            **values,
        )
        for sender in self._senders:
            sender.put(event)

    def _end(self) -> None:
        end_by = time.monotonic() + PATIENCE_AT_END
        for sender in self._senders:
            sender.end(end_by)
        for sender in self._senders:
            sender.wait()


def _secret(file: str) -> bytes:
    try:
        value = Path(file).read_bytes().removesuffix(b"\n")
    except OSError as error:
        why = error.strerror or str(error)
    else:
        if value:
            return value
        why = "it is empty"
    raise HyperError(
        "the secret of a webhook cannot be read",
        why=f"{file}: {why}",
        remedy="put the file there, readable for root, or name another in the answers",
        code=Exit.answers,
    )


def make_client(answers: Answers, proxy: str | None = None) -> Client:
    """How webhooks are reached: the answers' certificates and proxy, else this proxy, else the environment's."""
    ca = "\n".join(answers.system.ca_certificates).encode() or None
    proxy = answers.network.proxy or proxy
    if proxy is None:
        return Client(ca=ca)
    return Client(ca=ca, proxies={"http": proxy, "https": proxy, "no": ",".join(answers.network.no_proxy)})
