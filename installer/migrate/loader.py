"""Boot menus, read: where the new generation's entry is. Pure: texts and names in."""

import re
from collections.abc import Iterator, Mapping

COUNTER = re.compile(r"\+\d+(-\d+)?(?=\.conf\Z)")
"""Tries left, and tries done, in the name of an entry (systemd, AUTOMATIC_BOOT_ASSESSMENT)."""


def entry_of(entries: Mapping[str, str], toplevel: str) -> str | None:
    """Name of the boot loader entry (Boot Loader Specification, type 1) that starts a system."""
    found = [name for name, text in sorted(entries.items()) if _starts(text, toplevel)]
    return found[0] if found else None


def counted(name: str) -> bool:
    """Whether boots of this entry are counted."""
    return COUNTER.search(name) is not None


def uncounted(name: str) -> str:
    """The entry's name without counters: it is good."""
    return COUNTER.sub("", name)


def _starts(text: str, toplevel: str) -> bool:
    return re.search(rf"\binit={re.escape(toplevel)}/init(\s|$)", text) is not None


def grub_entry(menu: str, toplevel: str) -> str | None:
    """Place of the entry in grub.cfg that starts a system, as `next_entry` takes it: `1>0` is the first entry of the
    second submenu (GRUB manual, "default"). The first entry of all is the default, and only found when no other is.
    """
    places = [place for place, body in _entries(menu) if _starts(body, toplevel)]
    deep = [place for place in places if ">" in place]
    return next(iter(deep or places), None)


def _entries(menu: str) -> Iterator[tuple[str, str]]:
    """Every menu entry with its place and its lines."""
    counts = [0]
    path: list[str] = []
    opened: list[str] = []
    body: list[str] = []
    for line in menu.splitlines():
        word = line.strip()
        if word.startswith(("menuentry ", "submenu ")) and word.endswith("{"):
            here = str(counts[-1])
            counts[-1] += 1
            if word.startswith("submenu "):
                opened.append("submenu")
                path.append(here)
                counts.append(0)
            else:
                opened.append(">".join([*path, here]))
                body = []
        elif word.endswith("{"):
            opened.append("")
        elif word == "}" and opened:
            closed = opened.pop()
            if closed == "submenu":
                path.pop()
                counts.pop()
            elif closed:
                yield closed, "\n".join(body)
        else:
            body.append(line)
