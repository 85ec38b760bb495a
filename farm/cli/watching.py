"""Staying with a campaign from the command line: until it has ended, or waits for somebody's yes."""

from datetime import timedelta
from typing import Annotated

import typer

from farm.cli.exits import FAILED, SOME_FAILED, Stop
from farm.cli.output import err, show_one
from farm.cli.showing import check_facts, facts, say_proof
from farm.cli.watch import watch as watch_campaign
from farm.sdk import Client
from schemas.campaign import CampaignState

Timeout = Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Give up waiting after this long.")]
Watch = Annotated[
    bool, typer.Option("--watch", "--wait", help="Stay until it has ended, or its proof waits for approval.")
]


def watch_and_show(farm: Client, campaign: str, timeout: float | None, *, as_json: bool) -> None:
    """Raises `Stop` when renders failed or it was cancelled."""
    limit = None if timeout is None else timedelta(seconds=timeout)
    found = watch_campaign(farm, campaign, err, timeout=limit)
    checks = [] if as_json else check_facts(farm.checks(campaign))
    show_one(found, [*facts(found), *checks], as_json=as_json)
    if found.state is CampaignState.AWAITING_APPROVAL:
        say_proof(found)
        return
    if found.counts.failed:
        raise Stop(f"{found.counts.failed} renders failed. `farm campaign retry {campaign}` tries again.", SOME_FAILED)
    if found.state is CampaignState.CANCELLED:
        raise Stop("The campaign was cancelled.", FAILED)
