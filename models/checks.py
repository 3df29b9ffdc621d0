"""What configurations of the models have in common."""


def require_positive(config: object, *names: str) -> None:
    """ValueError unless each of these fields is a number above 0."""
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            raise ValueError(f"{name} is {value}, not above 0")
