"""The description of the medium that a command is about."""

from pathlib import Path
from typing import TYPE_CHECKING

from installer.errors import Exit, HyperError

if TYPE_CHECKING:
    from installer.medium import Medium


def read_medium(path: Path | None) -> "Medium":
    """The medium's description. Raises HyperError."""
    from pydantic import ValidationError

    from installer.medium import MEDIUM_PATH, Medium

    file = path or Path(MEDIUM_PATH)
    try:
        return Medium.model_validate_json(file.read_bytes())
    except OSError as error:
        why = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'the whole file'}: {first['msg']}"
    raise HyperError(
        f"the medium's description {file} cannot be read",
        why=why,
        remedy="start from our live medium, which has it, or name one with `--medium FILE`",
        code=Exit.record,
    )
