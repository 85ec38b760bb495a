"""The header of a .safetensors file, read without trusting it.

Eight bytes give the length of a JSON object, little endian; the object names each tensor, its dtype, its shape and
where its bytes lie (https://github.com/huggingface/safetensors, README "Format").
"""

import json
from dataclasses import dataclass

from farm.core.errors import BadRequest

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
"""The limit of the reference implementation."""

_WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "U8": 1, "I8": 1, "BOOL": 1}
_WIDTHS |= {"F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8}

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    shapes: dict[str, Shape]
    floats: frozenset[str]  # names of those of a floating type
    metadata: dict[str, str]


def _refuse(why: str) -> BadRequest:
    return BadRequest(f"This is not a sound .safetensors file: {why}.", code="not_safetensors")


def header_bytes(first: bytes, *, cap: int = MAX_HEADER_BYTES) -> int:
    """Length of the header, from the first eight bytes of a file. Raises `BadRequest` before anything large is read."""
    if len(first) < LENGTH_BYTES:
        raise _refuse("it is too short")
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if not 2 <= length <= cap:
        # A pickle, a ZIP or any other file gives an absurd number here.
        raise _refuse(f"its first eight bytes ask for a header of {length} bytes; at most {cap} are read")
    return length


def parse(header: bytes, data_bytes: int, *, max_tensors: int) -> Header:
    """*header* is the JSON, *data_bytes* how much of the file follows it. Raises `BadRequest`."""
    try:
        entries = json.loads(header, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as fault:
        raise _refuse(f"its header is no JSON object ({fault})") from fault
    if not isinstance(entries, dict):
        raise _refuse("its header is no JSON object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise _refuse("its metadata is no object")
    if len(entries) > max_tensors:
        raise _refuse(f"it has {len(entries)} tensors; at most {max_tensors} are read")
    shapes = {name: _shape(name, entry, data_bytes) for name, entry in entries.items()}
    floats = frozenset(name for name, entry in entries.items() if "F" in entry["dtype"])
    return Header(shapes, floats, {str(k): str(v) for k, v in metadata.items()})


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The reference reader takes the last of two equal names: two readers could see two different files."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _shape(name: str, entry: object, data_bytes: int) -> Shape:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if dtype in _WIDTHS:
            if not all(type(n) is int and 0 <= n < 2**31 for n in shape):
                raise _refuse(f"{name[:80]!r} has an impossible shape")
            wanted = _WIDTHS[dtype]
            for n in shape:
                wanted *= n
            if not 0 <= begin <= end <= data_bytes or end - begin != wanted:
                raise _refuse(f"the bytes of {name[:80]!r} do not lie inside the file")
            return tuple(shape)
        case _:
            raise _refuse(f"the entry of {name[:80]!r} cannot be read")
