"""What an expression measures in, derived from its metrics' names, to be held against a panel's unit.

A measure is a factor and exponents: 60 x {s: -1} is "per minute". Counts have none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import promql_parser as pql

_NAMES: Mapping[str, tuple[float, Mapping[str, int]]] = {
    "_price_per_hour": (3600, {"money": 1, "s": -1}),
    "_money_total": (1, {"money": 1}),
    "_seconds_sum": (1, {"s": 1}),
    "_seconds_total": (1, {"s": 1}),
    "_seconds": (1, {"s": 1}),
    "_bytes_total": (1, {"byte": 1}),
    "_bytes": (1, {"byte": 1}),
    "_watts": (1, {"joule": 1, "s": -1}),
    "_joules_total": (1, {"joule": 1}),
    "_celsius": (1, {"celsius": 1}),
}


@dataclass(frozen=True)
class Measure:
    factor: float = 1
    exponents: Mapping[str, int] = field(default_factory=dict)
    literal: bool = False
    """A number that stands there: it fits whatever it is added to."""

    def times(self, other: "Measure", sign: int) -> "Measure":
        names = {*self.exponents, *other.exponents}
        sums = {name: self.exponents.get(name, 0) + sign * other.exponents.get(name, 0) for name in names}
        return Measure(self.factor * other.factor**sign, {name: n for name, n in sums.items() if n})

    def like(self, other: "Measure") -> "Measure":
        """Of two that are added or compared. Raises `ValueError` when they are not of a kind."""
        if self.literal or other.literal:
            return other if self.literal else self
        if (self.factor, self.exponents) != (other.factor, other.exponents):
            raise ValueError(f"{self} and {other} are put together")
        return self


COUNT = Measure()
UNITS: Mapping[str, Measure] = {
    "short": COUNT,
    "none": COUNT,
    "percentunit": COUNT,
    "suffix: rows": COUNT,
    "suffix: GPUs": COUNT,
    "s": Measure(1, {"s": 1}),
    "m": Measure(1 / 60, {"s": 1}),
    "h": Measure(1 / 3600, {"s": 1}),
    "bytes": Measure(1, {"byte": 1}),
    "watt": Measure(1, {"joule": 1, "s": -1}),
    "joule": Measure(1, {"joule": 1}),
    "celsius": Measure(1, {"celsius": 1}),
    "reqps": Measure(1, {"s": -1}),
    "suffix: /min": Measure(60, {"s": -1}),
    "suffix: passes/s": Measure(1, {"s": -1}),
    "suffix: /GPU s": Measure(1, {"s": -1}),
    "suffix: ¤": Measure(1, {"money": 1}),
    "suffix: ¤/h": Measure(3600, {"money": 1, "s": -1}),
}

_COUNTING = frozenset({"count", "group"})
_SAME = frozenset({"clamp_min", "clamp_max", "max_over_time", "min_over_time", "avg_over_time", "last_over_time"})


def measure(expr: pql.Expr) -> Measure:
    """Raises `ValueError` for what is put together and does not fit."""
    match expr:
        case pql.NumberLiteral():
            return Measure(literal=True)
        case pql.ParenExpr() | pql.UnaryExpr() | pql.SubqueryExpr():
            return measure(expr.expr)
        case pql.MatrixSelector():
            return measure(expr.vector_selector)
        case pql.VectorSelector():
            return _named(str(expr.name))
        case pql.AggregateExpr():
            return COUNT if str(expr.op) in _COUNTING else measure(expr.expr)
        case pql.Call():
            return _called(expr.func.name, expr.args)
        case pql.BinaryExpr():
            return _combined(expr)
        case _:
            raise ValueError(f"{expr} is not known here")


def _named(name: str) -> Measure:
    for end, (factor, exponents) in _NAMES.items():
        if name.endswith(end):
            return Measure(factor, exponents)
    return COUNT


def _called(name: str, args: list[pql.Expr]) -> Measure:
    if name == "time":
        return Measure(1, {"s": 1})
    if name == "rate":
        return measure(args[0]).times(Measure(1, {"s": 1}), -1)
    if name in ("vector", "scalar", "increase"):
        return measure(args[0])
    if name == "histogram_quantile":
        inside = str(next(iter(_selected(args[1]))).name)  # a bucket counts; what it is cut by is in its name
        return _named(inside.removesuffix("_bucket"))
    if name in _SAME:
        return measure(args[0])
    raise ValueError(f"{name}() is not known here")


def _selected(expr: pql.Expr) -> list[pql.VectorSelector]:
    found: list[pql.Expr] = []
    pql.walk(expr, pre_visit=found.append)
    return [one for one in found if isinstance(one, pql.VectorSelector)]


def _combined(expr: pql.BinaryExpr) -> Measure:
    left, right = measure(expr.lhs), measure(expr.rhs)
    match str(expr.op):
        case "*" | "/" as op:
            sign = 1 if op == "*" else -1
            value = Measure(_literal(expr.rhs) ** sign) if right.literal else right
            return left.times(value, 1 if right.literal else sign)
        case ">" | ">=" | "<" | "<=" | "==" | "!=":
            left.like(right)
            flag = expr.modifier is not None and expr.modifier.return_bool
            return COUNT if flag else left
        case "and" | "unless":
            return left
        case _:
            return left.like(right)


def _literal(expr: pql.Expr) -> float:
    match expr:
        case pql.ParenExpr():
            return _literal(expr.expr)
        case pql.NumberLiteral():
            return float(expr.val)
        case _:
            raise ValueError(f"{expr} is no number")
