"""libvirt, as the broker reaches it: calls with a deadline on threads that can be left behind, and its errors in words.

A guest whose QEMU hangs keeps whatever waits for it. So each call runs on a thread of its own; one that does not come
back in time is left to itself, with its connection, and nobody else waits for it. libvirtd serves only a few calls at a
time over one connection (libvirtd.conf, max_client_requests), so work on guests has a connection each, and what only
looks has one that is never used for a call that asks QEMU.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hv.daemon.problems import RefusedError, Status
from hv.libvirt_python import libvirt_module

T = TypeVar("T")
QUICK = 10.0
"""Seconds for what only looks; on a busy machine with a thousand guests it takes under one."""
MOST_LEFT = 64
"""Threads left behind before the broker says that libvirt hangs altogether."""
MOST_LEFT_OF_ONE = 2
"""The same of one kind about one guest: libvirtd has few workers (libvirtd.conf, max_workers), and who asks again and again
for a guest whose QEMU hangs would take them all. libvirt itself gives up after 30 s."""
KEEPALIVE = (5, 6)
"""Seconds between pings of libvirtd, and how many may go unanswered before the connection counts as dead."""


class Calls:
    """Runs calls on threads that can be left behind."""

    def __init__(self) -> None:
        self._left: dict[str, str] = {}
        self._lock = threading.Lock()

    async def run(self, what: str, call: Callable[[], T], deadline: float = QUICK) -> T:
        """The call's value; RefusedError (timeout) if it takes longer than `deadline` seconds."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            left = list(self._left.values())
        if len(left) >= MOST_LEFT:
            raise _hangs(what, f"{len(left)} earlier calls have not come back")
        if left.count(what) >= MOST_LEFT_OF_ONE:
            raise _hangs(what, f"the {MOST_LEFT_OF_ONE} calls before have not come back yet")
        key = f"{what} {time.monotonic()} {id(future)}"
        back = threading.Event()

        def settle(set_it: Callable[[], None]) -> None:
            if not future.done():
                set_it()

        def work() -> None:
            try:
                value = call()
            except BaseException as error:  # it is raised where it is waited for
                caught = error
                ended = lambda: settle(lambda: future.set_exception(caught))  # noqa: E731
            else:
                ended = lambda: settle(lambda: future.set_result(value))  # noqa: E731
            with self._lock:
                back.set()
                self._left.pop(key, None)
            try:
                loop.call_soon_threadsafe(ended)
            except RuntimeError:
                return  # the broker has stopped

        threading.Thread(target=work, name=what, daemon=True).start()
        try:
            return await asyncio.wait_for(future, deadline)
        except TimeoutError as error:
            if future.done() and not future.cancelled():
                raise
            with self._lock:
                if not back.is_set():  # it may have come back just now
                    self._left[key] = what
            raise _hangs(what, f"libvirt has not answered within {deadline:.0f} s") from error


def _hangs(what: str, why: str) -> RefusedError:
    return RefusedError(
        "timeout",
        Status.timeout,
        f"{what[:1].upper()}{what[1:]} took too long, and is left to itself.",
        why=why,
        remedy="A guest whose QEMU hangs can be ended with `hv vm stop NAME --force`; if libvirt itself hangs, an "
        "administrator sees why with `systemctl status libvirtd`.",
    )


class Libvirt:
    """Connections to one libvirt."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.module = libvirt_module()
        self._looking: Any = None
        self._lock = threading.Lock()

    def start_events(self) -> None:
        """Runs libvirt's event loop, which streams and keep-alive need; once a process, before anything is opened."""
        self.module.virEventRegisterDefaultImpl()

        def loop() -> None:
            while True:
                self.module.virEventRunDefaultImpl()

        threading.Thread(target=loop, name="libvirt events", daemon=True).start()
        # The loop has to wake up now and then, else it does not see what is added to it.
        self.module.virEventAddTimeout(500, lambda *_: None, None)

    def open(self) -> Any:
        """A connection of one's own. Raises Refused."""
        try:
            connection = self.module.open(self.uri)
        except self.module.libvirtError as error:
            raise translated(error, "Reaching libvirt") from error
        if not self.uri.startswith("test:"):
            connection.setKeepAlive(*KEEPALIVE)
        return connection

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """A connection for one piece of work."""
        connection = self.open()
        try:
            yield connection
        finally:
            connection.close()

    def looking(self) -> Any:
        """The connection of those who only look."""
        with self._lock:
            if self._looking is None or not self._looking.isAlive():
                self._looking = self.open()
            return self._looking

    def drop(self) -> None:
        """Leave the connection of those who look behind: one of them did not come back."""
        with self._lock:
            self._looking = None


