"""Farm overview: is the farm well, and if not, which of the other boards says why."""

from ops.dashboards.board import Board, Row
from ops.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    MONEY_PER_HOUR,
    ORANGE,
    RED,
    TEAL,
    YELLOW,
    Query,
    bars_panel,
    lines_panel,
    stat_panel,
    table_panel,
)
from ops.dashboards.queries import BUSY, money_per_hour, most, of, rate, share, total

_SUCCEEDED = total(rate("farm_renders_total", 'outcome="succeeded"')) + " * 60"
_FAILED = share(
    total(rate("farm_renders_total", 'outcome="failed"')),
    total(rate("farm_renders_total", 'outcome=~"succeeded|failed"')),
)
_WORKING = total(of("farm_renderers", 'state=~"idle|busy"'))
_BUSY = share(
    total(rate("farm_renderer_gpu_seconds_total", BUSY)),
    total(rate("farm_renderer_gpu_seconds_total")),
)
_IDLE = share(
    total(rate("farm_renderer_gpu_seconds_total", 'doing="idle"')),
    total(rate("farm_renderer_gpu_seconds_total")),
)
_WORK_WAITS = total(of("farm_queue_renders", 'state="ready"')) + " > bool 0"
_FIRING = of("ALERTS", 'alertname=~"Halftone.*"', 'alertstate="firing"')

_GLANCE = Row(
    "Is the farm well?",
    [
        stat_panel(
            "Does a scheduler lead?",
            "1 is right. 0: nothing is dispatched; look at the scheduler's pods and at the database. 2 for longer than "
            "a scrape: two farms in one namespace, or a leader that hangs.",
            "short",
            total(of("farm_scheduler_leading")),
            steps=[(None, RED), (1, GREEN), (2, ORANGE)],
        ),
        stat_panel(
            "How many alerts fire?",
            "0 is right. The table at the bottom names them; each has a runbook.",
            "short",
            f"count({_FIRING}) or vector(0)",
            steps=[(None, GREEN), (1, ORANGE), (3, RED)],
        ),
        stat_panel(
            "How many pictures a minute?",
            "Renders that succeeded. 0 while the queue is not empty: look at the alerts first, then at Control plane.",
            "suffix: /min",
            _SUCCEEDED,
        ),
        stat_panel(
            "Which share of renders fails?",
            "Of those rendered, not of those reused. A few bad photos are normal; more than one in twenty is a bad "
            "style, checkpoint or GPU: Campaigns and teams shows the kinds of failure.",
            "percentunit",
            _FAILED,
            steps=[(None, GREEN), (0.01, YELLOW), (0.05, RED)],
        ),
        stat_panel(
            "When is the queue through?",
            "Minutes that the queue takes with the renderers that there are now. Hours are normal for large campaigns; "
            "compare with deadlines at risk.",
            "m",
            f"{total(of('farm_queue_gpu_seconds'))} / ({_WORKING} > 0) / 60",
            steps=[(None, GREEN), (240, YELLOW), (1440, ORANGE)],
        ),
        stat_panel(
            "How long has the oldest work waited?",
            "A shard is ready when a renderer could take it at once. Long while renderers are idle: nothing fits, see "
            "`farm campaign why`. Long while all are busy: more renderers, or patience.",
            "s",
            most(of("farm_team_oldest_wait_seconds")),
            steps=[(None, GREEN), (1800, YELLOW), (7200, RED)],
        ),
        stat_panel(
            "Which campaigns will be late?",
            "Campaigns that will miss their deadline as things stand. More renderers (`FARM_FLEET_RENDERERS`), or a "
            "later deadline; Campaigns and teams shows whose work is before theirs.",
            "short",
            total(of("farm_campaigns_deadline_at_risk")),
            steps=[(None, GREEN), (1, RED)],
        ),
        stat_panel(
            "What does the farm cost an hour?",
            "Renderers that are up, at the price that operators set (`farm price set`), in the farm's currency. "
            "Cost shows who pays for it, and how much is idle.",
            MONEY_PER_HOUR,
            total(money_per_hour()),
        ),
    ],
)

_WORK = Row(
    "Is work done?",
    [
        lines_panel(
            "What becomes of renders?",
            "Reused ones cost nothing: an earlier campaign had them. Red in every minute means that something is wrong "
            "with a style or a renderer, not with the odd photo.",
            "suffix: /min",
            [Query(f"{total(rate('farm_renders_total'), 'outcome')} * 60", "{{outcome}}")],
            stacked=True,
            colours={"succeeded": GREEN, "failed": RED, "reused": BLUE},
        ),
        lines_panel(
            "Is the queue getting shorter?",
            "GPU seconds that the renders without an outcome should take, by the state of their shard. Only ready ones "
            "can be taken. A hill that only grows needs more renderers or fewer campaigns.",
            "s",
            [Query(total(of("farm_queue_gpu_seconds"), "state"), "{{state}}")],
            stacked=True,
            colours={"ready": ORANGE, "leased": GREEN},
        ),
    ],
)

_GPUS = Row(
    "Are GPUs used?",
    [
        lines_panel(
            "Are GPUs busy while work waits?",
            "Busy is encoding, denoising and decoding. Red is the share of GPU time that was idle although work "
            "waited: it should be near zero. If it is not, GPU utilisation shows what renderers did instead.",
            "percentunit",
            [
                Query(_BUSY, "busy"),
                Query(f"{_IDLE} * ({_WORK_WAITS})", "idle while work waits"),
            ],
            colours={"busy": GREEN, "idle while work waits": RED},
            most=1,
        ),
        lines_panel(
            "Are there as many renderers as wanted?",
            "Filled: those that there are, by state. Dashed: those that the work asks for, and the most there may be. "
            "Wanted above what is there for long: no nodes to be had, see `starting`.",
            "short",
            [
                Query(total(of("farm_renderers"), "state"), "{{state}}"),
                Query(total(of("farm_renderers_wanted")), "wanted", dashed=True),
                Query(total(of("farm_renderers_most")), "at most", dashed=True),
            ],
            stacked=True,
            colours={
                "busy": GREEN,
                "idle": GREY,
                "starting": YELLOW,
                "draining": ORANGE,
                "quarantined": RED,
                "wanted": BLUE,
                "at most": TEAL,
            },
        ),
    ],
)

_NEXT = Row(
    "Where to look next?",
    [
        bars_panel(
            "Whose work waits longest?",
            "How long each team's oldest ready shard has waited. One team far above the others has too little weight "
            "or a quota that holds it back: Campaigns and teams.",
            "s",
            Query(most(of("farm_team_oldest_wait_seconds"), "team"), "{{team}}"),
            steps=[(None, GREEN), (1800, YELLOW), (7200, RED)],
        ),
        table_panel(
            "Which alerts fire?",
            "Each alert has a page in ops/runbooks/alerts that says what to do. `page` cannot wait, `ticket` can until "
            "tomorrow, `info` is for your eyes only.",
            {"alertname": "alert", "severity": "severity", "namespace": "namespace"},
            [_FIRING],
            nothing="none",
        ),
    ],
)

BOARD = Board(
    "halftone-farm",
    "Halftone / Farm overview",
    "Is the farm well? Read it from the top; stop at the first row that is not green.",
    [_GLANCE, _WORK, _GPUS, _NEXT],
)
