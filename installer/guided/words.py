"""The words of the conversation, in the language of the person (GNU gettext)."""

import gettext
from pathlib import Path

DOMAIN = "hyper-nixos"
CATALOGUES = Path(__file__).with_name("locale")
LANGUAGES = {"en": "English", "de": "Deutsch"}
"""Languages that there is a catalogue for, each in its own words."""

_chosen: gettext.NullTranslations = gettext.NullTranslations()


def use(language: str) -> None:
    """Speak this language from now on; English where there is no catalogue."""
    global _chosen  # noqa: PLW0603  (gettext's own way: one language a program)
    _chosen = gettext.translation(DOMAIN, CATALOGUES, [language], fallback=True)


def _(text: str) -> str:
    """A text in the language in use."""
    return _chosen.gettext(text) if text else text


def n_(one: str, several: str, count: int) -> str:
    """One of two texts, by number."""
    return _chosen.ngettext(one, several, count)
