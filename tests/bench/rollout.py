"""A rollout: many machines ask for answers and tell how they install, while the server goes down and comes back.

All on loopback, bounded in number and time. Each machine behaves as the installer does: its own connection for each
request, the same pauses between tries, some of them too impatient to wait for an answer that was already on its way.
"""

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from installer.fetch.package import unpack
from installer.probe.identity import Identity
from installer.web import FIRST_PAUSE, LONGEST_PAUSE
from installer.webhooks.event import SIGNATURE, Event, EventKind, StepTold, sign
from tests.plan_cases import HASH, machine

WEBHOOK_SECRET = b"key-of-the-rollout"
ANSWERS = f"""\
version = 1
hostname = "fleet"
[storage]
destroy = "matched"
disk = {{ serial = "X" }}
[[users]]
name = "ops"
admin = true
password_hash = "{HASH}"
"""
IMPATIENT = 0.05
"""Share of machines that give up on their first try before the answer is there, and ask again."""
GOAL = 1.0
"""Seconds within which 99 of 100 requests are answered."""
IN_FLIGHT = 400
"""Connections at most: loopback has one address and so many ports, a fleet has more."""


@dataclass(frozen=True)
class Rollout:
    """How large and how long."""

    machines: int
    """Machines."""
    spread: float
    """Seconds over which they start."""
    down: float
    """Seconds for which the server is gone, in the middle."""
    limit: float
    """Seconds after which it is given up."""


@dataclass
class Seen:
    """What the machines saw."""

    answered: list[float] = field(default_factory=list)
    """Seconds that each answered request took."""
    failed: int = 0
    """Requests that found nobody, or lost their connection."""
    abandoned: int = 0
    """Requests whose machine did not wait."""
    secrets: dict[int, bytes] = field(default_factory=dict)
    """What each machine was given."""
    refused: list[tuple[int, int]] = field(default_factory=list)
    """Machine and state of HTTP of each refusal."""
    seconds: float = 0.0
    """How long it took in all."""

    def quantile(self, share: float) -> float:
        """Seconds within which this share of all requests was answered."""
        ordered = sorted(self.answered)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def secret_of(number: int) -> bytes:
    """The secret that machine `number`, and no other, may have."""
    return f"secret-of-{number}-{uuid.uuid5(uuid.NAMESPACE_OID, str(number))}".encode()


def prepare(folder: Path, count: int) -> None:
    """A fleet of so many machines, by turns found by serial number and by MAC, each with a secret of its own."""
    (folder / "answers.toml").write_text(ANSWERS)
    (folder / "webhook").write_bytes(WEBHOOK_SECRET)
    entries = [f"version = 1\nwebhook_secret = {{ file = {json.dumps(str(folder / 'webhook'))} }}\n"]
    for number in range(count):
        (folder / f"m{number}").mkdir()
        (folder / f"m{number}/disk").write_bytes(secret_of(number))
        wanted = f'serial = "S{number}"' if number % 2 else f'mac = "{mac_of(number)}"'
        entries.append(
            f'[[machine]]\nname = "m{number}"\nanswers = "answers.toml"\nsecrets = "m{number}"\nmatch = {{ {wanted} }}\n'
        )
    (folder / "fleet.toml").write_text("".join(entries))


def mac_of(number: int) -> str:
    """A MAC address of its own."""
    return "02:" + ":".join(f"{number >> shift & 255:02x}" for shift in (32, 24, 16, 8, 0))


class Server:
    """`hv answers serve` in a process of its own, which can be killed and started again."""

    def __init__(self, folder: Path, state: str) -> None:
        self._folder, self._state = folder, state
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "hv", "answers", "serve", str(self._folder)),
                *("--listen", f"127.0.0.1:{self.port}", "--state", self._state),
            ],
            stdout=(self._folder / "server.log").open("ab"),
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "server.log").read_text()[-2000:]) from error
                time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut would."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


async def play(rollout: Rollout, server: Server, *, seed: int = 1) -> Seen:
    """Every machine, to its end."""
    seen, chance = Seen(), random.Random(seed)
    facts = json.loads(machine().model_dump_json())
    gate = asyncio.Semaphore(IN_FLIGHT)
    began = time.monotonic()

    async def outage() -> None:
        await asyncio.sleep(rollout.spread / 2)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(rollout.down)
        await asyncio.to_thread(server.start)

    tasks = [asyncio.create_task(outage())] if rollout.down else []
    for number in range(rollout.machines):
        when = chance.uniform(0, rollout.spread)
        one = _Machine(number, seen, server.port, gate, random.Random(seed + number))
        tasks.append(asyncio.create_task(one.live(when, facts)))
    async with asyncio.timeout(rollout.limit):
        await asyncio.gather(*tasks)
    seen.seconds = time.monotonic() - began
    return seen


