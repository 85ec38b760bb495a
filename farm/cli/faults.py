"""What pydantic finds wrong in a file, as one says it to whoever wrote the file."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[int | str, ...]

AT_MOST = 20
_MISSING = {
    "sources": "missing; a folder, a file or a list of them",
    "styles": "missing; a name or a list of them, `farm style list` shows those there are",
    "blocks": "missing; at least one, with `sources` and `styles`",
}


def sentences(fault: ValidationError, kind: type[BaseModel], inline: Location = ()) -> list[str]:
    """One for each fault, the first few. What lies at *inline* stands at the top of the file."""
    errors = list(_real(fault.errors()))
    told = [f"  {_where(error['loc'], inline)}: {_said(error, kind, inline)}" for error in errors[:AT_MOST]]
    return told if len(errors) <= AT_MOST else [*told, f"  and {len(errors) - AT_MOST} more"]


def _real(errors: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Without lists that are "too short" only because what stands in them was wrong, which is said already."""
    around = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
    return (error for error in errors if error["type"] != "too_short" or error["loc"] not in around)


def _where(location: Location, inline: Location) -> str:
    inside = inline and len(location) > len(inline) and location[: len(inline)] == inline
    parts = location[len(inline) :] if inside else location
    return " ".join(f"no. {part + 1}" if isinstance(part, int) else part for part in parts) or "the file"


def _said(error: ErrorDetails, kind: type[BaseModel], inline: Location) -> str:
    location, given, context = error["loc"], error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return _no_such_key(str(location[-1]), _keys(kind, location[:-1], inline))
        case "missing" | "too_short":
            return _MISSING.get(str(location[-1]), "missing")
        case "too_long":
            return f"these are {len(given):,}; at most {context['max_length']:,}"
        case "less_than_equal":
            return f"{given} is too large; at most {context['le']:,g}"
        case "greater_than_equal":
            return f"{given} is too small; at least {context['ge']:,g}"
        case "model_type":
            return "keys and their values belong here, each as `key: value`"
        case "value_error":
            return str(context["error"])
        case _:
            return error["msg"]


def _no_such_key(key: str, keys: Sequence[str]) -> str:
    near = get_close_matches(key, keys, 1)
    return "there is no such key; " + (f"did you mean `{near[0]}`?" if near else f"there are {', '.join(keys)}")


def _keys(kind: type[BaseModel], location: Location, inline: Location) -> list[str]:
    """What may stand at *location*; at the top of the file also what is *inline*."""
    found = _fields(kind, location)
    if location or not inline:
        return found
    return [key for key in found if key != inline[0]] + _fields(kind, inline)


def _fields(kind: type[BaseModel], location: Location) -> list[str]:
    at: type[BaseModel] | None = kind
    for part in location:
        if isinstance(part, str) and at is not None:
            at = _model_in(at.model_fields[part].annotation) if part in at.model_fields else None
    return [] if at is None else list(at.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """``SourceEntry`` of ``tuple[SourceEntry, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
