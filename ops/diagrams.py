"""Draws the states of campaigns, shards and renderers from the edges in the code: `python ops/diagrams.py`."""

from collections.abc import Iterable
from pathlib import Path

from farm.core.campaign import BEGINS, EDGES, ENDED
from farm.core.renderer_states import RENDERER_EDGES
from farm.core.shard import SHARD_EDGES

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "states.md"

_INTRO = """# States

Written by `python ops/diagrams.py` from the edges in the code; a test fails when it is stale.
"""


def diagram(edges: Iterable[tuple[str, str]], *, begins: Iterable[str], ends: Iterable[str]) -> str:
    """A Mermaid state diagram."""
    lines = [
        *(f"    [*] --> {state}" for state in sorted(begins)),
        *(f"    {frm} --> {to}" for frm, to in sorted(edges)),
        *(f"    {state} --> [*]" for state in sorted(ends)),
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def page() -> str:
    campaign = diagram([(str(a), str(b)) for a, b in EDGES], begins=map(str, BEGINS), ends=map(str, ENDED))
    shard = diagram(SHARD_EDGES, begins=("ready", "held"), ends=("done", "cancelled"))
    renderer = diagram(RENDERER_EDGES, begins=("starting",), ends=("lost",))
    parts = [
        (
            "Campaign",
            "`farm/core/campaign.py`. One that a budget has paused goes on by itself when it is raised.",
            campaign,
        ),
        ("Shard", "`farm/core/shard.py`. Held until the campaign's proof is approved; leased under a fence.", shard),
        (
            "Renderer",
            "`farm/core/renderer_states.py`. A lost one may come back under its name, in a new session.",
            renderer,
        ),
    ]
    return _INTRO + "".join(f"\n## {name}\n\n{text}\n\n{drawn}\n" for name, text, drawn in parts)


if __name__ == "__main__":
    TARGET.write_text(page())
    print(TARGET)
