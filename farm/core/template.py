"""Prompt templates: text in which ``{name}`` stands for a value. There is nothing else to it.

No expressions, no attributes, no format specifications: a prompt comes from a user, so it must not be able to reach
into anything.
"""

import re
from collections.abc import Mapping

_PLACE = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")


def names(template: str) -> frozenset[str]:
    """What a template asks for: ``names("{sku}, {prompt}")`` is ``{"sku", "prompt"}``."""
    return frozenset(_PLACE.findall(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Each place with its value; what is put in is not looked at again. Raises `KeyError` when one is missing."""
    if "{" not in template:  # most have none, and this is done for every render
        return template
    return _PLACE.sub(lambda place: values[place[1]], template)


def stray(template: str) -> str | None:
    """The first brace that belongs to no ``{name}``, with what follows it; None when there is none."""
    rest = _PLACE.sub("", template)
    at = min((i for i in (rest.find("{"), rest.find("}")) if i >= 0), default=-1)
    return rest[at : at + 20] if at >= 0 else None
