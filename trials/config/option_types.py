"""Types of protocol entries that give a registered name and options of its class."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Optional, Self

from pydantic import (
    BeforeValidator,
    Discriminator,
    PlainSerializer,
    Tag,
    create_model,
    model_serializer,
    model_validator,
)

from atat_ray.inversion import ATTACKS, Attack
from atat_ray.inversion.smoothing import Smoothing
from atat_ray.inversion.students import Students
from atat_ray.priors import PRIORS, priors_offering
from atat_ray.utils.option_fields import preset_options
from trials.config.parts import Strict


def write_options(options: Any) -> dict[str, Any]:
    """Write the options of a dataclass, and of dataclasses inside it, as JSON types."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {
        name: write_options(value) if dataclasses.is_dataclass(value) else value
        for name, value in values.items()
    }


def with_preset(kind: Any, value: Any) -> Any:
    """Replace ``preset: NAME`` with the options of that preset; explicit options override them."""
    if not isinstance(value, dict) or "preset" not in value:
        return value
    explicit = {k: v for k, v in value.items() if k != "preset"}
    return {**preset_options(kind, str(value["preset"])), **explicit}


def tagged_union(kinds: Mapping[str, Any], key: str) -> Any:
    """Build the type of ``{key: NAME, **options}``, where NAME is a name of the registry."""
    names = {kind: name for name, kind in kinds.items()}

    def tag(value: Any) -> str | None:
        if isinstance(value, dict):
            return value.get(key) if isinstance(value.get(key), str) else None
        return names.get(type(value))

    def expand(value: Any) -> Any:
        """Remove the key that names the class and expand a preset."""
        if not isinstance(value, dict):
            return value
        return with_preset(kinds[value[key]], {k: v for k, v in value.items() if k != key})

    members = tuple(
        Annotated[kind, BeforeValidator(expand), Tag(name)] for name, kind in kinds.items()
    )
    union: Any = members[0]
    for member in members[1:]:
        union = union | member

    def write(value: Any) -> dict[str, Any]:
        return {key: names[type(value)], **write_options(value)}

    return Annotated[union, Discriminator(tag), PlainSerializer(write)]


def optional_options(kind: Any) -> Any:
    """Build the type of an optional key of an inversion, such as that of an attack."""
    reading = BeforeValidator(lambda value: with_preset(kind, value))
    return Optional[Annotated[kind, reading, PlainSerializer(write_options)]]  # noqa: UP045


class Searched(Strict):
    """What an inversion attack searches, the prior, and what it attacks in place of the target."""

    prior: tagged_union(PRIORS, "name")  # type: ignore[valid-type]
    students: optional_options(Students) = None  # type: ignore[valid-type]
    smoothing: optional_options(Smoothing) = None  # type: ignore[valid-type]


# One optional key for each attack in ATTACKS.
ATTACK_KEYS: dict[str, Any] = {n: (optional_options(kind), None) for n, kind in ATTACKS.items()}
AttackKeys = create_model("AttackKeys", __base__=Searched, **ATTACK_KEYS)


class Inversion(AttackKeys):
    """An inversion attack: the prior it searches, and exactly one attack with its options."""

    @model_validator(mode="after")
    def check_attack(self) -> Self:
        """Check that there is exactly one attack, and that the prior offers what it needs."""
        given = [name for name in ATTACKS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one attack beside prior, one of {', '.join(ATTACKS)}; "
                f"got {' and '.join(given) or 'none'}"
            )
        for feature in self.attack.needs():
            if feature not in self.prior.offers:
                raise ValueError(
                    f"{given[0]} needs a prior with {feature}, this one has none; choose one of "
                    f"{', '.join(priors_offering(feature))}"
                )
        return self

    @model_serializer(mode="wrap")
    def write(self, handler: Any) -> dict[str, Any]:
        """Write the keys that are given; leave out those of other attacks."""
        return {name: value for name, value in handler(self).items() if value is not None}

    @property
    def attack_name(self) -> str:
        """Return the key of the given attack."""
        return next(name for name in ATTACKS if getattr(self, name) is not None)

    @property
    def attack(self) -> Attack:
        """Return the given attack."""
        return getattr(self, self.attack_name)
