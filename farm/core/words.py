"""Figures in words, for sentences that people read."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_NAMES = ("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def duration(seconds: float) -> str:
    """``duration(7384)`` is ``2 h 3 min``: two units at most, rounded to the smaller of them."""
    if seconds < 1:
        return "less than a second"
    for index, (unit, name) in enumerate(_UNITS):
        lower, lower_name = _UNITS[min(index + 1, len(_UNITS) - 1)]
        rounded = round(seconds / lower) * lower
        if rounded >= unit:
            whole, rest = divmod(rounded, unit)
            return f"{whole} {name}" + (f" {rest // lower} {lower_name}" if rest else "")
    return "1 s"


def many(count: int, thing: str) -> str:
    """``many(1240, "render")`` is ``1,240 renders``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def nth(number: int) -> str:
    """``nth(3)`` is ``third``."""
    if number < len(_NAMES):
        return _NAMES[number]
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
