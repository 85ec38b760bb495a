"""Everything that would keep a campaign from being rendered is said at once, before it is one."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from farm.core.campaign import recipe_at
from farm.core.errors import BadRequest
from farm.core.ids import CheckpointId, StyleId, show_render
from farm.core.records import CheckpointRow, SourceRow, StyleRow
from farm.core.sdxl import PARTS
from farm.ports import TeamTx
from farm.usecases.check_campaign import Terms, check_campaign
from farm.usecases.styles import style_faults, weights_of
from schemas.campaign import CampaignSpec, ResolvedCampaign
from schemas.checkpoint import CheckpointFile
from schemas.recipe import Blended, Control, Mask
from schemas.style import ControlKind, StyleSpec
from tests.support.memory_farm import memory_farm
from tests.support.store_farm import OURS, THEIRS

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TERMS = Terms(max_renders=1000, shard_seconds=30, currency="EUR")
WIDE, TURNED, SQUARE, SMALL = (f"{n:064x}" for n in range(4))
SIZES = {WIDE: (300, 200), TURNED: (200, 300), SQUARE: (200, 200), SMALL: (75, 50)}
GONE = "src_" + "e" * 64
DEPTH = {"control": {"kind": "depth"}}
ALIKE: dict[str, Any] = {"reference": {}}


def src(sha256: str) -> str:
    return f"src_{sha256}"


@pytest.fixture
def tx() -> Iterator[TeamTx]:
    """Pictures of three aspects, a checkpoint with every part and one with none, and a style of each kind."""
    farm = memory_farm()
    with farm.api.as_team(OURS) as tx:
        for sha256, (width, height) in SIZES.items():
            tx.add_source(SourceRow(sha256, f"{width}x{height}.png", 9, width, height, "PNG", NOW))
        parts = [folder + file for folder, files in PARTS.values() for file in files]
        add_checkpoint(tx, 1, "full", ["model_index.json", *parts])
        add_checkpoint(tx, 2, "bare", ["model_index.json"])
        add_style(tx, "plain")
        add_style(tx, "edges", control={"kind": "canny"})
        add_style(tx, "deep", **DEPTH)
        add_style(tx, "posed", control={"kind": "pose", "scale": 0.5, "start": 0.1, "end": 0.9})
        add_style(tx, "alike", **ALIKE)
        add_style(tx, "like-square", reference={"scale": 0.4, "pictures": [src(SQUARE)]})
        yield tx


def add_checkpoint(tx: TeamTx, number: int, name: str, paths: list[str]) -> None:
    files = tuple(CheckpointFile(path=path, sha256="0" * 64, bytes=1) for path in paths)
    digest = f"{number:064x}"
    tx.add_checkpoint(CheckpointRow(CheckpointId(number), name, digest, "folder", f"checkpoints/{digest}/", files, NOW))


def spec_of(name: str, **changes: Any) -> StyleSpec:
    return StyleSpec.model_validate({"name": name, "checkpoint": "full", "size": "64x64", **changes})


def add_style(tx: TeamTx, name: str, **changes: Any) -> None:
    tx.add_style(StyleRow(StyleId(1), name, 0, spec_of(name, **changes), NOW))


def campaign(entry: dict[str, Any], *styles: str, **changes: Any) -> CampaignSpec:
    block = {"sources": [{"source": src(WIDE)} | entry], "styles": styles or ("plain",)}
    return CampaignSpec.model_validate({"name": "x", "blocks": [block]} | changes)


def faults(tx: TeamTx, spec: CampaignSpec) -> dict[str, str]:
    with pytest.raises(BadRequest) as refused:
        check_campaign(tx, spec, NOW, TERMS)
    return {fault.pointer.removeprefix("/blocks/0"): fault.code for fault in refused.value.faults}


def resolved(tx: TeamTx, spec: CampaignSpec) -> ResolvedCampaign:
    return check_campaign(tx, spec, NOW, TERMS).resolved


# what goes with a source


def test_pictures_that_were_never_uploaded_are_named_one_by_one(tx: TeamTx) -> None:
    entry = {
        "source": GONE,
        "mask": {"picture": GONE},
        "control": GONE,
        "references": [src(SQUARE), GONE],
        "blend": [{"picture": src(WIDE)}, {"picture": GONE, "mask": GONE}],
    }
    found = faults(tx, campaign(entry, "deep", "alike"))
    pointers = ("source", "mask/picture", "control", "references/1", "blend/1/picture", "blend/1/mask")
    assert found == dict.fromkeys((f"/sources/0/{pointer}" for pointer in pointers), "unknown_source")


def test_a_picture_that_lies_over_its_source_has_its_aspect(tx: TeamTx) -> None:
    entry = {
        "mask": {"picture": src(SQUARE)},
        "control": src(SQUARE),
        "blend": [{"picture": src(SQUARE), "mask": src(SQUARE)}, {"picture": src(SMALL)}],
    }
    assert faults(tx, campaign(entry, "deep")) == {
        "/sources/0/mask/picture": "mask_other_aspect",
        "/sources/0/control": "control_other_aspect",
        "/sources/0/blend/0/picture": "blend_other_aspect",
        "/sources/0/blend/0/mask": "mask_other_aspect",
    }


@pytest.mark.parametrize("mask", [WIDE, SMALL, TURNED])
def test_a_mask_may_be_smaller_or_lie_on_its_side_as_cameras_save_pictures(tx: TeamTx, mask: str) -> None:
    check_campaign(tx, campaign({"mask": {"picture": src(mask)}}), NOW, TERMS)


def test_a_style_gets_the_pictures_that_it_asks_for(tx: TeamTx) -> None:
    assert faults(tx, campaign({}, "plain", "deep", "alike", "edges")) == {
        "/sources/0/control": "control_missing",
        "/sources/0/references": "reference_missing",
    }


def test_pictures_that_no_style_of_the_block_uses_are_refused(tx: TeamTx) -> None:
    entry = {"control": src(WIDE), "references": [src(SQUARE)]}
    assert faults(tx, campaign(entry, "plain", "edges")) == {
        "/sources/0/control": "control_unused",
        "/sources/0/references": "references_unused",
    }
    check_campaign(tx, campaign(entry, "plain", "deep", "like-square"), NOW, TERMS)
    unknown = faults(tx, campaign(entry, "plain", "never-saved"))
    assert unknown == {"/styles/1": "unknown_style"}, "it may be the one that uses them"


def test_one_control_picture_is_not_depth_and_a_pose(tx: TeamTx) -> None:
    assert faults(tx, campaign({"control": src(WIDE)}, "deep", "posed")) == {"/styles": "control_kinds_differ"}


def test_a_render_that_it_was_made_from_is_the_teams_own(tx: TeamTx) -> None:
    farm = memory_farm()
    there, theirs = farm.submit(1, renders=10), farm.submit(2, renders=10, team=THEIRS)
    with farm.api.as_team(OURS) as ours:
        ours.add_source(SourceRow(WIDE, "a.png", 9, 300, 200, "PNG", NOW))
        add_checkpoint(ours, 1, "full", ["model_index.json"])
        add_style(ours, "plain")
        for made_from in (show_render(there, 10), show_render(theirs, 0), "rnd_uuuuuuuuuuuuu_0"):
            assert faults(ours, campaign({"made_from": made_from})) == {"/sources/0/made_from": "unknown_render"}
        spec = campaign({"made_from": show_render(there, 9)})
        (source,) = resolved(ours, spec).blocks[0].sources
    assert source.made_from == spec.blocks[0].sources[0].made_from


def test_what_is_submitted_is_what_is_rendered(tx: TeamTx) -> None:
    entry = {
        "mask": {"picture": src(SMALL), "feather": 3, "invert": True},
        "control": src(WIDE),
        "references": [src(SQUARE), src(SMALL)],
        "blend": [{"picture": src(SMALL), "weight": 0.25, "mask": src(WIDE)}],
    }
    of = resolved(tx, campaign(entry, "posed", "alike", "like-square", "edges"))
    posed, alike, like_square, edges = (recipe_at(of, n) for n in range(4))
    assert posed.mask == Mask(picture=SMALL, feather=3, invert=True)
    assert posed.blend == (Blended(picture=SMALL, weight=0.25, mask=WIDE),)
    assert posed.control == Control(kind=ControlKind.POSE, picture=WIDE, scale=0.5, start=0.1, end=0.9)
    assert (posed.references, alike.references) == ((), (SQUARE, SMALL))
    assert (alike.reference_scale, like_square.reference_scale) == (0.6, 0.4)
    assert like_square.references == (SQUARE, SMALL), "a source's own take the place of the style's"
    assert edges.control is not None
    assert edges.control.picture is None, "edges are found in the source itself"
    assert [one.engine_key.parts for one in (posed, alike, edges)] == [
        ("control.pose",),
        ("reference",),
        ("control.canny",),
    ]
    plain = recipe_at(resolved(tx, campaign({}, "like-square")), 0)
    assert plain.references == (SQUARE,)


# what a style says


STYLE_FAULTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "parts that the checkpoint lacks": (
        {"checkpoint": "bare", **DEPTH, **ALIKE},
        {"/control/kind": "checkpoint_lacks_part", "/reference": "checkpoint_lacks_part"},
    ),
    "a reference that was never uploaded": (
        {"reference": {"pictures": [src(SQUARE), GONE]}},
        {"/reference/pictures/1": "unknown_source"},
    ),
    "guidance that few steps cannot bear": ({"sampler": "lcm", "steps": 6}, {"/guidance": "guidance_too_high"}),
    "control of no step": (
        {"control": {"kind": "canny", "start": 0.5, "end": 0.5}},
        {"/control/end": "control_never_acts"},
    ),
    "a distance from nothing": ({"checks": {"delta_e": 5}}, {"/checks/palette": "palette_missing"}),
    "a palette that is not checked": ({"checks": {"palette": ["#000000"]}}, {"/checks/delta_e": "delta_e_missing"}),
    "noise that is none": ({"strength": 0}, {"/strength": "strength_too_low"}),
    "less than one of diffusers' steps": (
        {"strength": 0.03, "strength_mode": "diffusers"},
        {"/strength": "strength_too_low"},
    ),
}


@pytest.mark.parametrize("what", STYLE_FAULTS)
def test_a_style_that_could_not_be_rendered_is_refused(tx: TeamTx, what: str) -> None:
    changes, expected = STYLE_FAULTS[what]
    found = style_faults(spec_of("new", **changes), weights_of(tx), tx.sources_by_sha([SQUARE]))
    assert {fault.pointer: fault.code for fault in found} == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"strength": 0.001},
        {"sampler": "lcm", "steps": 4, "guidance": 1.0},
        {"checks": {"palette": ["#000000"], "delta_e": 5}},
        {"control": {"kind": "depth", "start": 0.0, "end": 0.5}, "reference": {"pictures": [src(SQUARE)]}},
    ],
    ids=str,
)
def test_a_style_that_can_be_rendered_is_taken(tx: TeamTx, changes: dict[str, Any]) -> None:
    assert style_faults(spec_of("new", **changes), weights_of(tx), tx.sources_by_sha([SQUARE])) == []


def test_a_checkpoint_that_lost_its_parts_is_found_when_the_campaign_is_submitted(tx: TeamTx) -> None:
    """Such as when the farm's default became another one after the style was saved."""
    add_style(tx, "default-depth", checkpoint="bare", **DEPTH)
    assert faults(tx, campaign({"control": src(WIDE)}, "default-depth")) == {"/styles/0": "checkpoint_lacks_part"}


