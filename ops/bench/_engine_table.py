"""The figures of `ops.bench._engine_run` as tables."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def show(figures: Mapping[str, Any], console: Console) -> None:
    peak = ", ".join(f"{dtype} {flops / 1e12:,.2f} TFLOP/s" for dtype, flops in figures["peak_flops"].items())
    console.print(f"Matrix products at their best: {peak}.")
    if "arms" in figures:
        console.print(_arms(figures))
        _say(figures, console)
    if figures.get("features"):
        console.print(_features(figures["features"]))
    for name in figures.get("left_out", ()):
        console.print(f"Not tried, for want of time: {name}.")


def _arms(figures: Mapping[str, Any]) -> Table:
    title = "{size}, {steps} steps, strengths .3 .5 .7, {dtype}, batch {batch}; {rounds} x {renders_each} renders"
    table = Table("", title=title.format(**figures), caption=f"tuned: {figures['tuned']}")
    for heading in ("images/s", "from", "to", "of the peak", "ms a LoRA switch", "peak memory", "PSNR to stock fp32"):
        table.add_column(heading, justify="right")
    for name, arm in figures["arms"].items():
        table.add_row(
            name,
            *(f"{arm[key]:.3f}" for key in ("images_per_second", "least", "most")),
            f"{arm['share_of_peak']:.1%}",
            f"{figures['switch_ms'][name]:.1f}",
            f"{arm['peak_bytes'] / 2**30:.1f} GiB" if arm["peak_bytes"] else "",
            f"{figures['psnr_to_stock_fp32'][name]:.1f} dB",
        )
    return table


def _say(figures: Mapping[str, Any], console: Console) -> None:
    for name, words in (("to_stock", "the stock loop"), ("to_tuned", "diffusers tuned")):
        found = figures[name]
        console.print(f"{found['ratio']:.2f} times {words} ({found['least']:.2f} to {found['most']:.2f}).")
    bits = "the same bits" if figures["same_bits"] else "OTHER BITS"
    console.print(f"A row has {bits} beside other neighbours. Idle for {figures['idle_share']:.1%} of the time.")
    console.print(f"Our passes were {figures['fill']:.1%} full.")
    table = Table("of our caches", "", title="While the rounds ran")
    for name, count in figures["cache"].items():
        table.add_row(name.replace("_", " "), f"{count:g}")
    console.print(table)


def _features(features: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table("ours, but", title="One thing off at a time: how many times faster ours is with it")
    for heading in ("images/s", "ours is", "from", "to", "passes full", "ms a LoRA switch"):
        table.add_column(heading, justify="right")
    for name, found in features.items():
        ratios = [f"{found[key]:.2f}" for key in ("ratio", "least", "most")]
        table.add_row(
            name, f"{found['images_per_second']:.3f}", *ratios, f"{found['fill']:.0%}", f"{found['switch_ms']:.1f}"
        )
    return table
