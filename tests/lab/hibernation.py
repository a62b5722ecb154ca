"""Machines that hibernate (sleeper.py): they come back with their memory, or begin anew with nothing lost."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from tests.lab import installed, stage_one
from tests.lab.installed import Host
from tests.lab.machine import Disk, Running
from tests.lab.paths import RUNS
from tests.lab.recorder import Recorder
from tests.lab.scenarios import Scenario, combinations
from tests.lab.sleeper import LATE, PASSPHRASE, Sleeper, evidence, nobody_types, prompted, told
from tests.lab.unlocking import ASKED
from tests.nixeval.cases import SLEEPING

MOUNTED = r"EXT4-fs \(\S+\): (?:mounted|recovery)|BTRFS info \(device \S+\): first mount"
"""What the kernel says when a file system is mounted."""
INSIDE = 4 << 20
"""Bytes of the image that stay as they are: what tells the kernel that there is one."""
RUINED = "the image is ruined"
NOT_READ = r"PM: hibernation: Failed to load image, recovering"
RESERVED = 600
"""Huge pages of 2 MiB: more than half of the machine's memory."""
SUMMARIES = {
    "hibernate-partition": "UEFI, LUKS, and in it LVM with swap: hibernates to the logical volume.",
    "hibernate-file": "UEFI, LUKS, btrfs: hibernates to a swap file, which a variable of the firmware tells stage 1.",
    "hibernate-plain": "BIOS, ext4: hibernates to a partition.",
}
assert SUMMARIES.keys() == SLEEPING.keys()


def play(case: str) -> Recorder:
    """Play it through."""
    folder = RUNS / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{case}"
    recorder = Recorder(case, SUMMARIES[case], folder)
    try:
        with recorder.phase("an initial RAM disk, and a disk as the plan makes it"):
            host = Sleeper(folder, case)
        _Night(recorder, host).play()
        for image in (*folder.glob("*.qcow2"), *folder.glob("initrd*")):
            image.unlink()
    finally:
        recorder.write()
    return recorder


