"""Control plane: scheduler, database, depot, API."""

from ops.dashboards.board import Board, Row
from ops.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    TEAL,
    YELLOW,
    Query,
    lines_panel,
    stat_panel,
)
from ops.dashboards.queries import increase, most, of, quantile, rate, share, total

_TURNED = f"time() - {most(of('farm_scheduler_last_turn_timestamp_seconds'))}"
_CLEARED = f"time() - {most(of('farm_garbage_last_success_timestamp_seconds'))}"
_BROKEN = share(
    "(" + total(rate("farm_api_requests_total", 'status=~"5.."')) + " or vector(0))",
    total(rate("farm_api_requests_total")),
)

_GLANCE = Row(
    "Does it answer?",
    [
        stat_panel(
            "When did the loop last come round?",
            "Of the scheduler that was seen last, leading or not. More than a few seconds: all of them hang or are "
            "gone; orders that were given are still rendered, nothing new begins.",
            "s",
            _TURNED,
            steps=[(None, GREEN), (30, YELLOW), (60, RED)],
        ),
        stat_panel(
            "Which share of requests breaks?",
            "Answers with a status of 500 or more. 503 is a part that did not answer: the rows below say which.",
            "percentunit",
            _BROKEN,
            steps=[(None, GREEN), (0.001, YELLOW), (0.01, RED)],
        ),
        stat_panel(
            "How large is the database?",
            "As of the last look for garbage. It grows with outcomes and events; retention (`farm team set`) and "
            "`FARM_KEEP_EVENTS` hold it down.",
            "bytes",
            most(of("farm_database_bytes")),
        ),
        stat_panel(
            "When was garbage last cleared away?",
            "Only a leader looks for it, every `FARM_GARBAGE_EVERY`, and not in its first minutes. A day without: see "
            "the scheduler's log.",
            "s",
            _CLEARED,
            steps=[(None, GREEN), (21600, YELLOW), (86400, RED)],
        ),
        lines_panel(
            "Which releases run?",
            "Processes of API and scheduler by release. Two releases for longer than a rolling upgrade takes: it is "
            "stuck, see the runbook for upgrades. Fewer processes than replicas: one does not start.",
            "short",
            [Query(f"count by (version) ({of('farm_build_info')})", "{{version}}")],
            stacked=True,
        ),
        lines_panel(
            "How much do its processes use?",
            "Processor seconds a second, by process; memory is at the bottom. A scheduler near one processor plans too "
            "much: look at its turns.",
            "short",
            [Query(total(rate("process_cpu_seconds_total"), "job", "instance"), "{{job}} {{instance}}")],
        ),
    ],
)

_SCHEDULER = Row(
    "Does the scheduler keep up?",
    [
        lines_panel(
            "How long does a turn take?",
            "To look, plan and act; half of them are faster than the lower line. Above `FARM_TICK` (half a second) it "
            "runs behind: look at the database first.",
            "s",
            [
                Query(quantile(0.5, "farm_scheduler_tick_seconds"), "half"),
                Query(quantile(0.95, "farm_scheduler_tick_seconds"), "95 %"),
            ],
            limits=[(0.5, RED)],
        ).span(8),
        lines_panel(
            "Is work lost on the way?",
            "Per minute. Expired leases are renderers that vanished; released ones never got their shard; refused rows "
            "were reported under an old fence, which is the fence at work; lost turns are a part that did not answer.",
            "suffix: /min",
            [
                Query(f"{total(rate('farm_leases_expired_total'))} * 60", "leases expired"),
                Query(f"{total(rate('farm_leases_released_total'))} * 60", "leases released"),
                Query(f"{total(rate('farm_reports_refused_rows_total'))} * 60", "rows refused"),
                Query(f"{total(rate('farm_scheduler_unavailable_total'), 'code')} * 60", "turns lost, {{code}}"),
            ],
            colours={"leases expired": RED, "leases released": ORANGE, "rows refused": YELLOW},
        ).span(8),
        lines_panel(
            "Which renderers go, and why?",
            "Over the time shown. `node` is a spot instance that is taken back, `idle` is the farm getting smaller, "
            "`revision` an upgrade; died and hung ones went without a word.",
            "short",
            [
                Query(total(increase("farm_renderer_drains_total"), "why"), "told to, {{why}}"),
                Query(total(increase("farm_renderer_losses_total"), "how"), "{{how}}"),
                Query(total(increase("farm_quarantines_total")), "quarantined"),
            ],
            colours={"died": RED, "hung": ORANGE, "quarantined": YELLOW},
        ).span(8),
    ],
)

