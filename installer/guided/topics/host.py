"""Name and time zone."""

import re

from installer.facts.firmware import SerialConsole
from installer.guided.questions import Dialogue, Line, One, Option, Work
from installer.guided.situation import Situation
from installer.guided.words import _

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""The same as `installer.answers.model.HostName`; a test compares."""
ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
SPEED = 115200
"""Baud, where the kernel's command line names none."""
ZONES = {"de": "Europe/Berlin"}


def title() -> str:
    """For the head of the page."""
    return _("Name and time")


def dialogue(situation: Situation) -> Dialogue:
    """Host name, time zone."""
    name = yield Line(
        title=_("Name of the host"),
        prompt=_("Name:"),
        default=str(situation.said("hostname", default="kvm1")),
        lines=(_("Lower-case letters, digits and hyphens. Its configuration is found by this name."),),
        check=lambda text: (
            None
            if NAME.fullmatch(text) and text != "localhost"
            else _(
                "A name has lower-case letters, digits and hyphens, at most 63, for example {name}."
            ).format(name="kvm1")
        ),
        field=("hostname",),
    )
    zones = yield Work(title=_("reading the time zones"), task="time_zones")

    def check(zone: str) -> str | None:
        # Where the system has no list of them, the name cannot be looked up, only its form.
        if zone in zones or (not zones and ZONE.fullmatch(zone)):
            return None
        word = zone.rpartition("/")[2].lower()
        near = [each for each in zones if word and word in each.lower()][:5]
        listed = ", ".join(near or ("Europe/Berlin", "America/New_York", "UTC"))
        return _("There is no time zone of this name. Perhaps: {names}.").format(names=listed)

    language = str(situation.said("locale", default="en"))[:2]
    zone = yield Line(
        title=_("Time zone"),
        prompt=_("Time zone:"),
        default=str(situation.said("timezone", default=ZONES.get(language, "UTC"))),
        lines=(_("For logs and timers, as continent and city: {name}.").format(name="Europe/Zurich"),),
        check=check,
        field=("timezone",),
    )
    ports = situation.facts.firmware.serial_consoles
    serial = None
    if ports:
        active = next((port for port in ports if port.active), None)
        serial = yield One(
            title=_("Serial console"),
            prompt=_("Shall the host have a console on a serial line?"),
            lines=(
                _(
                    "Recommended: yes, since the live system uses it. Who installs over it needs it to log in."
                )
                if active
                else _("Recommended: no, unless something is plugged into it."),
            ),
            more=(
                _(
                    "It gets the kernel's messages, the question for a passphrase, and a login, beside the screen."
                ),
            ),
            options=(
                Option(None, _("No")),
                *(Option(_named(port), _("Yes, on {port}").format(port=_named(port))) for port in ports),
            ),
            default=_named(active) if active else None,
            field=("boot", "serial_console"),
        )
    return {("hostname",): name, ("timezone",): zone, ("boot", "serial_console"): serial}


def _named(port: SerialConsole) -> str:
    """As the kernel's `console=` takes it."""
    return f"{port.name},{port.speed or SPEED}"