@dataclass
class _Machine:
    number: int
    seen: Seen
    port: int
    gate: asyncio.Semaphore
    chance: random.Random

    async def live(self, when: float, facts: object) -> None:
        await asyncio.sleep(when)
        identity = Identity(
            serial=f"S{self.number}",
            macs=(mac_of(self.number),),
            boot=str(uuid.uuid5(uuid.NAMESPACE_OID, f"b{self.number}")),
        )
        question = json.dumps(
            {"version": 1, "hyper_nixos": "0", "identity": identity.model_dump(), "facts": facts}
        ).encode()
        impatient = self.chance.random() < IMPATIENT
        status, content = await self._ask("/v1/answers", question, {}, impatient=impatient)
        if status != 200:
            self.seen.refused.append((self.number, status))
            return
        self.seen.secrets[self.number] = unpack(content, "answers").secrets["disk"]
        installation = str(uuid.UUID(int=self.chance.getrandbits(128)))
        kinds: tuple[EventKind, ...] = ("started", "step", "step", "succeeded")
        for place, kind in enumerate(kinds):
            await asyncio.sleep(self.chance.uniform(0.5, 3))
            event = Event(
                id=str(uuid.UUID(int=self.chance.getrandbits(128))),
                time=datetime.now(UTC),
                installation=installation,
                event=kind,
                host="fleet",
                identity=identity,
                percent=30.0 * place,
                step=StepTold(id="x", summary="a step", number=place, of=2, state="verified")
                if kind == "step"
                else None,
            )
            body = event.model_dump_json(exclude_none=True).encode()
            headers = {SIGNATURE: sign(body, WEBHOOK_SECRET, int(time.time()))}
            status, _ = await self._ask("/v1/events", body, headers)
            if status != 204:
                self.seen.refused.append((self.number, status))

    async def _ask(
        self, path: str, body: bytes, headers: dict[str, str], *, impatient: bool = False
    ) -> tuple[int, bytes]:
        """As installer.web does it: pauses that double, each drawn by chance."""
        ceiling = FIRST_PAUSE
        while True:
            try:
                async with self.gate:
                    return await self._once(path, body, headers, abandon=impatient)
            except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError):
                if impatient:
                    self.seen.abandoned += 1
                else:
                    self.seen.failed += 1
                impatient = False
            await asyncio.sleep(self.chance.uniform(ceiling / 2, ceiling))
            ceiling = min(LONGEST_PAUSE, 2 * ceiling)

    async def _once(
        self, path: str, body: bytes, headers: dict[str, str], *, abandon: bool
    ) -> tuple[int, bytes]:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            lines = [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join((*lines, "", "")).encode() + body)
            await writer.drain()
            if abandon:
                raise TimeoutError
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            content = await asyncio.wait_for(reader.read(), 30)
            length = re.search(rb"(?im)^content-length: *(\d+)", head)
            if length and len(content) < int(length[1]):
                raise EOFError  # the server was killed in the middle of what it said
            self.seen.answered.append(time.monotonic() - began)
            return int(head.split(b" ", 2)[1]), content
        finally:
            writer.close()


def run(rollout: Rollout, folder: Path, state: str | None = None) -> Seen:
    """Prepare, serve, play."""
    prepare(folder, rollout.machines)
    server = Server(folder, state or f"sqlite:///{folder / 'state.sqlite'}")
    server.start()
    try:
        return asyncio.run(play(rollout, server))
    finally:
        server.kill()


def wrong(rollout: Rollout, seen: Seen) -> list[str]:
    """What must not be: a machine without its own secret, or with another's."""
    found = [
        f"machine {number} has {secret!r}"
        for number, secret in seen.secrets.items()
        if secret != secret_of(number)
    ]
    missing = rollout.machines - len(seen.secrets)
    found += [f"{missing} machines have nothing"] if missing else []
    return found + [f"machine {number} was refused with {status}" for number, status in seen.refused]


def told(rollout: Rollout, seen: Seen) -> str:
    """A line for people."""
    return (
        f"rollout of {rollout.machines} machines within {rollout.spread:.0f} s, the server gone for {rollout.down:.0f} s: "
        f"{len(seen.answered)} requests answered in {seen.seconds:.0f} s, {seen.failed} found nobody, {seen.abandoned} were "
        f"abandoned; p50 {1000 * seen.quantile(0.5):.0f} ms, p99 {1000 * seen.quantile(0.99):.0f} ms, longest "
        f"{1000 * max(seen.answered):.0f} ms, goal p99 below {1000 * GOAL:.0f} ms"
    )


if __name__ == "__main__":
    import tempfile

    wanted = Rollout(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), 600)
    with tempfile.TemporaryDirectory() as place:
        result = run(wanted, Path(place), os.environ.get("HV_BENCH_STATE"))
    print(told(wanted, result), wrong(wanted, result)[:5])
