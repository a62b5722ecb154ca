"""What the guided installer tries on the machine itself: an address on a real wire, a password's hash by real programs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.answers.password_hash import hash_fault
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.guided.questions import Failed
from installer.guided.world import LiveWorld
from tests.nixeval.nix import REPOSITORY

HERE, THERE = "hv-wire-here", "hv-wire-there"
PORT = "hv0"
TRY = """
import json, sys
from pathlib import Path
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.guided.world import LiveWorld
tried = LiveWorld(Runner(NoLog(), sys.argv[1]), Path("/nowhere"), print)._try_address(*sys.argv[2:])
print(json.dumps(tried and tried.reason))
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def wire() -> Iterator[None]:
    """A cable between two machines; the other one is 192.0.2.1 and 192.0.2.9. This one has no address yet."""
    for name in (HERE, THERE):
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        ip("netns", "add", name)
    try:
        ip("-n", HERE, "link", "add", PORT, "type", "veth", "peer", "name", PORT, "netns", THERE)
        for name in (HERE, THERE):
            ip("-n", name, "link", "set", PORT, "up")
        for address in ("192.0.2.1/24", "192.0.2.9/24"):
            ip("-n", THERE, "address", "add", address, "dev", PORT)
        yield
    finally:
        for name in (HERE, THERE):
            ip("netns", "delete", name)


def tried(address: str, gateway: str, path: str = os.environ["PATH"]) -> str | None:
    """As the live system would, on the cable."""
    done = subprocess.run(
        ["ip", "netns", "exec", HERE, sys.executable, "-c", TRY, path, PORT, address, gateway],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    reason: str | None = json.loads(done.stdout)
    return reason


@pytest.mark.root
@pytest.mark.usefixtures("wire")
def test_an_address_is_tried_on_the_wire() -> None:
    assert tried("192.0.2.20", "192.0.2.1") is None
    assert tried("192.0.2.20", "") is None
    assert tried("192.0.2.9", "192.0.2.1") == f"Another machine on {PORT} has the address 192.0.2.9."
    lost = tried("192.0.2.20", "192.0.2.254")
    assert lost is not None
    assert lost.startswith(f"The gateway 192.0.2.254 does not answer on {PORT}")
    # What cannot be tried speaks against nothing.
    assert tried("2001:db8::9", "2001:db8::1") is None
    assert tried("192.0.2.9", "192.0.2.254", "/nowhere") is None


def test_a_password_is_hashed_by_what_is_there(tmp_path: Path) -> None:
    def hashed(folder: str) -> str | Failed:
        return LiveWorld(Runner(NoLog(), folder), tmp_path, print)._hash_password("correct horse")

    found = hashed(os.environ["PATH"])
    assert isinstance(found, str)
    assert hash_fault(found) is None
    none = hashed(str(tmp_path))
    assert isinstance(none, Failed)
    assert "neither mkpasswd nor openssl" in none.reason
