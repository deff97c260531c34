"""Sets of attacks from AutoAttack (Croce & Hein 2020) for robust accuracy."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackSet:
    """Attacks of AutoAttack and their settings.

    Attributes:
        attacks: names in pyautoattack, run in this order on the images not fooled so far.
        iterations: steps of APGD.
        target_classes: wrong classes that targeted attacks try, at most num_classes - 1.
        queries: queries of Square.
        fab_iterations: steps of FAB.
    """

    attacks: tuple[str, ...]
    iterations: int
    target_classes: int = 9
    queries: int = 5000
    fab_iterations: int = 100


ATTACK_SETS = {
    # benchmarks/robustness.py compares this set with "standard" on one unit of each arm.
    "apgd-10": AttackSet(attacks=("apgd-ce", "apgd-dlr"), iterations=10),
    "standard": AttackSet(attacks=("apgd-ce", "apgd-t", "fab-t", "square"), iterations=100),
    # The parts of "standard".
    "apgd-ce": AttackSet(attacks=("apgd-ce",), iterations=100),
    "apgd-t": AttackSet(attacks=("apgd-t",), iterations=100),
    "fab-t": AttackSet(attacks=("fab-t",), iterations=100),
    "square": AttackSet(attacks=("square",), iterations=100),
    # For networks that draw noise in evaluation. With eot 20 this is AutoAttack's "rand".
    "rand": AttackSet(attacks=("apgd-ce", "apgd-dlr"), iterations=100),
}
GRADIENT_ATTACKS = ("apgd-ce", "apgd-dlr", "apgd-t")  # attacks that can average gradients
DLR = ("apgd-dlr", "apgd-t")  # losses compare the DLR_CLASSES largest logits
DLR_CLASSES = 4


def least_classes(attacks: str) -> int:
    """Return the smallest number of classes that an attack set, a key of ATTACK_SETS, allows."""
    return DLR_CLASSES if set(ATTACK_SETS[attacks].attacks) & set(DLR) else 2


def check_classes(attacks: str, num_classes: int) -> None:
    """Refuse an attack set whose losses compare more classes than there are.

    Raises:
        ValueError: the message lists the sets that can be used.
    """
    if num_classes < least_classes(attacks):
        enough = [name for name in ATTACK_SETS if least_classes(name) <= num_classes]
        raise ValueError(
            f"attack set {attacks!r} has DLR losses, which need {DLR_CLASSES} classes or more, got "
            f"{num_classes}; sets that allow {num_classes}: {', '.join(sorted(enough))}"
        )
