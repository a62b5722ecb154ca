"""The templates, read and compiled before rendering: rendering itself opens nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from installer.errors import HyperError

CHECKOUT = Path(__file__).resolve().parents[2] / "templates"
"""Where they are in a checkout; an installed package has them in `installer/templates`."""


@dataclass(frozen=True)
class Templates:
    """Compiled templates. They join a title and serialised text, and decide nothing."""

    module: jinja2.Template
    """A module of the host."""
    flake: jinja2.Template
    """The host's flake.nix."""


def load_templates() -> Templates:
    """Read and compile the templates; commands call this once. Raises HyperError when one is missing or broken."""
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 -- Nix text from the serialiser, no HTML
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader([str(files("installer") / "templates"), str(CHECKOUT)]),
    )
    try:
        return Templates(*_compiled(environment, ("module.nix.j2", "flake.nix.j2")))
    except jinja2.TemplateError as error:
        raise HyperError(
            "the templates of the host's configuration cannot be read",
            why=str(error),
            remedy="reinstall hyper-nixos; in a checkout, look at templates/",
        ) from error


def _compiled(environment: jinja2.Environment, names: Iterable[str]) -> list[jinja2.Template]:
    return [environment.get_template(name) for name in names]
