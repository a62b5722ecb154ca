"""Facts, answers and plan become the host's configuration, purely."""

from installer.render.host import CONFIGURATION, NeededSecret, RenderedHost, phase_file, render
from installer.render.templates import Templates, load_templates

__all__ = [
    "CONFIGURATION",
    "NeededSecret",
    "RenderedHost",
    "Templates",
    "load_templates",
    "phase_file",
    "render",
]