def translated(error: Any, doing: str) -> RefusedError:
    """A libvirtError in words: what happened, and what to do."""
    libvirt = libvirt_module()
    said = str(error)
    for code, kind, status, what, remedy in (
        (libvirt.VIR_ERR_NO_DOMAIN, "no-such-vm", Status.missing, "There is no such VM any more.", "See `hv vm list`."),
        (libvirt.VIR_ERR_NO_STORAGE_POOL, "no-such-pool", Status.missing, "There is no such storage pool.", "See `hv vm pools`."),
        (libvirt.VIR_ERR_NO_STORAGE_VOL, "no-such-volume", Status.missing, "A disk of it is gone.", "See `hv vm show NAME`."),
        (libvirt.VIR_ERR_NO_NETWORK, "no-such-network", Status.missing, "There is no such network.", "See `hv vm networks`."),
        (libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT, "no-such-snapshot", Status.missing, "There is no such snapshot.", "See `hv vm snapshot NAME list`."),
        (libvirt.VIR_ERR_NO_NODE_DEVICE, "no-such-device", Status.missing, "The host has no such device.", "See `hv passthrough list` for what there is."),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, "vm-busy", Status.conflict, "The VM is busy with something else.", "Wait for it (`hv vm operations`), or `hv vm stop NAME --force` if its QEMU hangs."),
        (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, "no-agent", Status.conflict, "The guest's agent does not answer.", "Install and start qemu-guest-agent in the guest."),
        (libvirt.VIR_ERR_SYSTEM_ERROR, "", Status.failed, "", ""),
    ):  # fmt: skip
        if error.get_error_code() == code and kind:
            return RefusedError(kind, status, what, why=said, remedy=remedy)
    lower = said.lower()
    for words, kind, status, what, remedy in (
        (("no space left",), "disk-full", Status.limit, f"{doing} needs more room than the storage pool has.",
         "Make room (`hv vm pools` shows what is free), then do it again."),
        (("cannot allocate memory", "cannot set up guest memory"), "no-memory", Status.limit, f"{doing} needs more memory than the host has free.",
         "Stop another VM, or give this one less: `hv vm resize NAME --memory 1G`."),
        (("failed to connect socket", "connection refused", "connection reset", "end of file while reading", "cannot recv data", "client socket is closed", "keepalive", "connection closed", "unable to connect", "broken pipe"), "libvirt-away", Status.unavailable,
         "libvirt does not answer.", "It may be restarting: do it again in a moment; `systemctl status libvirtd` says more."),
        (("did not find usb device", "/sys/bus/usb/devices"), "no-such-device", Status.missing, f"{doing}: the host has no such USB device.",
         "See `lsusb` for what is plugged in."),
        (("multiple usb devices",), "several-devices", Status.conflict, f"{doing}: the host has several USB devices of this kind.",
         "Plug out all but one: they are told apart by vendor and product alone."),
        (("could not access kvm", "failed to initialize kvm", "/dev/kvm"), "no-kvm", Status.failed, f"{doing} needs KVM, which does not work on this host.",
         "See `hv probe`; set hypervisor.privileges.broker.accelerator to \"emulated\" to do without."),
        (("unable to find any firmware", "unable to find 'efi' firmware", "firmware"), "no-firmware", Status.unavailable, f"{doing} needs a firmware that the host has not.",
         "Take `--firmware bios`, or have OVMF installed."),
        (("already active", "already running"), "runs-already", Status.conflict, "The VM runs already.", "See `hv vm show NAME`."),
        (("not running", "domain is not running"), "does-not-run", Status.conflict, "The VM does not run.", "Start it: `hv vm start NAME`."),
        (("already exists", "already in use"), "exists", Status.conflict, f"{doing}: that name is taken.", "Choose another name."),
        (("is another process using the image", "failed to get shared", "failed to get \"write\" lock"), "locked", Status.conflict, f"{doing}: a disk of it is in use.", "Stop the VM that uses it."),
        (("network", "is not active"), "network-down", Status.conflict, f"{doing} needs a network that is not up.", "An administrator starts it; `hv vm networks` shows the state."),
    ):  # fmt: skip
        matches = (
            all(word in lower for word in words)
            if kind == "network-down"
            else any(word in lower for word in words)
        )
        if matches:
            return RefusedError(kind, status, what, why=said, remedy=remedy)
    return RefusedError(
        "libvirt",
        Status.failed,
        f"{doing} failed.",
        why=said,
        remedy="`hv vm logs NAME` may say more; `journalctl -u libvirtd` (auditors) has libvirt's side.",
    )


def in_words(doing: str, call: Callable[[], T]) -> T:
    """The call's value, with libvirt's errors translated."""
    libvirt = libvirt_module()
    try:
        return call()
    except libvirt.libvirtError as error:
        raise translated(error, doing) from error


def own_process() -> int:
    """For the log."""
    return os.getpid()
