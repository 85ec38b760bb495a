"""Campaigns and teams: who waits, who works, what they get."""

from ops.dashboards.board import Board, Row
from ops.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    YELLOW,
    Query,
    bars_panel,
    lines_panel,
    stat_panel,
)
from ops.dashboards.queries import increase, most, of, quantile, rate, share, since_new, total

_TEAM = 'team=~"$team"'
_ASKING = f"({of('farm_team_queue_renders')} > 0 or {of('farm_team_renderers')} > 0)"
_OF_ALL = f"scalar({total(of('farm_team_weight') + ' and on (namespace, team) ' + _ASKING)} > 0)"
_DUE = f"{total(of('farm_team_weight', _TEAM) + ' and on (namespace, team) ' + _ASKING, 'team')} / {_OF_ALL}"

_STAND = Row(
    "Where do campaigns stand?",
    [
        stat_panel(
            "Which campaigns will be late?",
            "Of all teams. `farm campaign why` says what holds one up; more renderers or a later deadline help.",
            "short",
            total(of("farm_campaigns_deadline_at_risk")),
            steps=[(None, GREEN), (1, RED)],
        ),
        stat_panel(
            "Whose budget is nearly spent?",
            "Campaigns that have spent four fifths of their budget, or all of it; those pause by themselves. Ask their "
            "owner before the night.",
            "short",
            total(of("farm_campaigns_budget_near")),
            steps=[(None, GREEN), (1, YELLOW)],
        ),
        stat_panel(
            "How many renders were asked for?",
            "In campaigns accepted over the time shown, of all teams.",
            "short",
            total(increase("farm_api_submitted_renders_total")),
            over_range=True,
        ),
        stat_panel(
            "Which share need not be rendered?",
            "Taken over from earlier campaigns over the time shown. High when people edit campaigns in small steps.",
            "percentunit",
            share(
                total(increase("farm_team_renders_total", _TEAM, 'outcome="reused"')),
                total(increase("farm_team_renders_total", _TEAM)),
            ),
            over_range=True,
        ),
        lines_panel(
            "In which state are campaigns?",
            "Purple ones wait for a person who looks at the proof, grey ones were paused or have no budget left: no "
            "GPU works on either.",
            "short",
            [Query(total(of("farm_campaigns"), "state"), "{{state}}")],
            stacked=True,
            colours={"active": GREEN, "proofing": BLUE, "awaiting_approval": PURPLE, "paused": GREY},
        ),
        bars_panel(
            "Of what were people warned?",
            "Warnings over the time shown, by code. `deadline_at_risk`: too few renderers for what was promised; "
            "`budget_near`, `budget_spent`, `team_budget_near`: talk to the team.",
            "short",
            Query(total(increase("farm_campaign_warnings_total"), "code"), "{{code}}"),
            steps=[(None, YELLOW)],
            over_range=True,
        ),
    ],
)

_SHARES = Row(
    "Who waits, and who works?",
    [
        lines_panel(
            "Whose work waits?",
            "GPU seconds that are ready to be taken, by team. A large hill is no fault as long as the team's share of "
            "renderers beside it is what it is due.",
            "s",
            [Query(total(of("farm_team_queue_gpu_seconds", _TEAM), "team"), "{{team}}")],
            stacked=True,
        ),
        lines_panel(
            "Does each team get its share?",
            "Solid: the share of working renderers that a team has. Dashed: what its weight gives it among the teams "
            "that want any. The two meet over a quarter of an hour; if not, a quota is in the way (`farm team list`).",
            "percentunit",
            [
                Query(
                    f"{total(of('farm_team_renderers', _TEAM), 'team')} / "
                    f"scalar({total(of('farm_team_renderers'))} > 0)",
                    "{{team}}",
                ),
                Query(_DUE, "{{team}} is due", dashed=True),
            ],
            most=1,
        ),
        lines_panel(
            "Who waits longest?",
            "How long each team's oldest ready shard has waited. Without end: its share is zero, or nothing fits.",
            "s",
            [Query(most(of("farm_team_oldest_wait_seconds", _TEAM), "team"), "{{team}}")],
            limits=[(7200, RED)],
        ),
        lines_panel(
            "How long is a shard ready before it is taken?",
            "Half of the shards are faster than the lower line, 95 of 100 faster than the upper one. `interactive` is "
            "a person who looks at the screen: seconds are right. `bulk` may take hours.",
            "s",
            [
                Query(quantile(0.5, "farm_shard_wait_seconds", by="lane"), "{{lane}}, half"),
                Query(quantile(0.95, "farm_shard_wait_seconds", by="lane"), "{{lane}}, 95 %"),
            ],
        ),
    ],
)

_RESULTS = Row(
    "What do they get?",
    [
        lines_panel(
            "How many renders does each team get?",
            "With an outcome, per minute, reused ones too.",
            "suffix: /min",
            [Query(f"{total(rate('farm_team_renders_total', _TEAM), 'team')} * 60", "{{team}}")],
            stacked=True,
        ),
        lines_panel(
            "Why do renders fail?",
            "Those given up after all tries, by kind, per minute, of all teams. `bad_source` is a photo, the others "
            "are the farm's or the style's: the codes beside say more.",
            "suffix: /min",
            [Query(f"{total(rate('farm_renders_failed_total'), 'kind')} * 60", "{{kind}}")],
            stacked=True,
        ),
        bars_panel(
            "Which tries failed?",
            "The ten most frequent codes of failed tries over the time shown; most are tried again and succeed. "
            "docs/reference/errors.md has a sentence for each.",
            "short",
            Query(f"topk(10, {total(since_new('farm_render_failed_tries_total'), 'code')})", "{{code}}"),
            steps=[(None, ORANGE)],
            over_range=True,
        ),
        lines_panel(
            "How many pictures miss a check?",
            "Pictures that are kept although they miss a check of their style, and tries thrown away because of one, "
            "per minute. Many: the check is too strict or the strength too high for the style.",
            "suffix: /min",
            [
                Query(f"{total(rate('farm_checks_missed_total'), 'check')} * 60", "kept, misses {{check}}"),
                Query(f"{total(rate('farm_rerolls_total'))} * 60", "thrown away"),
            ],
            colours={"thrown away": GREY},
        ),
    ],
)

BOARD = Board(
    "halftone-campaigns",
    "Halftone / Campaigns and teams",
    "Who waits, who works, and what they get.",
    [_STAND, _SHARES, _RESULTS],
    choices=("team",),
    hours=12,
)
