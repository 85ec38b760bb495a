"""Ids, and how they look on the wire.

A number made by `mint` holds the milliseconds since 2025 in its upper 41 bits and 22 random bits below: it sorts by
age, tells nobody how many there are, and fits PostgreSQL's ``bigint`` until 2094.
"""

from datetime import UTC, datetime, timedelta
from typing import NewType

from farm.core.errors import NotFound

TeamId = NewType("TeamId", int)
CampaignId = NewType("CampaignId", int)
ShardId = NewType("ShardId", int)
StyleId = NewType("StyleId", int)
CheckpointId = NewType("CheckpointId", int)
LoraId = NewType("LoraId", int)
KeyId = NewType("KeyId", int)
Ordinal = NewType("Ordinal", int)
Fence = NewType("Fence", str)
Epoch = NewType("Epoch", int)
Session = NewType("Session", str)
RendererName = NewType("RendererName", str)


def fleet_of(name: str) -> str:
    """The fleet of a renderer, which is called ``farm/<fleet>/<revision>/<number>``."""
    parts = name.split("/")
    return parts[1] if len(parts) > 2 else ""


_BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
_RANDOM_BITS = 22
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u
_VALUES = {c: i for i, c in enumerate(_ALPHABET)}
_LENGTH = 13  # 65 bits


def mint(now: datetime, random_bits: int) -> int:
    """A new id. *random_bits* is any non-negative number; its lower 22 bits are used."""
    milliseconds = (now - _BEGIN) // timedelta(milliseconds=1)  # in whole numbers: a float may fall short by one
    return (milliseconds << _RANDOM_BITS) | (random_bits & ((1 << _RANDOM_BITS) - 1))


def first_of(moment: datetime) -> int:
    """The smallest id that `mint` can give at *moment*: where a partition begins."""
    return mint(moment, 0)


def show(prefix: str, number: int) -> str:
    """``show("cmp", 5)`` is ``cmp_0000000000005``."""
    digits = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(digits))}"


def read(prefix: str, text: str) -> int:
    """The number of an id as `show` wrote it; anything else raises `NotFound`, for no such thing can exist."""
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != _LENGTH or any(c not in _VALUES for c in tail):
        raise NotFound(f"There is no {text!r}: ids of this kind look like {prefix}_ and {_LENGTH} letters and digits.")
    number = 0
    for c in tail:
        number = number * 32 + _VALUES[c]
    if number >= 2**63:
        raise NotFound(f"There is no {text!r}.")
    return number


def show_render(campaign: CampaignId, ordinal: int) -> str:
    return f"{show('rnd', campaign)}_{ordinal}"


def read_render(text: str) -> tuple[CampaignId, Ordinal]:
    head, _, ordinal = text.rpartition("_")
    if not (ordinal.isascii() and ordinal.isdigit() and len(ordinal) <= 18):
        raise NotFound(f"There is no {text!r}: a render's id looks like rnd_, 13 letters and digits, _ and a number.")
    return CampaignId(read("rnd", head)), Ordinal(int(ordinal))


def show_source(sha256: str) -> str:
    return f"src_{sha256}"
