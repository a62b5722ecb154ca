"""How many screens can be open: for one person, and for all together, counted at the guests' QEMUs, not by hvd."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hv.daemon.screens import MOST, MOST_OF_ALL
from tests.broker import BrokerHost, broker_host, wait_for
from tests.test_vm_life import PLAIN

pytestmark = pytest.mark.libvirt
SHARES = MOST_OF_ALL // MOST
"""People, each with a VM: QEMU itself admits 32 viewers to one screen."""
VIEWERS = [f"viewer{number}" for number in range(SHARES + 1)]
HOLDER = """
import json, sys
from hv.client import Client
from installer.errors import HyperError
name, count = sys.argv[1], int(sys.argv[2])
client, held, refused = Client(), [], None
for _ in range(count):
    try:
        held.append(client.both_ways(f"/1/vms/{name}/screen/vnc"))
    except HyperError as error:
        refused = {"what": error.what, "why": error.why, "code": int(error.code)}
        break
greetings = [next(iter(answer.pieces()))[:3].decode() for _, answer in held]
print(json.dumps({"opened": len(held), "greetings": greetings, "refused": refused}), flush=True)
for line in sys.stdin:
    connection, answer = held.pop()
    answer.close()
    connection.close()
    print("closed", flush=True)
"""
"""Opens screens and keeps them; each line that it reads closes one."""


@pytest.fixture
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        _let_in(made, VIEWERS)
        names = [f"vm{number}" for number in range(SHARES)]

        def started(name: str) -> None:
            made.hv("ada", "vm", "create", name, "--size", "1M", *PLAIN, "--start")
            made.hv("ada", "vm", "pause", name)  # it costs nothing then, and its screen answers

        with ThreadPoolExecutor(4) as several:
            list(several.map(started, names))
        yield made


def _let_in(host: BrokerHost, people: list[str]) -> None:
    """Accounts of operators, who see everybody's guests, while the host runs."""
    passwd, group = host.folder / "passwd", host.folder / "group"
    lines = []
    for line in group.read_text().splitlines():
        theirs = line.startswith(("hv-operators:", "hv-users:"))
        lines.append(",".join([line, *people]) if theirs else line)
    for number, name in enumerate(people, 64901):
        lines.append(f"{name}:x:{number}:")
        with passwd.open("a") as file:
            file.write(f"{name}:x:{number}:{number}::/:/bin/sh\n")
    group.write_text("\n".join(lines) + "\n")


class Holder:
    """Somebody who keeps screens open."""

    def __init__(self, host: BrokerHost, who: str, name: str, count: int) -> None:
        drop = ("setpriv", f"--reuid={who}", f"--regid={who}", "--init-groups")
        argv = host.enter(*drop, sys.executable, "-c", HOLDER, name, str(count))
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=host.environment)
        assert self.process.stdout and self.process.stdin
        self.said: dict[str, Any] = json.loads(self.process.stdout.readline())

    def close_one(self) -> None:
        assert self.process.stdout and self.process.stdin
        print(file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "closed\n"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_nobody_opens_more_screens_than_are_for_one_person_and_for_all(host: BrokerHost) -> None:
    holders = []
    try:
        for number in range(SHARES):
            # The first asks for one more than is for one person.
            wanted = MOST + 1 if number == 0 else MOST
            holder = Holder(host, VIEWERS[number], f"vm{number}", wanted)
            holders.append(holder)
            assert holder.said["opened"] == MOST, holder.said
            assert holder.said["greetings"] == ["RFB"] * MOST
            if number == 0:
                refused = holder.said["refused"]
                assert refused["what"] == "Too many screens are open."
                assert str(MOST) in refused["why"]
        late = VIEWERS[-1]
        said = _asked(host, late)
        assert said["opened"] == 0 and str(MOST_OF_ALL) in said["refused"]["why"], said
        # One is closed: there is room for one, whoever asks.
        holders[0].close_one()
        wait_for("room for one", lambda: _asked(host, late)["opened"] == 1, 60)
    finally:
        for holder in holders:
            holder.end()
    # Who went away without a word holds nothing.
    wait_for("room for many", lambda: _asked(host, late, "vm0", MOST)["opened"] == MOST, 60)


def _asked(host: BrokerHost, who: str, name: str = "vm0", count: int = 1) -> dict[str, Any]:
    """What somebody gets who asks, and hangs up again."""
    holder = Holder(host, who, name, count)
    holder.end()
    return holder.said
