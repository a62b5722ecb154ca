"""What is mounted and swapped on, from /proc/self/mountinfo (proc_pid_mountinfo(5)) and /proc/swaps."""

from installer.probe.root import Root


class Mount:
    """One mount. A plain class: making a named tuple of it takes longer than reading the mounts."""

    __slots__ = ("device", "inner", "kind", "point", "source")

    def __init__(self, device: str, inner: str, point: str, kind: str, source: str) -> None:
        self.device = device
        """major:minor."""
        self.inner = inner
        """The folder of the file system that is mounted."""
        self.point = point
        """Where."""
        self.kind = kind
        """File system type."""
        self.source = source
        """What was mounted."""


SWAP = "[SWAP]"
LIVE_ROOTS = frozenset({"tmpfs", "overlay", "squashfs", "erofs", "ramfs", "rootfs", "iso9660", "zram"})
"""Types of a root file system that no disk carries: the running system is a live one."""
MEDIUM_TYPES = frozenset({"iso9660", "udf", "squashfs", "erofs"})
"""What live systems keep themselves in."""
MEDIUM_POINTS = frozenset(
    {
        "/iso",
        "/cdrom",
        "/run/live/medium",
        "/lib/live/mount/medium",
        "/run/initramfs/live",
        "/run/archiso/bootmnt",
    }
)
"""Where live systems mount the medium, whatever its file system."""


def mounts(root: Root) -> list[Mount]:
    """All mounts, in the kernel's order."""
    found = []
    for line in (root.text("/proc/self/mountinfo") or "").splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if separator and len(left) >= 5 and len(right) >= 2:
            found.append(Mount(left[2], plain(left[3]), plain(left[4]), right[0], plain(right[1])))
    return found


def plain(text: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal escapes."""
    for escape, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(escape, character)
    return text


def swaps(root: Root) -> list[str]:
    """Paths of active swap areas."""
    lines = (root.text("/proc/swaps") or "").splitlines()[1:]
    return [plain(line.split()[0]) for line in lines if line.split()]


def is_live(found: list[Mount]) -> bool:
    """Whether the root file system is one of a live system: in memory, or read-only on a medium."""
    roots = [mount.kind for mount in found if mount.point == "/"]
    return bool(roots) and roots[-1] in LIVE_ROOTS
