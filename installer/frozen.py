"""The base of every value that travels the road: facts, answers, plans, hand-off."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, closed (unknown keys are errors), documented: a field's docstring is its schema description."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        # Validators are built when first used: a command pays only for the values it handles.
        defer_build=True,
    )
