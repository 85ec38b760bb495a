"""What may be said of a campaign beside what it renders: by when, for how much, after whose yes, where."""

from typing import Annotated, Any

import typer

from farm.cli.exits import USAGE, Stop
from farm.cli.words import moment_of

Deadline = Annotated[str | None, typer.Option(metavar="WHEN", help='When it is wanted: "2026-12-01 09:00" or "in 3h".')]
Budget = Annotated[float | None, typer.Option(min=0.01, metavar="MONEY", help="It pauses when this is spent.")]
Proof = Annotated[
    bool, typer.Option("--proof", help="Render a sample first, each style and strength once; the rest waits for a yes.")
]
ProofRenders = Annotated[int | None, typer.Option(min=1, max=500, metavar="N", help="A proof of so many renders.")]
Priority = Annotated[int | None, typer.Option(min=0, max=100, metavar="0-100", help="The higher goes first; 50 else.")]
OffPeak = Annotated[bool, typer.Option("--off-peak", help="Only in the hours that the operator calls off-peak.")]
Gpu = Annotated[str | None, typer.Option(metavar="TYPE", help="Only on this type, as in `farm renderer list`.")]


def wishes(
    *,
    deadline: str | None = None,
    budget: float | None = None,
    proof: bool = False,
    proof_renders: int | None = None,
    priority: int | None = None,
    off_peak: bool = False,
    gpu: str | None = None,
) -> dict[str, Any]:
    """Those that were given, as keys of a campaign file. They go before what stands in the file."""
    given = {
        "deadline": deadline,
        "budget": budget,
        "proof": proof_renders or proof or None,
        "priority": priority,
        "off_peak": off_peak or None,
        "gpu": gpu,
    }
    return {key: value for key, value in given.items() if value is not None}


def spelled_out(value: dict[str, Any]) -> dict[str, Any]:
    """A file's shorthands as the API wants them: ``budget: 25``, ``proof: true``, ``deadline: in 3h``.

    What cannot be understood goes on to the validation, which says so; only a deadline is refused here, as `Stop`.
    """
    changed: dict[str, Any] = {}
    if _given(value, "deadline"):
        changed["deadline"] = moment_of(value["deadline"])
    if isinstance(value.get("budget"), int | float):
        changed["budget"] = {"money": value["budget"]}
    match value.get("proof"):
        case bool() as wanted:
            changed["proof"] = {} if wanted else None
        case int() as renders:
            changed["proof"] = {"renders": renders}
    return {**value, **changed}


def _given(value: dict[str, Any], key: str) -> bool:
    return value.get(key) is not None


def new_budget(text: str) -> float | None:
    """Of `farm campaign set`: an amount, or None for ``none``. Raises `Stop`."""
    if text.strip().lower() == "none":
        return None
    try:
        amount = float(text)
    except ValueError:
        amount = 0.0
    if not 0 < amount < float("inf"):
        raise Stop(f"{text!r} is no budget: write an amount such as 25.00, or none.", USAGE)
    return amount
