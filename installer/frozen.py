"""The base of every value that travels the road: facts, answers, plans, hand-off."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


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


class Sparse(Frozen):
    """Values some of whose fields are written only where they say something: what a later release adds changes neither
    the text nor the token of what does not use it.
    """

    sparse: ClassVar[frozenset[str]] = frozenset()
    """Names of these fields; each is empty by default."""

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value or name not in self.sparse}
