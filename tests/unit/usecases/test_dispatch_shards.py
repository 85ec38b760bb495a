"""An order brings links for all that its renders are made from, and for all that they leave behind."""

from datetime import UTC, datetime, timedelta
from typing import Any

from farm.core.campaign import recipe_at
from farm.core.ids import CheckpointId, Epoch, RendererName
from farm.core.keys import rendition_key, source_key
from farm.core.records import CheckpointRow
from farm.core.work import rows_of
from farm.depot.memory import MemoryDepot
from farm.usecases.dispatch_shards import Work, write_order
from schemas.campaign import ResolvedBlock, ResolvedCampaign, ResolvedSource
from schemas.order import ShardOrder
from schemas.picture import PictureFormat
from schemas.recipe import Blended, Mask, Output
from schemas.rendition import Rendition
from schemas.style import ControlKind, ResolvedReference, StyleControl
from tests.unit.core.samples import campaign, shard_row, style

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CHECKPOINT = CheckpointRow(CheckpointId(1), "sdxl", "c" * 64, "folder", "checkpoints/c/", (), NOW)
OUTPUT = Output(
    renditions=(
        Rendition(name="feed", aspect="4:5", format=PictureFormat.WEBP),
        Rendition(name="wide", aspect="16:9"),
    )
)


def sha(number: int) -> str:
    return f"{number:064x}"


def source(number: int, **beside: Any) -> ResolvedSource:
    return ResolvedSource(sha256=sha(number), name=f"{number}.png", prompt=None, variables={}, **beside)


def order_of(of: ResolvedCampaign, renders: int) -> ShardOrder:
    shard = shard_row(((0, renders),))
    engine = recipe_at(of, 0).engine_key
    work = Work(RendererName("farm/a/1/0"), shard, engine, rows_of(shard, of), CHECKPOINT, ())
    return write_order(work, epoch=Epoch(1), depot=MemoryDepot(), ttl=timedelta(hours=1), token="t")


def of_sources(*sources: ResolvedSource) -> ResolvedCampaign:
    look = style(
        control=StyleControl(kind=ControlKind.DEPTH),
        reference=ResolvedReference(scale=0.5, pictures=(sha(20), sha(21))),
    )
    block = ResolvedBlock(styles=(look,), sizes=(None,), sources=sources, prompts=("",), strengths=(None,), variants=1)
    return campaign(block).model_copy(update={"output": OUTPUT})


def test_every_picture_that_a_render_is_made_from_has_a_link() -> None:
    first = source(
        0,
        control=sha(10),
        mask=Mask(picture=sha(11), feather=8),
        blend=(Blended(picture=sha(12), weight=1, mask=sha(13)),),
    )
    second = source(1, control=sha(10), references=(sha(14),))
    order = order_of(of_sources(first, second), 2)
    assert set(order.sources) == {sha(n) for n in (0, 1, 10, 11, 12, 13, 14, 20, 21)}
    assert {picture for row in order.rows for picture in row.recipe.pictures} == set(order.sources)
    assert all(source_key(shard_row().team, sha256) in link for sha256, link in order.sources.items())


def test_every_rendition_has_a_key_of_its_own_beside_its_picture() -> None:
    order = order_of(of_sources(source(0, control=sha(10)), source(1, control=sha(10))), 2)
    for row in order.rows:
        assert row.links.renditions.keys() == {"feed", "wide"}
        assert rendition_key(row.links.picture_key, "feed", "webp") in row.links.renditions["feed"]
        assert rendition_key(row.links.picture_key, "wide", "png") in row.links.renditions["wide"]
    links = [link for row in order.rows for link in row.links.renditions.values()]
    assert len(set(links)) == 4


def test_a_row_says_which_render_its_source_was() -> None:
    made_from = "rnd_06yd2k7h00001_3"
    order = order_of(of_sources(source(0, control=sha(10)), source(1, control=sha(10), made_from=made_from)), 2)
    assert [row.made_from for row in order.rows] == ["", made_from]


def test_the_engine_key_names_the_parts_and_has_a_digest_of_its_own() -> None:
    order = order_of(of_sources(source(0, control=sha(10))), 1)
    assert order.engine.parts == ("control.depth", "reference")
