"""A value with its unit, as Grafana would write it, nearly."""

from collections.abc import Mapping, Sequence

_SCALES: Mapping[str, tuple[int, Sequence[str]]] = {
    "bytes": (1024, ("B", "KiB", "MiB", "GiB", "TiB")),
    "m": (60, ("min", "h")),
    "watt": (1000, ("W", "kW", "MW")),
    "joule": (1000, ("J", "kJ", "MJ", "GJ")),
}
"""Step from name to name, names."""

_PLAIN: Mapping[str, tuple[float, str]] = {
    "percentunit": (100, " %"),
    "celsius": (1, " °C"),
    "reqps": (1, " req/s"),
    "h": (1, " h"),
}


def shown(value: float, unit: str) -> str:
    if unit == "s":
        return _seconds(value)
    if unit in _SCALES:
        return _scaled(value, *_SCALES[unit])
    factor, name = _PLAIN.get(unit, (1, unit.removeprefix("suffix:") if unit.startswith("suffix:") else ""))
    return f"{factor * value:.3g}{name}" if name else f"{value:.4g}"


def _seconds(value: float) -> str:
    if value == 0 or abs(value) >= 60:
        return _scaled(value / 60, 60, ("min", "h")) if value else "0 s"
    return f"{value:.3g} s" if abs(value) >= 1 else f"{1000 * value:.3g} ms"


def _scaled(value: float, by: int, names: Sequence[str]) -> str:
    for name in names[:-1]:
        if abs(value) < by:
            return f"{value:.3g} {name}"
        value /= by
    return f"{value:.3g} {names[-1]}"
