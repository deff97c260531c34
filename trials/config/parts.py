"""Bases of the parts of a protocol, and types that many keys have."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from atat_ray.utils.errors import unknown


class Strict(BaseModel):
    """Base of all settings: frozen, refuses unknown keys, infinities and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
# The limit keeps a typing error from filling the memory.
Count = Annotated[int, Field(ge=1, le=100_000)]


class Part(Strict):
    """Optional part of a protocol, whose error for an unknown key lists the known ones."""

    @model_validator(mode="before")
    @classmethod
    def check_keys(cls, value: Any) -> Any:
        """Refuse an unknown key; the error lists the known keys."""
        for key in value if isinstance(value, dict) else ():
            if key not in cls.model_fields:
                raise unknown("key", str(key), cls.model_fields)
        return value
