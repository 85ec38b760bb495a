"""GPU utilisation: what GPUs do with their time, and whether they are well."""

from ops.dashboards.board import Board, Row
from ops.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    TEAL,
    YELLOW,
    Query,
    lines_panel,
    spread_panel,
    stat_panel,
    table_panel,
)
from ops.dashboards.queries import BUSY, in_fleet, increase, of, rate, share, total

DOING = {
    "denoise": GREEN,
    "encode": TEAL,
    "decode": BLUE,
    "load": ORANGE,
    "swap": RED,
    "wait": YELLOW,
    "idle": GREY,
}
TO_RENDERER = (
    "What does it do?",
    "/d/halftone-renderer?var-renderer=${__value.raw}&${namespace:queryparam}&${datasource:queryparam}&${__url_time_range}",
)
INFO = {"renderer": "renderer", "fleet": "fleet", "node": "node", "gpu": "GPU"}

_SECONDS = in_fleet(rate("farm_renderer_gpu_seconds_total"))


def _doing(matcher: str) -> str:
    return in_fleet(rate("farm_renderer_gpu_seconds_total", matcher))


_HITS, _LOADS = (total(rate(f"farm_cache_{what}_total"), "kind") for what in ("hits", "loads"))
_FULL = in_fleet(f"({of('farm_gpu_memory_used_bytes')} / {of('farm_gpu_memory_total_bytes')})")

_TIME = Row(
    "Is their time well spent?",
    [
        stat_panel(
            "Which share of GPU time renders?",
            "Encoding, denoising and decoding. Above 0.85 while the queue is not empty is good; below, the next panels "
            "show where the rest goes. Little is right when there is nothing to do.",
            "percentunit",
            share(total(_doing(BUSY)), total(_SECONDS)),
            steps=[(None, RED), (0.5, YELLOW), (0.85, GREEN)],
        ),
        stat_panel(
            "How many pictures does a GPU second give?",
            "Of the whole farm, idle time left out. It falls with larger pictures, more steps and emptier passes; a "
            "fall without any of these is a slow GPU or driver.",
            "suffix: /GPU s",
            share(
                total(rate("farm_renders_total", 'outcome="succeeded"')),
                total(rate("farm_renderer_gpu_seconds_total", 'doing!="idle"')),
            ),
        ),
        stat_panel(
            "Which share goes into loading and swapping?",
            "Checkpoints that are loaded and LoRAs that are merged. Above a tenth, styles change too often: longer "
            "shards (`FARM_SHARD_SECONDS`), more memory for LoRAs (`FARM_ENGINE_GPU_BYTES`), or more renderers.",
            "percentunit",
            share(total(_doing('doing=~"load|swap"')), total(_SECONDS)),
            steps=[(None, GREEN), (0.1, YELLOW), (0.25, RED)],
        ),
        stat_panel(
            "How full are passes?",
            "Rows in a pass of the UNet. Compare with `FARM_ENGINE_BATCH`: far below it, campaigns are too small or "
            "too mixed to share passes.",
            "suffix: rows",
            share(
                total(in_fleet(rate("farm_renderer_pass_rows_total"))),
                total(in_fleet(rate("farm_renderer_passes_total"))),
            ),
        ),
        lines_panel(
            "What do GPUs do with their time?",
            "Green and blue are paid for. Orange and red are weights that come and go, yellow is a GPU that waits for "
            "pixels (slow depot or network), grey is one without work.",
            "percentunit",
            [Query(f"{total(_SECONDS, 'doing')} / scalar({total(_SECONDS)} > 0)", "{{doing}}")],
            stacked=True,
            colours=DOING,
            most=1,
        ),
        spread_panel(
            "Do all renderers work as much?",
            "How many renderers are busy for which share of their time. One band is good. Two bands while work waits: "
            "some renderers cannot take what there is; the table below says which.",
            "percentunit",
            share(
                total(_doing(BUSY), "renderer"),
                total(_SECONDS, "renderer"),
            ),
            most=1,
        ),
        lines_panel(
            "Is what a render needs there already?",
            "The share of checkpoints, LoRAs, sources and prompts that were warm. LoRAs below a half while LoRA "
            "swapping is high is thrashing: see the alert's runbook.",
            "percentunit",
            [Query(share(_HITS, f"({_HITS} + {_LOADS})"), "{{kind}}")],
            colours={"checkpoint": GREEN, "lora": ORANGE, "source": BLUE, "prompt": PURPLE},
            most=1,
        ),
        table_panel(
            "Which renderers are there?",
            "Click on a renderer to see it alone. The share that it is busy is that of the last minutes.",
            {**INFO, "Value #B": "busy"},
            [
                of("farm_renderer_info", 'fleet=~"$fleet"'),
                share(total(_doing(BUSY), "renderer"), total(_SECONDS, "renderer")),
            ],
            join="renderer",
            units={"busy": "percentunit"},
            links={"renderer": TO_RENDERER},
            nothing="no renderer is up",
        ),
    ],
)

