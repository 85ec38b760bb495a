"""What operators do as the owner of the database: `farm team|price ...`, `farm renderer quarantine|release`.

They read FARM_OWNER_DATABASE_URL; without it they use the database of the farm that `farm up` keeps in its data folder.
"""

from typing import Annotated, Any

import typer

from farm.cli.connect import client, connection
from farm.cli.exits import USAGE, Stop
from farm.cli.output import Json, say, show_json, show_one, show_table
from farm.cli.words import span
from schemas.campaign import Budget
from schemas.team import Team, TeamLimits

team = typer.Typer(no_args_is_help=True, help="Teams: your own, and as the operator of the database makes them.")
price = typer.Typer(no_args_is_help=True, help="What a GPU costs an hour, as the operator sets it.")

TEAM = ("name", "weight", "quota", "burst", "GPU time this month", "money this month", "budget", "retention days")

Name = Annotated[str, typer.Argument(help="The team.")]
Renderer = Annotated[str, typer.Argument(help="Its name, as `farm renderer list` shows it.")]

# What speaks to the database takes libraries that the other verbs do without, so it is imported where it is used.


@team.command("add")
def team_add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The team; made when there is none of that name.")],
    label: Annotated[str, typer.Option(help="What the key is for, as `farm team keys` shows it.")] = "first",
) -> None:
    """Print a new API key of a team. It is shown once; the farm keeps only its sha256. Older keys stay good.

    For operators: reads FARM_OWNER_DATABASE_URL, or uses the farm that `farm up` has started here.

    Example:

        farm team add spring-catalogue
    """
    from farm import bootstrap

    typer.echo(bootstrap.add_team(name, connection(ctx).data, label=label))


@team.command("show")
def team_show(ctx: typer.Context, as_json: Json = False) -> None:
    """The team of your key: its share, its limits, and what it has spent this month (UTC)."""
    found = client(ctx).team()
    show_one(found, _facts(found), as_json=as_json)


@team.command("list")
def team_list(ctx: typer.Context, as_json: Json = False) -> None:
    """Every team with its limits and what it has spent this month (UTC).

    For operators: reads FARM_OWNER_DATABASE_URL, or uses the farm that `farm up` has started here.
    """
    from farm import bootstrap

    found = bootstrap.teams(connection(ctx).data)
    if as_json:
        show_json([one.model_dump(mode="json") for one in found])
    else:
        show_table(TEAM, [_cells(one) for one in found])


@team.command("set")
def team_set(
    ctx: typer.Context,
    name: Name,
    weight: Annotated[float | None, typer.Option(min=0.001, max=1000, help="Of its share of GPU time; 1 else.")] = None,
    quota: Annotated[
        int | None, typer.Option(min=0, help="Renderers at once while other teams wait; 0: no limit.")
    ] = None,
    burst: Annotated[int | None, typer.Option(min=0, help="Renderers at once in any case; 0: no limit.")] = None,
    budget_money: Annotated[float | None, typer.Option(min=0, help="For each calendar month; 0: no limit.")] = None,
    budget_gpu_hours: Annotated[float | None, typer.Option(min=0, help="The same in GPU hours; 0: no limit.")] = None,
    max_renders: Annotated[int | None, typer.Option(min=1, help="That it may have waiting at once.")] = None,
    retention_days: Annotated[
        int | None, typer.Option(min=0, help="Pictures of ended campaigns are kept so long; 0: for ever.")
    ] = None,
) -> None:
    """Change a team's limits. What is left out stays as it is.

    For operators: reads FARM_OWNER_DATABASE_URL, or uses the farm that `farm up` has started here.

    Example:

        farm team set spring-catalogue --weight 2 --quota 8 --budget-money 500
    """
    from farm import bootstrap

    data = connection(ctx).data
    given: dict[str, Any] = {
        "weight": weight,
        "quota": quota,
        "burst": burst,
        "max_renders": max_renders,
        "retention_days": retention_days,
    }
    if budget_money is not None or budget_gpu_hours is not None:
        given["budget"] = _budget(bootstrap.team(name, data).budget, budget_money, budget_gpu_hours)
    limits = TeamLimits(**{key: value for key, value in given.items() if value is not None})
    if limits == TeamLimits():
        raise Stop("Say what changes: --weight, --quota, --burst, --budget-money or another one.", USAGE)
    bootstrap.set_team(name, limits, data)
    changed = bootstrap.team(name, data)
    show_one(changed, _facts(changed), as_json=False)


