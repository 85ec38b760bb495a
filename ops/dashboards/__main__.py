"""Writes the dashboards: `python -m ops.dashboards`. A test compares them with what is checked in."""

import argparse
import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from ops.dashboards.board import Board
from ops.dashboards.boards import BOARDS

FOLDER = Path(__file__).parent / "json"


def text(board: Board) -> str:
    """The same for the same board, so that a change shows what changed."""
    return json.dumps(board.build().build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m ops.dashboards", description=__doc__)
    arguments.add_argument("--out", type=Path, default=FOLDER, help="folder that the .json files go to")
    out: Path = arguments.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (out / f"{board.uid}.json").write_text(text(board))


if __name__ == "__main__":
    main()
