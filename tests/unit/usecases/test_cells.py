"""Filters over cells, against the slow and obvious way."""

from hypothesis import given
from hypothesis import strategies as st

from farm.core.cells import CellFilter, matching
from farm.core.matrix import cell_at, count
from schemas.campaign import ResolvedBlock, ResolvedCampaign, ResolvedSource
from schemas.recipe import Output
from schemas.style import ResolvedStyle, StyleSpec

STYLES = ["anime", "noir", "oil"]
STRENGTHS = [0.3, 0.5, 0.7]
DIGESTS = ["a", "b", "c"]


def _style(name: str, strength: float) -> ResolvedStyle:
    spec = StyleSpec(name=name, strength=strength).model_dump(exclude={"checkpoint", "loras"})
    return ResolvedStyle(**spec, version=1, checkpoint="x", loras=())


def _some(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


blocks = st.builds(
    lambda styles, own, sources, strengths, prompts, variants: ResolvedBlock(
        styles=tuple(_style(name, own) for name in styles),
        sizes=(None,),
        sources=tuple(ResolvedSource(sha256=s, name=s, prompt=None, variables={}) for s in sources),
        prompts=tuple(str(n) for n in range(prompts)),
        strengths=tuple(strengths) if strengths else (None,),
        variants=variants,
    ),
    _some(STYLES),
    st.sampled_from(STRENGTHS),
    _some(DIGESTS),
    st.lists(st.sampled_from(STRENGTHS), max_size=3, unique=True),
    st.integers(1, 2),
    st.integers(1, 3),
)
campaigns = st.lists(blocks, min_size=1, max_size=3).map(
    lambda found: ResolvedCampaign(blocks=tuple(found), seed=0, output=Output())
)
filters = st.builds(
    CellFilter,
    st.none() | st.sampled_from(STYLES),
    st.none() | st.sampled_from(STRENGTHS),
    st.none() | st.sampled_from(DIGESTS),
)


@given(campaigns, filters, st.integers(-1, 80))
def test_matching_leaves_exactly_what_passes(campaign: ResolvedCampaign, wanted: CellFilter, after: int) -> None:
    passing = [n for n in range(count(campaign)) if n > after and wanted.passes(campaign, cell_at(campaign, n))]
    assert list(matching(campaign, wanted, after=after)) == passing


def test_the_first_match_far_away_costs_nothing() -> None:
    block = ResolvedBlock(
        styles=(_style("noir", 0.5),),
        sizes=(None,),
        sources=tuple(ResolvedSource(sha256=str(n), name="x", prompt=None, variables={}) for n in range(1000)),
        prompts=("",),
        strengths=(None,),
        variants=10_000,
    )
    campaign = ResolvedCampaign(blocks=(block,), seed=0, output=Output())
    found = matching(campaign, CellFilter(source="999"), after=9_995_000)
    assert next(found) == 9_995_001  # of ten million; were they walked through, this test would run for minutes
