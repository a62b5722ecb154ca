"""The page of features and tiers, from the catalogues that the installer and the modules read."""

from collections.abc import Iterator

from installer.answers import catalogue
from installer.answers.catalogue import FEATURES, POINTS, TIERS, TOLERANCES

ROWS = {
    "memoryGiB": "Memory, at least (GB)",
    "zramPercent": "Compressed swap (per cent of memory)",
    "swappiness": "`vm.swappiness`",
    "transparentHugepages": "Transparent huge pages",
    "onDemandHugepages": "Huge pages on demand (2 MiB each)",
    "dirtyMiB": "Data waiting to be written, at most (MiB)",
    "journalMiB": "Journal, at most (MiB)",
    "parallelShutdown": "Guests shut down at a time",
    "shutdownTimeout": "Seconds for all guests to shut down",
    "neighbours": "Neighbours that the network remembers",
    "asynchronousRequests": "Requests in flight of guests' disks",
    "balanceInterrupts": "Interrupts spread over the processors (irqbalance)",
    "buildJobs": "Nix builds at a time",
}
"""Value of a tier: its title."""


def features_page() -> str:
    """What each tier sets, what each feature does and risks, and how much risk a host takes."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# Features and tiers\n"
    yield "<!-- Made by `python -m tests.nixeval.pages`. -->\n"
    yield (
        "Made from the catalogues that the installer and the NixOS modules read. [Features](../features.md) says how to\n"
        "use them.\n"
    )
    yield from _tiers()
    yield from _tolerances()
    yield from _features()


def _tiers() -> Iterator[str]:
    tiers = catalogue.tier_values()
    yield "## Tiers\n"
    yield "| | " + " | ".join(f"`{name}`" for name in tiers) + " |"
    yield "|---|" + "---|" * len(tiers)
    yield "| For | " + " | ".join(values.summary for values in TIERS.values()) + " |"
    for key, title in ROWS.items():
        yield f"| {title} | " + " | ".join(_cell(values[key]) for values in tiers.values()) + " |"
    for name in FEATURES:
        on = ["on" if name in values.features else "" for values in TIERS.values()]
        if any(on):
            yield f"| Feature `{name}` | " + " | ".join(on) + " |"
    yield (
        "\nEach value is a default of a NixOS option; what the host declares itself wins. In every tier a rebuild takes\n"
        "what processor and disks the guests leave.\n"
    )


def _tolerances() -> Iterator[str]:
    yield "## Risk tolerance\n"
    counts = ", ".join(f"{level} {points}" for level, points in POINTS.items())
    yield f"Points of a feature by its risk: {counts}.\n"
    yield "| `riskTolerance` | For | Highest risk of a feature | Points together, at most | Tiers that fit as they are |"
    yield "|---|---|---|---|---|"
    for name, bound in TOLERANCES.items():
        fitting = [f"`{tier}`" for tier, values in TIERS.items() if bound.takes(values.features)]
        total = "any" if bound.total is None else bound.total
        yield f"| `{name}` | {bound.summary} | {bound.highest} | {total} | {', '.join(fitting)} |"


def _features() -> Iterator[str]:
    yield "\n## Features"
    for name, feature in FEATURES.items():
        yield f"\n### {name}\n"
        yield f"{feature.summary} Risk: **{feature.risk}**, {feature.points} points."
        for title, names in (
            ("Needs", feature.requires),
            ("Conflicts with", feature.conflicts),
            ("On", feature.systems),
        ):
            if names:
                yield f"{title} {', '.join(f'`{each}`' for each in names)}" + (
                    " alone." if title == "On" else "."
                )
        yield "\nWhat it costs:\n"
        yield from (f"- {impact}" for impact in feature.impacts)
        yield "\nAgainst that:\n"
        yield from (f"- {mitigation}" for mitigation in feature.mitigations)


def _cell(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
