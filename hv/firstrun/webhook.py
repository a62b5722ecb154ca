"""Job webhook: the last one tells the servers of the answers how the first run went.

What is told is put down before it is sent, with its id: after a power cut, or at the next try, a server gets the same event
again, and knows it by that. Nothing waits for this job, and a server that is slow or gone costs only its own time.
"""

import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from hv.firstrun.certificate import AUTHORITY, fingerprint
from hv.firstrun.console import host_keys
from hv.firstrun.state import STATE_FOLDER, StateFolder
from hv.firstrun.world import TransientError, World, write_atomically
from installer.errors import Exit, HyperError
from installer.handoff import Handoff, HandoffWebhook

EVENT = f"{STATE_FOLDER}/webhook.event.json"
"""What is told; the same to all."""
PATIENCE = 60.0
"""Seconds for one server, all tries together."""
TAKEN = range(200, 300)
"""HTTP's codes for taken."""


@dataclass(frozen=True)
class WebhookJob:
    """Tells."""

    hostname: str
    webhooks: tuple[HandoffWebhook, ...]
    jobs: tuple[str, ...]
    """Names of the jobs before it."""
    name: str = "webhook"
    requires: tuple[str, ...] = ()

    @property
    def timeout(self) -> float:
        """Seconds: each server's time, and some for ourselves."""
        return 30 + PATIENCE * len(self.webhooks)

    def applies(self, handoff: Handoff) -> str | None:
        """Only where the answers name a server that wants it."""
        return None if handoff.webhooks else "the answers name no server that is told"

    def run(self, world: World) -> None:
        """Each server once; one that took it is not told again. Raises TransientError when one did not."""
        body = self._event(world)
        failed = []
        for number, webhook in enumerate(self.webhooks):
            if told(world, number).exists():
                world.say(f"{webhook.url} was told before")
                continue
            if why := _send(world, webhook, body):
                world.say(f"{webhook.url}: {why}")
                failed.append(f"{webhook.url}: {why}")
            else:
                write_atomically(told(world, number), "")
                world.say(f"{webhook.url} was told")
        if failed:
            raise TransientError(
                "Not every server was told how the first run went.",
                why="; ".join(failed),
                remedy="Nothing else of the host depends on it. `hv firstrun retry webhook` tries again, and so does the "
                "next boot.",
            )

    def verify(self, world: World) -> None:
        """Each server has answered that it took it."""
        missing = [each.url for number, each in enumerate(self.webhooks) if not told(world, number).exists()]
        if missing:
            raise HyperError(
                "Not every server was told how the first run went.",
                why=f"no note that these took it: {', '.join(missing)}",
                remedy="`hv firstrun retry webhook` tries again.",
            )

    def _event(self, world: World) -> bytes:
        """What is told: put down already, or made now."""
        from installer.probe.identity import identity
        from installer.probe.root import LiveRoot
        from installer.webhooks.event import ErrorTold, Event, JobTold

        file = world.path(EVENT)
        try:
            there = Event.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            pass
        except ValidationError:
            world.warn(f"{EVENT} was damaged, and is made anew with another id")
        else:
            return there.model_dump_json(exclude_none=True).encode()
        states = StateFolder(world.path(STATE_FOLDER))
        jobs = []
        for name in self.jobs:
            state = states.read(name)
            error = state.error and ErrorTold(
                what=state.error.what, why=state.error.why, remedy=state.error.remedy, code=Exit.step
            )
            jobs.append(JobTold(name=name, state=state.status.value, error=error))
        made = Event(
            id=str(uuid.uuid4()),
            time=world.clock.now(),
            installation=str(uuid.uuid4()),
            event="first-run",
            host=self.hostname,
            identity=identity(LiveRoot(str(world.root)), world.probe(world.root)),
            host_keys=tuple(key for _kind, key in host_keys(world)),
            jobs=tuple(jobs),
            authority=fingerprint(world.path(AUTHORITY)),
        )
        text = made.model_dump_json(exclude_none=True)
        write_atomically(file, text, 0o600)
        return text.encode()


def told(world: World, number: int) -> Path:
    """Is there once that server took it."""
    return world.path(f"{STATE_FOLDER}/webhook-{number}.told")


def _send(world: World, webhook: HandoffWebhook, body: bytes) -> str | None:
    """Why it was not taken; None: it was."""
    from installer.web import Client, Place
    from installer.webhooks.event import KIND, SIGNATURE, sign

    headers = {KIND: "first-run"}
    if webhook.secret_file:
        try:
            secret = world.path(webhook.secret_file).read_bytes().removesuffix(b"\n")
        except OSError as error:
            return f"the key that signs it cannot be read: {error.strerror}"
        headers[SIGNATURE] = sign(body, secret, int(world.clock.now().timestamp()))
    client = Client(patience=max(1.0, min(PATIENCE, world.remaining() - 5)), say=world.say)
    if webhook.proxy:
        proxies = {"http": webhook.proxy, "https": webhook.proxy, "no": ",".join(webhook.no_proxy)}
        client = replace(client, proxies=proxies)
    try:
        place = replace(Place.parse(webhook.url), certificate=webhook.certificate)
        reply = client.ask(place, body=body, headers=headers)
    except HyperError as error:
        return error.why
    if reply.status not in TAKEN:
        return f"it refuses, with HTTP state {reply.status}"
    return None