def test_strengths_of_a_block_are_held_against_each_styles_mode(tx: TeamTx) -> None:
    add_style(tx, "as-diffusers", strength_mode="diffusers", steps=10)
    spec = campaign({}, "plain", "as-diffusers")
    block = spec.blocks[0].model_copy(update={"strengths": (0.05, 0.5)})
    assert faults(tx, spec.model_copy(update={"blocks": (block,)})) == {"/strengths/0": "strength_too_low"}


# renditions


def test_a_rendition_is_at_most_four_times_as_large_as_every_render(tx: TeamTx) -> None:
    add_style(tx, "large", size="128x128")
    made = [
        {"name": "feed", "aspect": "4:5"},
        {"name": "poster", "size": "256x256"},
        {"name": "wall", "size": "257x257"},
        {"name": "banner", "size": "18x256"},  # four times as high, though a fourth of 18 is no whole number
    ]
    spec = campaign({}, "plain", "large", output={"renditions": made})
    assert faults(tx, spec) == {"/output/renditions/2/size": "rendition_too_large"}
    check_campaign(tx, campaign({}, "large", output={"renditions": made}), NOW, TERMS)


def test_pictures_are_looked_up_for_one_team_only() -> None:
    farm = memory_farm()
    with farm.api.as_team(THEIRS) as tx:
        tx.add_source(SourceRow(SMALL, "a.png", 9, 75, 50, "PNG", NOW))
    with farm.api.as_team(OURS) as tx:
        tx.add_source(SourceRow(WIDE, "a.png", 9, 300, 200, "PNG", NOW))
        add_checkpoint(tx, 1, "full", ["model_index.json"])
        add_style(tx, "plain")
        found = faults(tx, campaign({"mask": {"picture": src(SMALL)}}))
    assert found == {"/sources/0/mask/picture": "unknown_source"}
