"""Check epsilon, an L-infinity radius in pixel units for images in [0, 1]."""


def check_epsilon(epsilon: float, name: str = "epsilon") -> None:
    """Refuse an epsilon that is not an L-infinity radius in pixel units.

    Raises:
        ValueError: outside (0, 1]; for 1 to 255, taken as gray levels, the message converts them.
    """
    if 0 < epsilon <= 1:
        return
    hint = f"; for {epsilon:g}/255 write {epsilon / 255:.6g}" if 1 < epsilon <= 255 else ""
    raise ValueError(
        f"{name} is an L-infinity radius in pixel units, images in [0, 1]: "
        f"it must be above 0 and at most 1, got {epsilon:g}{hint}"
    )
