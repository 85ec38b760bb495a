"""Cost: what the farm costs, who is charged, what is idle and what is saved.

Money is in the farm's currency (`FARM_CURRENCY`); the JSON has the sign for any currency, which the chart replaces.
"""

from ops.dashboards.board import Board, Row
from ops.dashboards.panels import (
    GREEN,
    MONEY,
    MONEY_PER_HOUR,
    RED,
    YELLOW,
    Query,
    bars_panel,
    lines_panel,
    stat_panel,
)
from ops.dashboards.queries import in_fleet, increase, money_per_hour, most, of, rate, share, total

_FLEET, _TEAM = 'fleet=~"$fleet"', 'team=~"$team"'
_CAPACITY = money_per_hour(_FLEET)
_CHARGED = total(rate("farm_charged_money_total", _FLEET)) + " * 3600"
_SPENT_IDLE = total(in_fleet(rate("farm_renderer_gpu_seconds_total", 'doing="idle"')), "namespace", "fleet")
_SPENT = total(in_fleet(rate("farm_renderer_gpu_seconds_total")), "namespace", "fleet")
_IDLE = f"{share(_SPENT_IDLE, _SPENT)} * on (namespace, fleet) ({_CAPACITY})"
_PRICE = share(
    total(increase("farm_charged_money_total", _TEAM)),
    total(increase("farm_team_renders_total", _TEAM, 'outcome="succeeded"')),
)
_REUSED = total(increase("farm_team_renders_total", _TEAM, 'outcome="reused"'))

# Cost per approved render: the panel stands in the row "What does a picture cost?", beside cost per render, as soon as
# people review pictures and a metric counts the approved ones. The same division as _PRICE, with that metric below.

_NOW = Row(
    "What does it cost now?",
    [
        stat_panel(
            "What does the farm cost an hour?",
            "Renderers that are up, at the price of their fleet. No price set (`farm price set`) is a price of 0.",
            MONEY_PER_HOUR,
            total(_CAPACITY),
        ),
        stat_panel(
            "How much of that is charged?",
            "GPU time of renders, failed tries too, as teams pay for it. The rest is loading, waiting and idle time.",
            MONEY_PER_HOUR,
            _CHARGED,
        ),
        stat_panel(
            "Which share is charged to nobody?",
            "Of the money for renderers that are up. Above a half for hours: lower `FARM_FLEET_LEAST` or "
            "`FARM_FLEET_IDLE_TIME`, or bring more work.",
            "percentunit",
            f"clamp_min(1 - {_CHARGED} / ({total(_CAPACITY)} > 0), 0)",
            steps=[(None, GREEN), (0.3, YELLOW), (0.6, RED)],
        ),
        stat_panel(
            "What was charged?",
            "To the chosen teams, on the chosen fleets, over the time shown.",
            MONEY,
            total(increase("farm_charged_money_total", _FLEET, _TEAM)),
            over_range=True,
        ),
        lines_panel(
            "Is what is paid for used?",
            "Filled: what renderers that are up cost, by fleet. Dashed: what of it is charged. The gap is idle money; "
            "it should close within `FARM_FLEET_IDLE_TIME` after the queue is empty.",
            MONEY_PER_HOUR,
            [
                Query(total(_CAPACITY, "fleet"), "{{fleet}}"),
                Query(_CHARGED, "charged", dashed=True),
            ],
            stacked=True,
            colours={"charged": GREEN},
        ),
        lines_panel(
            "What do idle GPUs cost?",
            "The share of GPU time without work, at the fleet's price. Cheap fleets should be the last to be idle: the "
            "order in `FARM_FLEETS` decides.",
            MONEY_PER_HOUR,
            [Query(total(_IDLE, "fleet"), "{{fleet}}")],
            stacked=True,
        ),
    ],
)

_PICTURES = Row(
    "What does a picture cost?",
    [
        stat_panel(
            "What does a picture cost?",
            "Charged to the chosen teams, for each picture that succeeded, over the time shown. Failed tries are in "
            "it; reused pictures cost nothing and are left out.",
            MONEY,
            _PRICE,
            over_range=True,
        ),
        stat_panel(
            "What did reuse save?",
            "Pictures taken over from earlier campaigns over the time shown, at what a picture cost in that time.",
            MONEY,
            f"{_REUSED} * {_PRICE}",
            over_range=True,
        ),
        stat_panel(
            "How many GPUs do warm weights replace?",
            "Loading that did not happen because weights were there already, in GPUs that would have done nothing "
            "else. This is what warm placement is for.",
            "suffix: GPUs",
            total(rate("farm_cache_saved_seconds_total")),
        ),
        stat_panel(
            "How many GPU hours were charged?",
            "To the chosen teams, on the chosen fleets, over the time shown.",
            "h",
            total(increase("farm_charged_gpu_seconds_total", _FLEET, _TEAM)) + " / 3600",
            over_range=True,
        ),
        lines_panel(
            "Whose pictures are dear?",
            "What a picture cost each team, as it went. A jump is another style, size or number of steps, or a fleet "
            "with another price.",
            MONEY,
            [
                Query(
                    share(
                        total(rate("farm_charged_money_total", _TEAM), "team"),
                        total(rate("farm_team_renders_total", _TEAM, 'outcome="succeeded"'), "team"),
                    ),
                    "{{team}}",
                )
            ],
        ).span(24),
    ],
)

_PAYERS = Row(
    "Who pays?",
    [
        lines_panel(
            "Who is charged, as it goes?",
            "By team. Compare with its weight: over a day, a team that always has work is charged by its weight.",
            MONEY_PER_HOUR,
            [Query(f"{total(rate('farm_charged_money_total', _FLEET, _TEAM), 'team')} * 3600", "{{team}}")],
            stacked=True,
        ).span(8),
        bars_panel(
            "Who was charged how much?",
            "Over the time shown, by team and fleet: what a bill for this time says.",
            MONEY,
            Query(total(increase("farm_charged_money_total", _FLEET, _TEAM), "team", "fleet"), "{{team}}, {{fleet}}"),
            over_range=True,
        ).span(8),
        bars_panel(
            "How much of its budget has each team used?",
            "Of this month's. At 80 % its people are warned, at 100 % its campaigns pause until the month is over or "
            "somebody raises it (`farm team set`). Teams without a budget are not here.",
            "percentunit",
            Query(most(of("farm_team_budget_used_ratio", _TEAM), "team"), "{{team}}"),
            steps=[(None, GREEN), (0.8, YELLOW), (1, RED)],
        ).span(8),
    ],
)

BOARD = Board(
    "halftone-cost",
    "Halftone / Cost",
    "What the farm costs, who is charged, what is idle and what is saved.",
    [_NOW, _PICTURES, _PAYERS],
    choices=("fleet", "team"),
    hours=24,
)
