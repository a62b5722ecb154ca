"""The keyboard: it types the passphrase, now and at every boot."""

from installer.guided.questions import Dialogue, Line, One, Option, Work
from installer.guided.situation import Situation
from installer.guided.words import _

COMMON = {
    "us": "English (US)",
    "uk": "English (UK)",
    "de-latin1": "Deutsch",
    "de-latin1-nodeadkeys": "Deutsch, ohne tote Tasten",
    "sg": "Deutsch (Schweiz)",
    "fr": "Français",
    "be-latin1": "Français (Belgique)",
    "es": "Español",
    "it": "Italiano",
    "pl2": "Polski",
    "se-latin1": "Svenska",
    "dvorak": "Dvorak",
    "colemak": "Colemak",
}
"""Console keymaps (package kbd) that most keyboards have; every other by its name."""
OTHER = "other"
BY_LANGUAGE = {"de": "de-latin1", "en": "us"}


def title() -> str:
    """For the head of the page."""
    return _("Keyboard")


def dialogue(situation: Situation) -> Dialogue:
    """Which keymap; it is in force at once."""
    language = str(situation.said("locale", default="en_US.UTF-8"))[:2]
    keymap = yield One(
        title=_("Keyboard"),
        prompt=_("Which keyboard?"),
        lines=(
            _(
                "Recommended: what its keys say. It is used at once, and for a passphrase at every boot; on a serial "
                "line your own terminal's counts."
            ),
        ),
        more=(_("A keymap says which letter each key is. With the wrong one a passphrase is another one."),),
        options=(
            *(Option(name, f"{words} ({name})") for name, words in COMMON.items()),
            Option(OTHER, _("another one, by its name")),
        ),
        default=BY_LANGUAGE.get(language, "us"),
        field=("keymap",),
    )
    if keymap == OTHER:
        known = yield Work(title=_("looking for keymaps"), task="keymaps")

        def check(name: str) -> str | None:
            if known and name not in known:
                return _("There is no keymap of this name. Some that are: {names}.").format(
                    names=", ".join(sorted(each for each in known if each[:1] == name[:1])[:8])
                )
            return None if name else _("Type a name, for example {name}.").format(name="sg")

        keymap = yield Line(
            title=_("Keyboard"), prompt=_("Name of the keymap:"), check=check, field=("keymap",)
        )
    problem = yield Work(title=_("changing the keymap"), task="set_keymap", arguments=(keymap,))
    del problem  # a serial line has no keymap of its own; what was typed is seen as it is typed
    return {("keymap",): keymap}