def _budget(old: Budget | None, money: float | None, gpu_hours: float | None) -> Budget:
    """The limit that was not named stays."""
    changed: dict[str, float | None] = {}
    if money is not None:
        changed["money"] = money or None
    if gpu_hours is not None:
        changed["gpu_seconds"] = gpu_hours * 3600 or None
    return (old or Budget()).model_copy(update=changed)


@price.command("set")
def price_set(
    ctx: typer.Context,
    gpu: Annotated[str, typer.Argument(help="As `farm renderer list` shows it; '*' for every type without its own.")],
    per_hour: Annotated[float, typer.Argument(min=0, help="In the farm's currency.")],
) -> None:
    """What an hour of a type of GPU costs from now on. What was spent before stays as it was charged.

    For operators: reads FARM_OWNER_DATABASE_URL, or uses the farm that `farm up` has started here.

    Examples:

        farm price set "NVIDIA H100 80GB HBM3" 2.49

        farm price set '*' 1.00
    """
    from farm import bootstrap

    bootstrap.set_price(gpu, per_hour, connection(ctx).data)
    say(f"An hour of {'any other type' if gpu == '*' else gpu} costs {per_hour:,.2f} from now on.")


@price.command("list")
def price_list(ctx: typer.Context, as_json: Json = False) -> None:
    """Prices an hour by type of GPU; `*` is for every type without its own.

    For operators: reads FARM_OWNER_DATABASE_URL, or uses the farm that `farm up` has started here.
    """
    from farm import bootstrap

    found = bootstrap.prices(connection(ctx).data)
    if as_json:
        show_json(found)
    else:
        show_table(("GPU", "an hour"), [(gpu, f"{per_hour:.2f}") for gpu, per_hour in sorted(found.items())])


def quarantine(
    ctx: typer.Context,
    name: Renderer,
    why: Annotated[str, typer.Option(help="Shown beside it to everybody.")] = "by hand",
) -> None:
    """Give a renderer no more work, until `farm renderer release`.

    For operators: reads FARM_OWNER_DATABASE_URL, or uses the farm that `farm up` has started here.

    Example:

        farm renderer quarantine farm/local/1/0 --why "its fan rattles"
    """
    from farm import bootstrap

    bootstrap.quarantine(name, why, connection(ctx).data)
    say(f"{name} gets no more work. `farm renderer release {name}` ends it.")


def release(ctx: typer.Context, name: Renderer) -> None:
    """End the quarantine of a renderer, whoever began it.

    For operators: reads FARM_OWNER_DATABASE_URL, or uses the farm that `farm up` has started here.
    """
    from farm import bootstrap

    bootstrap.release(name, connection(ctx).data)
    say(f"{name} gets work again.")


def _facts(found: Team) -> list[tuple[str, object]]:
    budget = found.budget or Budget()
    return [
        ("name", found.name),
        ("weight", f"{found.weight:g}"),
        ("quota", _none(found.quota)),
        ("burst", _none(found.burst)),
        ("renders at once", found.max_renders),
        ("GPU time this month", span(found.spent.gpu_seconds)),
        ("money this month", f"{found.spent.money:.2f}"),
        ("budget of a month", _limits(budget)),
        ("retention days", "for ever" if found.retention_days is None else found.retention_days),
    ]


def _cells(found: Team) -> tuple[object, ...]:
    facts = dict(_facts(found))
    names = ("name", "weight", "quota", "burst", "GPU time this month", "money this month", "budget of a month")
    return (*(facts[name] for name in names), facts["retention days"])


def _none(limit: int | None) -> str:
    return "none" if limit is None else str(limit)


def _limits(budget: Budget) -> str:
    found = [] if budget.money is None else [f"{budget.money:.2f}"]
    if budget.gpu_seconds is not None:
        found.append(f"{budget.gpu_seconds / 3600:g} GPU hours")
    return " and ".join(found) or "none"
