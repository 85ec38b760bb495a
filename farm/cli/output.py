"""What the commands print: tables for people, tab-separated lines for pipes, JSON for programs.

Answers go to stdout, everything else to stderr.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Row = TypeVar("Row", bound=BaseModel)


def show_list(
    rows: Iterable[Row], columns: Sequence[str], cells: Callable[[Row], Sequence[object]], *, as_json: bool
) -> None:
    if as_json:
        show_json([row.model_dump(mode="json") for row in rows])
        return
    show_table(columns, [cells(row) for row in rows])


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A pipe gets the bare values: no header, no padding, nothing cut off."""
    if not out.is_terminal:
        for row in rows:
            typer.echo("\t".join(str(cell).replace("\t", " ").replace("\n", " ") for cell in row))
        return
    table = Table(*columns, title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out.print(table, soft_wrap=False)


def show_one(row: BaseModel, pairs: Iterable[tuple[str, object]], *, as_json: bool) -> None:
    if as_json:
        show_json(row.model_dump(mode="json"))
    else:
        show_table(("", ""), pairs)


def show_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """A sentence beside the answer."""
    err.print(text, markup=False)


def day(moment: str | None) -> str:
    return "" if moment is None else moment[:16].replace("T", " ")


def size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"