class _Night:
    """Falling asleep and waking up, again and again."""

    def __init__(self, recorder: Recorder, host: Sleeper) -> None:
        self.recorder, self.host, self.prove = recorder, host, recorder.prove

    def play(self) -> None:
        """Everything."""
        first = self._falls_asleep()
        second = self._wakes(first)
        third = self._begins_anew(second)
        with self._started("again") as running:
            state = told(running, "awake")
            same = _same(third, state)
            self.prove("after it has begun anew it hibernates and comes back", same, evidence(third, state))
            running.serial.type("off\n")
            running.wait_off(20)

    def _falls_asleep(self) -> dict[str, str]:
        with self._started("first") as running:
            new = told(running, "new")
            self.prove("without an image it begins anew", new["start"] == "1", evidence(new))
            if self.host.case == "hibernate-plain":
                self._refuses(running)
            return self._hibernates(running, "one")

    def _refuses(self, running: Running) -> None:
        """More than half of the memory cannot be copied into the rest."""
        running.serial.type(f"reserve {RESERVED}\n")
        running.serial.expect(f"RESERVED {RESERVED}", 20)
        running.serial.type("hibernate\n")
        state = told(running, "refused", 60)
        self.prove(
            "with more than half of the memory reserved the kernel refuses, and the host goes on",
            state["start"] == "1",
            f"{evidence(state)}\n{running.serial.text()[-1200:]}",
        )
        running.serial.type("reserve 0\n")
        running.serial.expect("RESERVED 0", 20)

    def _wakes(self, before: dict[str, str]) -> dict[str, str]:
        late = self.host.encrypted
        with self._started("second", late=late) as running:
            awake = told(running, "awake")
            both = evidence(before, awake)
            claim = "it comes back: same boot, same mark in the memory, same processes"
            self.prove(claim, _same(before, awake), both)
            if late:
                claim = f"it comes back although the passphrase was typed after {LATE} seconds"
                self.prove(claim, _same(before, awake), both)
            self.prove("what was written before is there", awake["wrote"] == "one", both)
            said = running.serial.text()
            self.prove(
                "no file system is mounted before the image is read", not re.search(MOUNTED, said), said
            )
            if self.host.case == "hibernate-file":
                # Else the next start would look for an image that is none any more.
                self.prove("the firmware's variable is gone", awake["firmware"] == "nothing", both)
            return self._hibernates(running, "two")

    def _begins_anew(self, before: dict[str, str]) -> dict[str, str]:
        if self.host.case == "hibernate-file":
            why, lost = "the firmware has forgotten where the image is", self.host.forget
        else:
            why, lost = RUINED, self._ruin
        lost()
        with self._started("anew") as running:
            new = told(running, "new")
            anew = new["start"] == "2" and new["mark"] != before["mark"] and new["boot"] != before["boot"]
            both = f"{evidence(before, new)}\n{running.serial.text()[-1500:]}"
            said = running.serial.text()
            if why == RUINED:
                self.prove("the kernel says that it cannot read it", bool(re.search(NOT_READ, said)), said)
            self.prove(f"when {why} it begins anew", anew, both)
            self.prove(f"when {why} nothing is lost of what was written", new["wrote"] == "two", both)
            return self._hibernates(running, "three")

    def _ruin(self) -> None:
        """In the middle."""
        self.host.ruin(self.host.swap_offset() + INSIDE, 16 << 20)

    def _hibernates(self, running: Running, text: str) -> dict[str, str]:
        running.serial.type(f"write {text}\n")
        state = told(running, "written")
        with self.recorder.phase("hibernation", "host"):
            running.serial.type("hibernate\n")
            running.wait_off(60)
        if self.host.case == "hibernate-file":
            name = "HibernateLocation".encode("utf-16-le")
            there = name in (self.host.folder / "variables.fd").read_bytes()
            self.prove("the firmware is told where the image is", there, "HibernateLocation")
        return state

    @contextmanager
    def _started(self, name: str, *, late: bool = False) -> Iterator[Running]:
        """Switched on, with its passphrase typed, wrongly first."""
        with self.host.machine().start(name) as running:
            if self.host.encrypted:
                with self.recorder.phase(f"stage 1 asks for the passphrase ({name})", "firmware"):
                    prompted(running)
                running.serial.type("something else\n")
                running.serial.expect(ASKED, 40)
                self.prove(
                    f"a wrong passphrase is asked for again ({name})", True, running.serial.text()[-400:]
                )
                if late:
                    nobody_types(self.recorder, running)
                running.serial.type(f"{PASSPHRASE}\n")
            yield running


def installed_scenario(*, tpm: bool) -> Scenario:
    """LUKS, LVM and ext4 under UEFI; a keymap, since it is that which gives the lab's hosts a stage 1 with systemd.

    Args:
        tpm: Whether the TPM opens the disk, once the first run has enrolled it.
    """
    found = next(each for each in combinations() if each.name == "uefi-ext4-luks")
    enrolled = (('recovery_key = "seal"', 'recovery_key = "seal"\ntoken = "tpm2"'),) if tpm else ()
    return replace(
        found,
        name="hibernate-tpm" if tpm else "hibernate-installed",
        summary="UEFI, LUKS, LVM"
        + (", opened by the TPM" if tpm else "")
        + ": an installed host hibernates while a guest runs.",
        hardware=replace(found.hardware, disks=(Disk("HVMAIN01", size="12G", bus="virtio"),), tpm=tpm),
        changes=(
            *found.changes,
            *enrolled,
            ('filesystem = "ext4"', 'filesystem = "ext4"\nvolumes = "lvm"'),
            (
                'swap = { kind = "partition", size = "512MiB" }',
                'swap = { kind = "partition", hibernate = true }',
            ),
            ('hostname = "kvm2"', 'hostname = "kvm2"\nkeymap = "de-latin1"'),
            ("[boot]", '[boot]\nkernel_params = ["no_timer_check"]'),
        ),
    )


def play_installed(*, tpm: bool) -> Recorder:
    """An installed host, with its guest running."""
    what = installed_scenario(tpm=tpm)
    return installed.played(what.name, what.summary, what, _installed)


