"""The sets of AutoAttack's attacks (Croce & Hein 2020) that measure robust accuracy."""

from dataclasses import dataclass

from atat_ray.utils.option_fields import later


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackSet:
    """A named part of AutoAttack.

    Attributes:
        attacks: names in pyautoattack, run in this order on the images that still resist.
        iterations: of APGD.
        target_classes: wrong classes that targeted attacks try, at most num_classes - 1.
        queries: of Square.
        fab_iterations: of FAB.
    """

    attacks: tuple[str, ...]
    iterations: int
    target_classes: int = 9
    queries: int = later(5000)
    fab_iterations: int = later(100)


ATTACK_SETS = {
    # benchmarks/robustness.py compares it with "standard" on one unit of each arm.
    "apgd-10": AttackSet(attacks=("apgd-ce", "apgd-dlr"), iterations=10),
    "standard": AttackSet(attacks=("apgd-ce", "apgd-t", "fab-t", "square"), iterations=100),
    # Its parts, one by one.
    "apgd-ce": AttackSet(attacks=("apgd-ce",), iterations=100),
    "apgd-t": AttackSet(attacks=("apgd-t",), iterations=100),
    "fab-t": AttackSet(attacks=("fab-t",), iterations=100),
    "square": AttackSet(attacks=("square",), iterations=100),
    # For networks that draw noise; with eot 20 it is AutoAttack's "rand".
    "rand": AttackSet(attacks=("apgd-ce", "apgd-dlr"), iterations=100),
}
GRADIENT_ATTACKS = ("apgd-ce", "apgd-dlr", "apgd-t")  # those that can average gradients
DLR = ("apgd-dlr", "apgd-t")  # those whose losses compare the largest logits: up to DLR_CLASSES
DLR_CLASSES = 4


def least_classes(attacks: str) -> int:
    """Give the number of classes that a set (a key of ATTACK_SETS) needs at least."""
    return DLR_CLASSES if set(ATTACK_SETS[attacks].attacks) & set(DLR) else 2


def check_classes(attacks: str, num_classes: int) -> None:
    """Refuse a set whose losses compare more classes than there are.

    Raises:
        ValueError: says which sets can be used.
    """
    if num_classes < least_classes(attacks):
        enough = [name for name in ATTACK_SETS if least_classes(name) <= num_classes]
        raise ValueError(
            f"attack set {attacks!r} has DLR losses, which need {DLR_CLASSES} classes or more, got "
            f"{num_classes}; sets for so few: {', '.join(sorted(enough))}"
        )
