"""The root of all commands."""

from pathlib import Path
from typing import Annotated

import typer

from farm.cli import audit, campaigns, farm_verbs, keys, library, operating, processes, refining
from farm.cli.connect import Connection, data_folder
from farm.cli.exits import FarmGroup

app = typer.Typer(
    name="farm",
    cls=FarmGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or file, 3 some renders failed, 4 no good key, 5 timeout, "
    "130 Ctrl-C.",
)


@app.callback()
def root(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="The farm's address; else FARM_URL, else what `farm up` saved.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The API key; else FARM_API_KEY, else what `farm up` saved.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder of `farm up`; else FARM_DATA, else ./.farm.")] = None,
) -> None:
    """Halftone: every photo in every style.

    A first campaign:

        farm up

        farm campaign submit photos/ --style anime --strength 0.35 --watch

        farm campaign download CAMPAIGN pictures/
    """
    ctx.obj = Connection(url, key, data_folder(data))


app.command()(farm_verbs.up)
app.command()(farm_verbs.down)
app.command()(farm_verbs.status)
app.command()(farm_verbs.doctor)
app.command()(farm_verbs.demo)
app.add_typer(campaigns.app, name="campaign")
app.command()(refining.refine)
app.command()(refining.preview)
app.add_typer(library.source, name="source")
app.add_typer(library.style, name="style")
app.add_typer(library.lora, name="lora")
app.add_typer(library.checkpoint, name="checkpoint")
library.renderer.command()(operating.quarantine)
library.renderer.command()(operating.release)
app.add_typer(library.renderer, name="renderer")
app.command()(processes.api)
app.command()(processes.scheduler)
app.command()(processes.migrate)
app.command()(processes.ready)
operating.team.command("keys")(keys.team_keys)
operating.team.command("revoke")(keys.team_revoke)
app.add_typer(operating.team, name="team")
app.add_typer(operating.price, name="price")
app.command()(audit.audit)
app.command()(audit.garbage)
app.command()(farm_verbs.schema)


def main() -> None:
    app()
