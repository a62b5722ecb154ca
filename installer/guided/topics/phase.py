"""How strict the host ends."""

from installer.guided.questions import Dialogue, One, Option
from installer.guided.situation import Situation
from installer.guided.words import _


def title() -> str:
    """For the head of the page."""
    return _("Security")


def dialogue(situation: Situation) -> Dialogue:
    """Phase, and how far the hardened one goes."""
    keyed = any(user.get("ssh_keys") for user in situation.said("users", default=()) if user.get("admin"))
    phase = yield One(
        title=_("Security"),
        prompt=_("Where shall the first boot end?"),
        lines=(
            _(
                "Both phases are built along, and going from one to the other needs no network: one command "
                "raises it, one boot entry goes back."
            ),
            _("An administrator has an SSH key: nobody is locked out by phase hardened.")
            if keyed
            else _(
                "No administrator has an SSH key: after phase hardened the only way in would be this machine's "
                "own console."
            ),
            _("Recommended: setup, until you have seen that everything works."),
        ),
        more=(
            _(
                "In phase setup everything works that helps to finish: passwords over SSH if you allowed them, "
                "debuggers, all kernel modules. Phase hardened closes what a host in daily use does not need."
            ),
        ),
        options=(
            Option("setup", _("setup: look around first, raise it later with hv firstrun retry phase")),
            Option("hardened", _("hardened: at the end of the first run")),
        ),
        default="setup",
        field=("security", "phase"),
    )
    profile = yield One(
        title=_("Security"),
        prompt=_("How far does phase hardened go?"),
        lines=(_("Each holds everything of the one before it. Recommended: balanced."),),
        options=(
            Option("development", _("development: machines where things are tried out; costs nothing")),
            Option("balanced", _("balanced: daily use; no odd protocols, no kexec, no hibernation")),
            Option("strict", _("strict: rarely changed hosts; no modules after boot, accounts as declared")),
            Option("paranoid", _("paranoid: guests nobody trusts; half the threads, Ed25519 keys only")),
        ),
        default="balanced",
        field=("security", "profile"),
    )
    return {("security", "phase"): phase, ("security", "profile"): profile}
