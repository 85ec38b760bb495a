"""All of them, in the order in which one reads them."""

from collections.abc import Sequence

from ops.dashboards import campaigns, control, cost, farm, gpus, renderer
from ops.dashboards.board import Board

BOARDS: Sequence[Board] = (
    farm.BOARD,
    gpus.BOARD,
    campaigns.BOARD,
    renderer.BOARD,
    control.BOARD,
    cost.BOARD,
)
