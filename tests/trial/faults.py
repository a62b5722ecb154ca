"""Faults that happen to an installation in the live system: what is put in a program's place, and what must be said."""

from dataclasses import dataclass

from installer.errors import Exit
from tests.trial.layouts import Layout
from tests.trial.site import Run, Session

INSTEAD = "/run/wrappers/bin"
"""Comes first on the installer's path."""
SMALL = Layout(
    "faults",
    ("HVMAIN03",),
    'filesystem = "ext4"\nvolumes = "lvm"\nswap = { kind = "partition", size = "128MiB" }\n',
)
"""On LVM, so that a fault can be slid below the root: device-mapper swaps a volume's table while it is in use."""
ROOT = 'root=$(ls /dev/mapper/*-root); table=$(dmsetup table "$root"); size=$(blockdev --getsz "$root")'
SWAP = 'dmsetup suspend --noflush --nolockfs "$root"; printf "%s\\n" "$new" | dmsetup load "$root"; dmsetup resume "$root"'


def below(new: str) -> str:
    """Shell: the root's table becomes this one; `$dev` and `$start` are where it lay."""
    return f'{ROOT}; read -r _ _ _ dev start <<<"$table"; printf "%s" "$table" >/run/trial/table; new="{new}"; {SWAP}'


MEND = "root=$(ls /dev/mapper/*-root); new=$(cat /run/trial/table); " + SWAP
"""Shell: the table of before."""
FLAKEY = "0 $size flakey $dev $start 0 3600 1 {}"
"""Down for an hour, with this feature (kernel doc, device-mapper/dm-flakey)."""


@dataclass(frozen=True)
class Fault:
    """One fault."""

    name: str
    """What happens."""
    program: str
    """Which program's place the script takes."""
    script: str
    """Shell; `real "$@"` is the program itself."""
    words: tuple[str, ...]
    """What must be said."""
    code: Exit = Exit.step
    """How it must end."""
    mend: str = "true"
    """Shell that takes the fault away."""
    again: tuple[str, ...] = ()
    """What the next run must say, where what was lost cannot be gone on with; nothing: it comes to its end."""
    only: str = "true"
    """Shell: whether it is this call of the program that the fault happens to."""


FAULTS = (
    Fault(
        "dm-error below the root while its file system is made",
        "mkfs.ext4",
        below("0 $size error") + '; real "$@"',
        ("the step `format-root` failed", "Input/output error", "written and verified"),
        mend=MEND,
    ),
    Fault(
        "dm-flakey: writes fail while the system is copied",
        "nix",
        below(FLAKEY.format("error_writes")) + '; real "$@"',
        ("the step `", "failed", "written and verified"),
        mend=MEND,
        again=("the step `unmount` failed", "error syncing '/mnt'", "Input/output error"),
        only='[ "$1" = copy ]',
    ),
    Fault(
        "dm-flakey: writes are lost in silence while the file system is made",
        "mkfs.ext4",
        below(FLAKEY.format("drop_writes")) + '; real "$@"',
        ("the step `format-root` failed", "what it should have done is not there"),
        mend=MEND,
    ),
    Fault(
        "the target runs full",
        "nix",
        'free=$(($(stat -f -c "%f*%S" /mnt))); fallocate -l $((free - 4194304)) /mnt/fill; real "$@"',
        ("the step `realise` failed", "No space left on device"),
        mend="rm -f /mnt/fill",
        only='[ "$1" = copy ]',
    ),
    Fault(
        "a program fails after half its work",
        "vgcreate",
        'real "$@"; echo half >&2; exit 5',
        ("the step `create-", "exit status 5", "half"),
    ),
    Fault(
        "a program is killed",
        "lvcreate",
        "kill -9 $$",
        ("the step `create-", "killed by signal 9"),
    ),
    Fault(
        "a program says that it worked and did nothing",
        "mkswap",
        "exit 0",
        ("the step `format-swap` failed", "what it should have done is not there"),
    ),
)


def put(session: Session, fault: Fault) -> None:
    """Have it happen from now on."""
    path = f"{INSTEAD}/{fault.program}"
    script = (
        "#!/bin/bash\nset -e\n"
        f'real() {{ PATH=/usr/sbin:/usr/bin "$program" "$@"; }}\nprogram={fault.program}\n'
        f'if {fault.only}; then\n{fault.script}\nelse\nreal "$@"\nfi\n'
    )
    session.agent.write(path, script, 0o755)
    session.shell(f"chmod 755 {path}")


def take_away(session: Session, fault: Fault) -> None:
    """As before."""
    session.shell(f"rm -f {INSTEAD}/{fault.program}; {fault.mend}", measured=10)


def must_fail(run: Run, code: Exit, words: tuple[str, ...]) -> str:
    """A true error: its exit code, what is to be said, the state of the disks, what to do."""
    said = " ".join(run.text.split())
    assert run.status == code, run.text
    for word in (*words, "do:"):
        assert word in said, (word, run.text)
    return said
