"""The description of the medium that a command is about."""

from pathlib import Path
from typing import TYPE_CHECKING

from installer.errors import Exit, HyperError

if TYPE_CHECKING:
    from installer.medium import Medium


def read_medium(path: Path | None) -> "Medium":
    """The medium's description. Raises HyperError."""
    from pydantic import ValidationError

    from installer.medium import MEDIUM_PATH, PACKS_PATH, Medium

    file = path or Path(MEDIUM_PATH)
    try:
        medium = Medium.model_validate_json(file.read_bytes())
        if path is None or str(path) == MEDIUM_PATH:
            file = Path(PACKS_PATH)
            return with_packs(medium, file.read_bytes() if file.exists() else b"[]")
        return medium
    except OSError as error:
        why = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'the whole file'}: {first['msg']}"
    raise HyperError(
        f"the medium's description {file} cannot be read",
        why=why,
        remedy=f"start from our live medium, which has it, or copy {MEDIUM_PATH} from a running one and name it with "
        "`--medium FILE`; `hv media host` and `hv media web` also take an ISO image of ours there",
        code=Exit.record,
    )


def with_packs(medium: "Medium", packs: bytes) -> "Medium":
    """The medium with what was added behind it; its own systems come first where two have one name."""
    from pydantic import TypeAdapter

    from installer.medium import ReadyClosure

    own = {each.name for each in medium.closures}
    added = TypeAdapter(tuple[ReadyClosure, ...]).validate_json(packs)
    return medium.model_copy(
        update={"closures": medium.closures + tuple(each for each in added if each.name not in own)}
    )