MEMORY_OF = (
    "cat /proc/sys/kernel/random/boot_id; systemctl show --property MainPID --value lab-mark; "
    "tr '\\0' '\\n' </proc/$(systemctl show --property MainPID --value lab-mark)/environ | sed -n s/^MARK=//p; "
    "virsh domstate marker; virsh domid marker"
)
"""What a host says of what is in its memory: boot, a process with a mark in its environment, a guest."""


MAP_OF = "journalctl --boot --dmesg --no-hostname --output cat --grep 'BIOS-e820'"
"""The memory as the kernel got it: an image is taken back only where it is laid out the same."""


def _installed(host: Host) -> None:
    """With a TPM the image is made at the second start.

    The kernel's EFI stub copies the TPM's event log into memory that counts as ACPI's, where the firmware has room for it;
    at the first start without the medium that is elsewhere than later, and the kernel takes no image where the layout of
    memory is another one.
    """
    prove, recorder, tpm = host.recorder.prove, host.recorder, host.what.hardware.tpm
    if tpm:
        with host.machine.start("enrolling") as running:
            _opens(host, running, "the first time")
            stage_one.up(host, running, "after the passphrase")
            host.first_run()
            recorder.excerpt("the layout of memory at the first start", host.told(MAP_OF))
            tokens = host.header(host.encrypted())["tokens"]
            enrolled = [each["tpm2-pcrs"] for each in tokens.values() if each["type"] == "systemd-tpm2"]
            prove("the first run has enrolled the TPM, by PCR 7", enrolled == [[7]], str(tokens))
            host.off(running)
    with host.machine.start("first") as running:
        _opens(host, running, "the first time", by_itself=tpm)
        stage_one.up(host, running, "before it hibernates")
        if not tpm:
            host.first_run()
        recorder.excerpt("the layout of memory when it hibernates", host.told(MAP_OF))
        host.told("virsh domstate marker | grep --quiet running || virsh start marker")
        host.told(
            "systemd-run --unit lab-mark --setenv MARK=$(cat /proc/sys/kernel/random/uuid) sleep infinity"
        )
        before = host.told(MEMORY_OF)
        prove("a guest runs", "running" in before, before)
        host.told("echo kept >/var/lib/kept")
        with recorder.phase("systemctl hibernate", "host"):
            host.root("systemctl hibernate --no-block")
            running.wait_off(120)
    with host.machine.start("second") as running:
        _opens(host, running, "again", by_itself=tpm)
        with recorder.phase("it comes back", "host"):
            code, text = host.ssh.first("cat /proc/sys/kernel/random/boot_id", 60)
        prove("over SSH it is the same boot", code == 0 and text.strip() == before.split()[0], text + before)
        after = host.told(MEMORY_OF, 60)
        prove("the same process and the same running guest are there", after == before, f"{before}\n{after}")
        if tpm:
            said = running.serial.text()
            prove(
                "the TPM opens the memory, and nothing is asked for",
                not re.search(ASKED, said),
                said[-1500:],
            )
        code, text = host.root(
            "cat /var/lib/kept && touch /var/lib/after && sync && journalctl -b -n 30 --no-pager"
        )
        prove("what was written is there, and more can be written", code == 0 and "kept" in text, text)
        host.off(running)
    with host.machine.start("third") as running:
        _opens(host, running, "a third time", by_itself=tpm)
        stage_one.up(host, running, "after it was switched off")
        now = host.told("cat /proc/sys/kernel/random/boot_id; ls /var/lib/kept /var/lib/after")
        prove("once it was switched off it begins anew", before.split()[0] not in now, now)
        host.off(running)


def _opens(host: Host, running: Running, when: str, *, by_itself: bool = False) -> None:
    """The passphrase is asked for and typed, unless the disk opens by itself."""
    if by_itself:
        return
    with host.recorder.phase(f"stage 1 asks for the passphrase {when}", "firmware"):
        prompted(running, 60)
    running.serial.type(f"{host.what.passphrase}\n")


def _same(before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether it is the memory of before."""
    mark = before["mark"]
    alike = all(before[name] == after[name] for name in ("start", "boot", "mark", "there"))
    return alike and mark == after["kept"] == after["tmpfs"]
