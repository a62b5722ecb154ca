"""`hv setup` on a terminal: pages over what the host is, then the difference, then whether to try it."""

import os
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from hv.setup.edit import rewritten
from hv.setup.pages import TITLES, declaration_of, hashes_apart, summary, topics
from installer.errors import HyperError
from installer.facts import Facts
from installer.guided.conversation import Back, Conversation, Place
from installer.guided.plain import Plain
from installer.guided.questions import Notice, One, Option
from installer.guided.situation import Level
from installer.guided.world import LiveWorld
from installer.medium import FlakeSource, Medium

if TYPE_CHECKING:
    from installer.guided.screen import Screen

SHOW, TRY, LEAVE = "show", "try", "leave"
NOWHERE = FlakeSource(url="", locked={}, original={}, store_path="")


@dataclass
class HostWorld(LiveWorld):
    """What pages have done for them, on a host that is installed."""

    def _try_network(self) -> str:
        return ""


@dataclass(frozen=True)
class Asked:
    """How the conversation ended."""

    text: str
    """host.toml as it would be."""
    hashes: dict[str, str] = field(repr=False)
    """Hashes of passwords that were typed, by login name."""
    go: bool
    """Whether to try it; else the person left."""


@dataclass
class Wizard:
    """One conversation."""

    text: str
    """host.toml as it lies there."""
    applied: str
    """As the modules were written from it; a person may have changed it since."""
    world: LiveWorld
    look_around: Callable[[], Facts]
    """Probes this machine; only pages that need it wait for it."""
    release: str
    """NixOS release."""
    difference: Callable[[str, "Plain | Screen"], str]
    """What a text would change, for people. Raises HyperError."""
    output: TextIO = field(default_factory=lambda: sys.stdout)
    plain: bool = False
    """Line by line."""
    _facts: Facts | None = None

    def run(self, page: str | None) -> Asked:
        """Ask; begin with a page if one is named."""
        front = self._front()
        raw = tomllib.loads(self.text)
        if page:
            raw = self._page(page, raw, front)
        while True:
            text, hashes = self._text(raw)
            chosen = self._menu(raw, front, different=text != self.applied)
            if chosen == LEAVE:
                return Asked(text, hashes, go=False)
            if chosen in (SHOW, TRY):
                try:
                    declaration_of(raw)
                    told = self.difference(text, front)
                except HyperError as error:
                    self._refused(error, front)
                    continue
                front.show("What would change", told)
                if chosen == TRY and self._sure(front):
                    return Asked(text, hashes, go=True)
                continue
            raw = self._page(chosen, raw, front)

    def _text(self, raw: dict[str, Any]) -> tuple[str, dict[str, str]]:
        apart, hashes = hashes_apart(raw) if "users" in raw else (raw, {})
        return (rewritten(self.text, apart) if apart != tomllib.loads(self.text) else self.text), hashes

    def _page(self, name: str, raw: dict[str, Any], front: "Plain | Screen") -> dict[str, Any]:
        if self._facts is None:
            front.working("looking at this machine")
            self._facts = self.look_around()
        machine = self._facts.cpu.architecture
        medium = Medium(
            label="this host",
            release=self.release,
            system=f"{machine}-linux",
            nixpkgs=NOWHERE,
            hyper_nixos=NOWHERE,
            estimated_closure=0,
        )
        topic = next(each for each in topics() if each.name == name)
        conversation = Conversation((topic,), self._facts, medium, front, self.world, raw, "")
        try:
            conversation.one(name)
        except Back:
            return raw
        return conversation.raw

    def _menu(self, raw: dict[str, Any], front: "Plain | Screen", *, different: bool) -> str:
        rows = [Option(name, f"{title}: {summary(name, raw)}") for name, title in TITLES.items()]
        nothing = None if different else "The declaration is as it was, and the modules follow from it."
        chosen: str = front.ask(
            One(
                title=f"The host {raw.get('hostname', '')}",
                prompt="Change something, or try it?",
                lines=(
                    "Changed, and not in force yet."
                    if different
                    else "As the host is declared now. Nothing changes before you say so.",
                ),
                options=(
                    *rows,
                    Option(SHOW, "Show what would change", nothing),
                    Option(TRY, "Build it and try it", nothing),
                    Option(LEAVE, "Leave; nothing of the host changes"),
                ),
                default=TRY if different else "network",
            ),
            self._place("Review"),
        )
        return chosen

    def _sure(self, front: "Plain | Screen") -> bool:
        try:
            sure: bool = front.ask(
                One(
                    title="Try it",
                    prompt="Build it, and switch to it?",
                    lines=(
                        "Unconfirmed, the host goes back by itself. Until then, what boots next stays the same.",
                    ),
                    options=(Option(True, "Yes, try it"), Option(False, "No, back")),
                    default=True,
                ),
                self._place("Review"),
            )
        except Back:
            return False
        return sure

    def _refused(self, error: HyperError, front: "Plain | Screen") -> None:
        problems = [str(each) for each in getattr(error, "problems", ())] or [error.why]
        front.ask(
            Notice(
                title="This cannot be done",
                prompt="Back?",
                lines=(error.what, *problems, f"What to do: {error.remedy}"),
            ),
            self._place("Review"),
        )

    @staticmethod
    def _place(topic: str) -> Place:
        return Place(1, 1, topic, can_go_back=False)

    def _front(self) -> "Plain | Screen":
        terminal = os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
        if self.plain or not sys.stdin.isatty() or not terminal:
            return Plain(self.output, Level.intermediate)
        from installer.guided.screen import Screen

        return Screen(self.output)
