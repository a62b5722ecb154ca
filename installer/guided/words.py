"""The words of the conversation, in the language of the person (GNU gettext)."""

import gettext
import re
from collections.abc import Mapping
from pathlib import Path

DOMAIN = "hyper-nixos"
CATALOGUES = Path(__file__).with_name("locale")
LANGUAGES = {"en": "English", "de": "Deutsch"}
"""Languages that there is a catalogue for, each in its own words."""

ENGLISH = "en"
"""What the texts in the source are written in."""
VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""Where a system says its language, the strongest first (locale(7))."""

ASCII = str.maketrans(
    {
        "ä": "ae",
        "ö": "oe",
        "ü": "ue",
        "ß": "ss",
        "Ä": "Ae",
        "Ö": "Oe",
        "Ü": "Ue",
        "…": "...",
        "°": "",
    }
)
"""How letters are written where a terminal does not show them."""

_language = ENGLISH
_chosen: gettext.NullTranslations = gettext.NullTranslations()
_in_ascii = False


def use(language: str) -> None:
    """Speak this language from now on; English where there is no catalogue."""
    global _language, _chosen  # noqa: PLW0603  (gettext's own way: one language a program)
    _language = language if language in LANGUAGES else ENGLISH
    _chosen = gettext.translation(DOMAIN, CATALOGUES, [_language], fallback=True)


def write_in_ascii(*, wanted: bool) -> None:
    """Whether letters beyond ASCII are written with those of it from now on."""
    global _in_ascii  # noqa: PLW0603  (one terminal a program)
    _in_ascii = wanted


def written(text: str) -> str:
    """A text in letters that the terminal shows."""
    return text.translate(ASCII) if _in_ascii and not text.isascii() else text


def language() -> str:
    """The language in use."""
    return _language


def language_of(locale: str) -> str:
    """The language of a locale such as `de_CH.UTF-8`; English where there is no catalogue."""
    found = re.split("[_.@]", locale)[0]
    return found if found in LANGUAGES else ENGLISH


def language_around(environment: Mapping[str, str]) -> str:
    """The language that the system was told to speak."""
    return language_of(next(filter(None, map(environment.get, VARIABLES)), ""))


def _(text: str) -> str:
    """A text in the language in use."""
    return written(_chosen.gettext(text)) if text else text


def n_(one: str, several: str, count: int) -> str:
    """One of two texts, by number."""
    return written(_chosen.ngettext(one, several, count))
