"""Files in /etc/hyper-nixos that the host's NixOS configuration evaluates to, and commands read."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from installer.errors import Exit, HyperError

Model = TypeVar("Model", bound=BaseModel)


def read(model: type[Model], path: Path, absent: HyperError, option: str) -> Model:
    """The file's content as a model. Raises `absent` where there is no file, HyperError for what does not fit.

    `option` names the NixOS option that the file is made from.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise absent from error
    except (OSError, ValidationError) as error:
        raise HyperError(
            f"{path} cannot be read.",
            why=str(error),
            remedy=f"Rebuild the host: the file is made from `{option}`.",
            code=Exit.privilege if isinstance(error, PermissionError) else Exit.failed,
        ) from error