_STORES = Row(
    "Do the database and the depot answer?",
    [
        lines_panel(
            "How long do transactions take?",
            "95 of 100 are faster, by whose they are. Slow everywhere: the database's disk. Slow for teams only: a "
            "long list that somebody reads.",
            "s",
            [Query(quantile(0.95, "farm_store_seconds", by="what"), "{{what}}")],
            limits=[(0.5, RED)],
        ),
        lines_panel(
            "Are there connections left?",
            "Of all pools together. Busy at the most for long: requests queue for a connection, whatever the database "
            "does; more API replicas, or a look at slow transactions.",
            "short",
            [
                Query(total(of("farm_store_connections", 'state=~"busy|idle"'), "state"), "{{state}}"),
                Query(total(of("farm_store_connections", 'state="most"')), "at most", dashed=True),
            ],
            stacked=True,
            colours={"busy": ORANGE, "idle": GREY, "at most": TEAL},
        ),
        lines_panel(
            "How long do calls to the depot take?",
            "95 of 100 are faster, by call, as API and scheduler see it. Renderers have links of their own: what they "
            "wait for is in GPU utilisation.",
            "s",
            [Query(quantile(0.95, "farm_depot_seconds", by="what"), "{{what}}")],
            limits=[(2.5, RED)],
        ),
        lines_panel(
            "How often does one of them not answer?",
            "Errors per minute. Zero is right; the runbooks 'lose the database' and 'lose the store' say what to do "
            "and what goes on by itself.",
            "suffix: /min",
            [
                Query(f"{total(rate('farm_store_errors_total'))} * 60", "database"),
                Query(f"{total(rate('farm_depot_errors_total'), 'what')} * 60", "depot, {{what}}"),
                Query(f"{total(rate('farm_api_unavailable_total'), 'code')} * 60", "refused, {{code}}"),
            ],
            colours={"database": RED},
        ),
    ],
)

_API = Row(
    "Is the API quick?",
    [
        lines_panel(
            "What is asked of it?",
            "The ten busiest routes. One route that towers over all others is usually a script without a pause.",
            "reqps",
            [Query(f"topk(10, {total(rate('farm_api_requests_total'), 'method', 'route')})", "{{method}} {{route}}")],
        ),
        lines_panel(
            "How long do people wait for it?",
            "95 of 100 requests are faster, the ten slowest routes; event streams are left out. Submitting a million "
            "renders takes about half a second.",
            "s",
            [
                Query(f"topk(10, {quantile(0.95, 'farm_api_request_seconds', by='route')})", "{{route}}"),
            ],
            limits=[(1, RED)],
        ),
        lines_panel(
            "How many look on?",
            "Event streams that are open: browsers and `watch` commands. Each holds a connection of the API, none of "
            "the database.",
            "short",
            [Query(total(of("farm_api_event_streams")), "streams")],
            colours={"streams": BLUE},
        ),
        lines_panel(
            "How much memory do its processes use?",
            "What is in RAM, by process. A line that only climbs is a leak: restart it, tell us.",
            "bytes",
            [Query(most(of("process_resident_memory_bytes"), "job", "instance"), "{{job}} {{instance}}")],
        ),
    ],
)

BOARD = Board(
    "halftone-control",
    "Halftone / Control plane",
    "Scheduler, database, depot and API: do they answer, and do they keep up.",
    [_GLANCE, _SCHEDULER, _STORES, _API],
)