_CARDS = Row(
    "Are the cards well?",
    [
        lines_panel(
            "Do the cards say the same?",
            "Share of time with a kernel running, as the driver tells it. High while renderers are idle: something "
            "else uses the GPU. Without NVIDIA's driver there is nothing here.",
            "percentunit",
            [Query(f"avg by (fleet) ({in_fleet(of('farm_gpu_utilisation_ratio'))})", "{{fleet}}")],
            most=1,
        ),
        lines_panel(
            "Is GPU memory nearly full?",
            "The fullest card of each fleet. Near 1 passes get smaller by themselves after the first one that did not "
            "fit; lower `FARM_ENGINE_GPU_BYTES` or `FARM_ENGINE_BATCH`.",
            "percentunit",
            [Query(f"max by (fleet) ({_FULL})", "{{fleet}}")],
            limits=[(0.95, RED)],
            most=1,
        ),
        lines_panel(
            "How much power do they draw?",
            "Dashed: as much as they may draw. At the limit for long is normal under load; a card far below the others "
            "of its fleet under load is throttled or broken.",
            "watt",
            [
                Query(total(in_fleet(of("farm_gpu_power_watts")), "fleet"), "{{fleet}}"),
                Query(total(in_fleet(of("farm_gpu_power_limit_watts")), "fleet"), "{{fleet}} may", dashed=True),
            ],
        ),
        lines_panel(
            "Do they get too hot?",
            "The hottest card of each fleet. From about 85 degrees cards slow down by themselves: look at the cooling "
            "of the node that the table names.",
            "celsius",
            [Query(f"max by (fleet) ({in_fleet(of('farm_gpu_temperature_celsius'))})", "{{fleet}}")],
            limits=[(85, RED)],
        ),
        lines_panel(
            "Are they slowed down?",
            "Cards whose clocks are held down, by reason. `power` is a limit that somebody set, `thermal` is heat, "
            "`hardware` is the card or its supply: drain the node and have it looked at.",
            "short",
            [Query(total(in_fleet(of("farm_gpu_throttled")), "reason"), "{{reason}}")],
            colours={"power": YELLOW, "thermal": ORANGE, "hardware": RED},
        ),
        lines_panel(
            "Does their memory err?",
            "Memory errors over the time shown, by renderer. Corrected ones are a hint when they become many. One that "
            "was not corrected may have spoiled a picture: quarantine the renderer, drain the node.",
            "short",
            [
                Query(
                    total(in_fleet(increase("farm_gpu_ecc_errors_total")), "renderer", "kind"), "{{renderer}} {{kind}}"
                )
            ],
            limits=[(1, RED)],
        ),
    ],
)

BOARD = Board(
    "halftone-gpus",
    "Halftone / GPU utilisation",
    "What GPUs do with their time, and whether they are well.",
    [_TIME, _CARDS],
    choices=("fleet",),
)
