"""Renderer detail: one renderer, or a few side by side."""

from ops.dashboards.board import Board, Row
from ops.dashboards.gpus import DOING, INFO
from ops.dashboards.panels import (
    GREEN,
    RED,
    YELLOW,
    Query,
    lines_panel,
    stat_panel,
    table_panel,
)
from ops.dashboards.queries import BUSY, increase, most, of, rate, share, total

_THIS = 'renderer=~"$renderer"'
_SECONDS = rate("farm_renderer_gpu_seconds_total", _THIS)
_BUSY = rate("farm_renderer_gpu_seconds_total", _THIS, BUSY)
_SWAPPING = rate("farm_renderer_gpu_seconds_total", _THIS, 'doing=~"load|swap"')
_FULL = f"{of('farm_gpu_memory_used_bytes', _THIS)} / {of('farm_gpu_memory_total_bytes', _THIS)}"

_GLANCE = Row(
    "What does it do?",
    [
        table_panel(
            "Where does it run?",
            "Nothing here: it is gone, and what is below is its past. `farm renderer list` tells its state.",
            INFO,
            [of("farm_renderer_info", _THIS)],
            nothing="not up",
        ).height(4),
        stat_panel(
            "Which share of its time renders?",
            "Encoding, denoising and decoding. Compare with the other renderers of its fleet in GPU utilisation.",
            "percentunit",
            share(total(_BUSY), total(_SECONDS)),
            steps=[(None, RED), (0.5, YELLOW), (0.85, GREEN)],
        ).span(4),
        stat_panel(
            "Which share loads and swaps?",
            "Much more than others have: it is given too many styles, or its disk is slow.",
            "percentunit",
            share(total(_SWAPPING), total(_SECONDS)),
            steps=[(None, GREEN), (0.1, YELLOW), (0.25, RED)],
        ).span(4),
        stat_panel(
            "How full are its passes?",
            "Rows in a pass. Fewer than others have on the same card: it ran out of memory once and halved its batch.",
            "suffix: rows",
            share(
                total(rate("farm_renderer_pass_rows_total", _THIS)),
                total(rate("farm_renderer_passes_total", _THIS)),
            ),
        ).span(4),
        lines_panel(
            "What does it do with its time?",
            "Each second of its GPU thread. Yellow waits for pixels: the node's network or the depot. Grey has no "
            "work. Less than the whole: it did not report.",
            "percentunit",
            [Query(f"{total(_SECONDS, 'doing')} / scalar({total(_SECONDS)} > 0)", "{{doing}}")],
            stacked=True,
            colours=DOING,
            most=1,
        ),
        lines_panel(
            "How fast does it pass?",
            "Passes of the UNet a second. Half of what a card of this type did yesterday with the same styles: it is "
            "slowed down, see below.",
            "suffix: passes/s",
            [Query(rate("farm_renderer_passes_total", _THIS), "{{renderer}}")],
        ),
    ],
)

_CARD = Row(
    "How is its card?",
    [
        lines_panel(
            "Does the card say the same?",
            "Share of time with a kernel running, by the driver, beside the share of time that the GPU thread "
            "rendered. The card far above the thread: somebody else uses it.",
            "percentunit",
            [
                Query(of("farm_gpu_utilisation_ratio", _THIS), "{{renderer}} card"),
                Query(share(total(_BUSY, "renderer"), total(_SECONDS, "renderer")), "{{renderer}} thread", dashed=True),
            ],
            most=1,
        ),
        lines_panel(
            "How much of its memory is used?",
            "By all processes on the card. Dashed: what there is.",
            "bytes",
            [
                Query(of("farm_gpu_memory_used_bytes", _THIS), "{{renderer}} used"),
                Query(of("farm_gpu_memory_total_bytes", _THIS), "{{renderer}} has", dashed=True),
            ],
        ),
        lines_panel(
            "How much power does it draw?",
            "Dashed: what it may draw. Far below its limit under load: a slow source of work, or a sick card.",
            "watt",
            [
                Query(of("farm_gpu_power_watts", _THIS), "{{renderer}}"),
                Query(of("farm_gpu_power_limit_watts", _THIS), "{{renderer}} may", dashed=True),
            ],
        ),
        lines_panel(
            "Does it get too hot?",
            "From about 85 degrees it slows down by itself: look at the node's cooling.",
            "celsius",
            [Query(of("farm_gpu_temperature_celsius", _THIS), "{{renderer}}")],
            limits=[(85, RED)],
        ),
        lines_panel(
            "Is it slowed down?",
            "1 while its clocks are held down, by reason. `hardware` is the card or its supply: drain the node.",
            "short",
            [Query(most(of("farm_gpu_throttled", _THIS), "renderer", "reason"), "{{renderer}} {{reason}}")],
        ),
        lines_panel(
            "Does its memory err?",
            "Memory errors over the time shown. One that was not corrected: `farm renderer quarantine`.",
            "short",
            [Query(total(increase("farm_gpu_ecc_errors_total", _THIS), "renderer", "kind"), "{{renderer}} {{kind}}")],
            limits=[(1, RED)],
        ),
        stat_panel(
            "How much energy did it use?",
            "Over the time shown, as the card counts it. 3.6 MJ are a kilowatt hour.",
            "joule",
            total(increase("farm_gpu_energy_joules_total", _THIS)),
            over_range=True,
        ).span(12),
        stat_panel(
            "How full is its memory now?",
            "The fullest, where several renderers are chosen.",
            "percentunit",
            most(_FULL),
            steps=[(None, GREEN), (0.9, YELLOW), (0.97, RED)],
        ).span(12),
    ],
)

BOARD = Board(
    "halftone-renderer",
    "Halftone / Renderer detail",
    "One renderer, or a few side by side: what it does, and how its card is.",
    [_GLANCE, _CARD],
    choices=("renderer",),
    hours=1,
)
