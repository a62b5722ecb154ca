"""The server's HTTP interface: answers out, events in, the fleet as JSON and as a page.

FastAPI, because it takes the same pydantic models as everything else here and describes what it makes of them by
OpenAPI; it is Starlette beneath, runs on uvicorn, and all three are in nixpkgs.
"""

import hashlib
import hmac
import json
import logging
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from installer import VERSION
from installer.errors import HyperError
from installer.fetch.package import pack
from installer.probe.identity import Identity
from installer.serve.fleet import FILE, Chooser, Fleet, Machine, Refusal, contents, read_fleet
from installer.serve.page import page
from installer.serve.state import Claimant, State
from installer.webhooks.event import SIGNATURE, Event, is_signed

LARGEST = 4 << 20
"""Bytes of a request."""
log = logging.getLogger("hyper-nixos.answers")


class Served:
    """A folder with its state."""

    def __init__(self, folder: Path, state: State) -> None:
        """Read the folder. Raises HyperError."""
        self.folder = folder
        self.state = state
        self._read(self._stamp())

    def _stamp(self) -> int:
        return (self.folder / FILE).stat().st_mtime_ns

    def _read(self, stamp: int) -> None:
        self.fleet: Fleet = read_fleet(self.folder)
        self.chooser = Chooser(self.fleet)
        secret = self.fleet.webhook_secret
        self.webhook_secret = Path(secret.file).read_bytes().removesuffix(b"\n") if secret else None
        self._stamped = stamp

    def refresh(self) -> None:
        """Read the folder anew when its file was changed; one that is wrong is not taken."""
        try:
            stamp = self._stamp()
            if stamp != self._stamped:
                self._stamped = stamp
                self._read(stamp)
                log.warning("%s was changed: %d machines", FILE, len(self.fleet.machines))
        except (HyperError, OSError) as error:
            log.error("%s was changed and is not taken: %s", FILE, error)

    def answer(self, body: bytes, authorization: str) -> bytes | Refusal:
        """What a machine that asks is given."""
        try:
            question = json.loads(body)
            if question["version"] != 1:
                return Refusal(400, "this server knows version 1 of the question")
            identity = Identity.model_validate(question["identity"])
            facts = question["facts"]
        except (ValueError, KeyError, TypeError, ValidationError):
            return Refusal(400, "the body is not what a machine that asks for answers sends")
        machine = self.chooser.choose(identity, facts)
        if isinstance(machine, Refusal):
            return self._refused(identity, machine)
        if not _may(machine, authorization):
            return self._refused(identity, Refusal(403, "this machine must show its token"), machine)
        answers, secrets = contents(self.folder, machine)
        claimant = Claimant(identity.machine(), identity.boot, identity.serial)
        why = self.state.claim(machine.name, claimant, once=machine.hand_out == "once")
        if why is not None:
            return self._refused(identity, Refusal(410, why), machine)
        log.info("%s: handed out to %s", machine.name, _shown(identity))
        name = "answers.json" if machine.answers.endswith(".json") else "answers.toml"
        return pack(answers, name, secrets) if secrets else answers

    @staticmethod
    def _refused(identity: Identity, refusal: Refusal, machine: Machine | None = None) -> Refusal:
        log.warning("%s: %s (%s)", _shown(identity), refusal.why, machine.name if machine else "no entry")
        return refusal

    def take(self, body: bytes, signature: str) -> Refusal | None:
        """Take an event."""
        if self.webhook_secret is not None and not is_signed(
            body, self.webhook_secret, signature, time.time()
        ):
            return Refusal(403, "the signature does not fit")
        try:
            event = Event.model_validate_json(body)
        except ValidationError:
            return Refusal(400, "the body is no event of version 1")
        self.state.record(event)
        return None


def _may(machine: Machine, authorization: str) -> bool:
    if machine.token_sha256 is None:
        return True
    kind, _, token = authorization.partition(" ")
    digest = hashlib.sha256(token.strip().encode()).hexdigest()
    return kind.lower() == "bearer" and hmac.compare_digest(digest, machine.token_sha256)


def _shown(identity: Identity) -> str:
    """A machine for the log: whatever it claims is data, never a line of its own."""
    return ascii(identity.serial or identity.uuid or ", ".join(identity.macs) or "a machine without a name")[
        :120
    ]


async def _body(request: Request) -> bytes | None:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST:
            return None
    return bytes(content)


def _refuse(refusal: Refusal) -> Response:
    return PlainTextResponse(refusal.why, refusal.status)


def make_app(served: Served) -> FastAPI:
    """The application, for uvicorn or any other ASGI server."""
    app = FastAPI(title="Hyper-NixOS answers", version=VERSION, docs_url=None, redoc_url=None)
    too_large = Refusal(413, "the body is too large")

    @app.post("/v1/answers", response_class=Response)
    async def answers(request: Request) -> Response:
        """Answers for the machine whose facts are posted."""
        body = await _body(request)
        if body is None:
            return _refuse(too_large)
        await run_in_threadpool(served.refresh)
        found = await run_in_threadpool(served.answer, body, request.headers.get("Authorization", ""))
        if isinstance(found, Refusal):
            return _refuse(found)
        return Response(found, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})

    @app.post("/v1/events", status_code=204, response_class=Response)
    async def events(request: Request) -> Response:
        """An event of an installation (docs/webhooks.md)."""
        body = await _body(request)
        if body is None:
            return _refuse(too_large)
        refusal = await run_in_threadpool(served.take, body, request.headers.get(SIGNATURE, ""))
        return _refuse(refusal) if refusal else Response(status_code=204)

    @app.get("/v1/fleet")
    def fleet(
        state: Literal["answered", "installing", "installed", "failed"] | None = None,
        limit: Annotated[int, Query(ge=1, le=10000)] = 1000,
        after: str = "",
    ) -> JSONResponse:
        """Machines by name, with how far each is."""
        machines: list[dict[str, Any]] = served.state.machines(state, limit, after)
        counts = served.state.counts()
        return JSONResponse(
            {"version": 1, "entries": len(served.fleet.machines), "counts": counts, "machines": machines}
        )

    @app.get("/", response_class=HTMLResponse)
    def front(state: Literal["answered", "installing", "installed", "failed"] | None = None) -> HTMLResponse:
        """The same as a page."""
        text = page(
            len(served.fleet.machines), served.state.counts(), served.state.machines(state, 500), state
        )
        return HTMLResponse(
            text, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        )

    @app.get("/health", response_class=PlainTextResponse)
    def health() -> str:
        """Whether the state can be reached, for a load balancer."""
        served.state.counts()
        return "ok\n"

    return app
