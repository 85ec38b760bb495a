"""What becomes of a row after its first picture: checks, further tries, tiles, and being handed back in between."""

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from actors.engine.fake import STEPS, drawn
from actors.engine.port import Ended, Group
from actors.ledger import Stage
from actors.making import NOT_FINITE, TILES, seed_of_try
from schemas.order import OrderRow
from schemas.recipe import Blended, Control, Mask, Output, Recipe
from schemas.rendition import Rendition, tiles
from schemas.report import Failure, FailureKind, RowReport, Tried
from schemas.style import Checks, ControlKind
from tests.unit.actors.driving import Make, Recorder, Stepper
from tests.unit.actors.support import SIZE, Depot, Scheduler, order, recipe, row

LARGE = Output(renditions=(Rendition(name="poster", size="128x96"), Rendition(name="square", aspect="1:1")))


def photo(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> bytes:
    """Something with structure: blocks of random colours."""
    rng, file = np.random.default_rng(seed), io.BytesIO()
    blocks = rng.integers(0, 255, (6, 8, len(mode)), dtype=np.uint8)
    Image.fromarray(blocks.squeeze(), mode=None).resize(size, Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def colour_of_try(made: Recipe, number: int) -> str:
    """What the fake engine draws at strength 1: one colour, by the seed."""
    tint = drawn(_row(made, number), ()).getpixel((0, 0))
    assert isinstance(tint, tuple)
    return "#{:02x}{:02x}{:02x}".format(*tint)


def _row(made: Recipe, number: int) -> Any:
    from actors.making import Making, row_of
    from actors.prepare import Prepared

    prepared = Prepared(picture=Image.new("RGB", (64, 48)), mask=None, control=None, references=())
    return row_of(Making(row(0, made), prepared), number)


def painted(depot: Depot, rerolls: int, passing: int | None) -> Recipe:
    """Its checks ask for the colour that try *passing* draws (none draws it if None), and nothing of the source."""
    made = recipe(depot.add(photo()), strength=0.9)
    wanted = made if passing is None else made.model_copy(update={"strength": 1.0})
    palette = ("#00ff00",) if passing is None else (colour_of_try(wanted, passing),)
    return made.model_copy(update={"checks": Checks(palette=palette, delta_e=12.0, rerolls=rerolls)})


def rendered(depot: Depot, make: Make, made: Recipe, **settings: Any) -> tuple[RowReport, Recorder]:
    engine = Recorder()
    renderer = make(engine, **settings)
    renderer.offer(order([row(0, made, depot)], depot).model_dump_json())
    return Scheduler(renderer).all_of(1)[0], engine


def stored(depot: Depot, name: str = "picture") -> Image.Image:
    return Image.open(io.BytesIO(depot.objects[f"/out/0/{name}"])).convert("RGB")


@pytest.mark.parametrize("encoders", [0, 1])
def test_a_row_that_misses_its_checks_is_rendered_again_until_it_passes(
    depot: Depot, make: Make, encoders: int
) -> None:
    made = painted(depot, rerolls=5, passing=2)
    report, engine = rendered(depot, make, made, encoders=encoders)
    assert report.picture is not None
    measured = report.picture.measured
    assert measured is not None
    assert measured.passed
    seeds = [seed_of_try(made.seed, number) for number in range(measured.kept + 1)]
    assert [each.seed for each in measured.tries] == [each.seed for each in engine.begun] == seeds
    assert [bool(each.missed) for each in measured.tries] == [True] * measured.kept + [False]
    assert measured.kept > 0
    note = json.loads(depot.objects["/out/0/provenance"])
    assert note["seed"] == seeds[-1]
    assert note["numerics"] == report.numerics == "fake batch=2"


def test_when_no_try_passes_the_best_is_kept_and_each_is_recorded(depot: Depot, make: Make) -> None:
    made = painted(depot, rerolls=3, passing=None)
    report, engine = rendered(depot, make, made)
    assert report.tried is Tried.SUCCEEDED
    assert report.picture is not None
    measured = report.picture.measured
    assert measured is not None
    assert (len(measured.tries), measured.passed) == (4, False)
    structures = [each.structure or 0.0 for each in measured.tries]
    assert measured.kept == structures.index(max(structures))
    kept = drawn(engine.begun[measured.kept], ())
    assert np.array_equal(np.asarray(stored(depot)), np.asarray(kept))
    assert len(engine.passes) == 4 * STEPS


def test_seconds_of_all_tries_are_counted(depot: Depot, make: Make) -> None:
    engine = Recorder()
    engine._seconds = 0.25  # of each try, as the engine tells it
    renderer = make(engine)
    renderer.offer(order([row(0, painted(depot, rerolls=3, passing=None), depot)], depot).model_dump_json())
    assert Scheduler(renderer).all_of(1)[0].seconds.denoise == pytest.approx(4 * 0.25)


class Unsteady(Recorder):
    """The first *bad* tries have no finite pixels."""

    bad = 1

    def step(self, group: Group) -> Sequence[Ended]:
        failure = Failure(kind=FailureKind.BAD_PICTURE, code=NOT_FINITE, detail="No.")
        ended = super().step(group)
        good = len(self.begun) > self.bad
        return ended if good else [Ended(each.id, failure) for each in ended]


@pytest.mark.parametrize(("bad", "tried"), [(1, Tried.SUCCEEDED), (3, Tried.FAILED)])
def test_a_picture_without_finite_pixels_counts_as_a_try(depot: Depot, make: Make, bad: int, tried: Tried) -> None:
    engine = Unsteady()
    engine.bad = bad
    renderer = make(engine)
    made = recipe(depot.add(photo()), checks=Checks(rerolls=2))
    renderer.offer(order([row(0, made, depot)], depot).model_dump_json())
    report = Scheduler(renderer).all_of(1)[0]
    assert report.tried is tried
    assert len(engine.begun) == min(bad + 1, 3)
    assert (report.failure.code if report.failure else None) == (None if tried is Tried.SUCCEEDED else NOT_FINITE)


def two_rows(depot: Depot, made: Recipe) -> list[OrderRow]:
    """One that is tried again and again, and one that passes."""
    return [row(0, made, depot), row(1, recipe(made.source, seed=9), depot)]


def test_another_try_goes_before_rows_that_have_not_begun(depot: Depot, make: Make) -> None:
    steps = Stepper(STEPS)
    engine = Recorder(sleep=steps)
    engine.copied.clear()
    renderer = make(engine)
    made = painted(depot, rerolls=1, passing=None)
    others = [row(number, recipe(made.source, seed=number, prompt="later"), depot) for number in range(1, 6)]
    renderer.offer(order([row(0, made, depot), *others], depot).model_dump_json())
    steps.until(STEPS + 1)  # the next pass is under way, with two of the others
    engine.copied.set()
    shared = renderer._shared
    with shared.changed:
        assert shared.changed.wait_for(lambda: shared.ledger.count(Stage.JUDGING) == 0, 20)
    steps.allow(100)
    Scheduler(renderer).all_of(6)
    assert ["later" if each.prompt == "later" else "tried" for each in engine.begun] == [
        *("tried", "later", "later", "later"),
        *("tried", "later", "later"),
    ]


@pytest.mark.parametrize("running", [True, False])
def test_a_row_that_is_revoked_in_its_second_try_is_handed_back_with_what_both_took(
    depot: Depot, make: Make, running: bool
) -> None:
    """If what runs may go on, it is the third try that does not begin."""
    steps = Stepper(STEPS + 1)
    engine = Recorder(sleep=steps)
    renderer = make(engine)
    renderer.offer(order([row(0, painted(depot, rerolls=8, passing=None), depot)], depot).model_dump_json())
    steps.until(STEPS + 2)
    first_try = renderer._shared.ledger.row(next(iter(renderer._gpu._active)).ref)
    assert first_try is not None
    cost = first_try.spent.gpu
    renderer.revoke(1, [1], running)
    steps.allow(100)
    report = Scheduler(renderer).all_of(1)[0]
    assert report.tried is Tried.HANDED_BACK
    assert report.seconds.gpu >= cost
    assert len(engine.begun) == 2
    assert len(engine.passes) == (STEPS + 2 if running else 2 * STEPS)
    assert not any(path.startswith("/out/") for path in depot.objects)


def test_draining_hands_back_what_would_be_tried_again_and_finishes_what_passes(depot: Depot, make: Make) -> None:
    steps = Stepper(0)
    renderer = make(Recorder(sleep=steps))
    rows = two_rows(depot, painted(depot, rerolls=8, passing=None))
    renderer.offer(order(rows, depot).model_dump_json())
    steps.until(1)
    renderer.drain(1)
    steps.allow(100)
    seen = Scheduler(renderer).all_of(2)
    assert (seen[0].tried, seen[1].tried) == (Tried.HANDED_BACK, Tried.SUCCEEDED)


def test_a_rendition_larger_than_the_render_is_rendered_in_tiles(depot: Depot, make: Make) -> None:
    made = recipe(depot.add(photo()), output=LARGE)
    report, engine = rendered(depot, make, made)
    count = len(tiles(SIZE, (128, 96)))
    assert [each.seed for each in engine.begun[1:]] == [seed_of_try(made.seed, TILES + n) for n in range(count)]
    assert {(each.strength, each.steps) for each in engine.begun[1:]} == {(0.25, 8)}
    assert report.picture is not None
    assert {(each.name, each.width, each.height) for each in report.picture.renditions} == {
        ("poster", 128, 96),
        ("square", 48, 48),
    }
    assert stored(depot, "poster").size == (128, 96)
    assert (report.picture.width, report.picture.height) == (64, 48)
    corner = drawn(engine.begun[1], ()).getpixel((0, 0))
    assert stored(depot, "poster").getpixel((0, 0)) == corner, "the first tile's own corner"


def test_a_row_that_is_drained_between_its_tiles_is_handed_back_whole(depot: Depot, make: Make) -> None:
    steps = Stepper(STEPS)
    engine = Recorder(sleep=steps)
    renderer = make(engine)
    renderer.offer(order([row(0, recipe(depot.add(photo()), output=LARGE), depot)], depot).model_dump_json())
    steps.until(STEPS + 1)
    assert len(engine.begun) == 1 + 2, "two tiles of more are in the GPU"
    renderer.drain(1)
    steps.allow(1)
    report = Scheduler(renderer).all_of(1)[0]
    assert report.tried is Tried.HANDED_BACK
    assert report.seconds.denoise > 0
    assert len(engine.passes) == STEPS + 1, "no step is taken for what cannot be finished"
    assert not any(path.startswith("/out/") for path in depot.objects)


def test_a_tile_that_fails_fails_its_row_and_frees_the_gpu_of_the_others(depot: Depot, make: Make) -> None:
    failure = Failure(kind=FailureKind.ENGINE, code="broken", detail="No.")

    class BadTiles(Recorder):
        def step(self, group: Group) -> Sequence[Ended]:
            tile = len(self.begun) > 1 and self.begun[1].seed == seed_of_try(7, TILES)
            return [Ended(each.id, failure) if tile else each for each in super().step(group)][:1]

    engine = BadTiles()
    renderer = make(engine)
    scheduler = Scheduler(renderer)
    renderer.offer(order([row(0, recipe(depot.add(photo()), output=LARGE), depot)], depot).model_dump_json())
    assert scheduler.all_of(1)[0].failure == failure
    assert len(engine.begun) == 1 + 2
    with renderer._shared.changed:
        assert renderer._shared.changed.wait_for(lambda: not renderer._gpu._active, 20)


def test_all_pictures_of_a_recipe_reach_the_engine_and_what_the_mask_spares_comes_back(
    depot: Depot, make: Make
) -> None:
    half = np.zeros((48, 64), np.uint8)
    half[:, 32:] = 255
    file = io.BytesIO()
    Image.fromarray(half).save(file, "PNG")
    source, mask = depot.add(photo(1)), depot.add(file.getvalue())
    control, reference, laid_over = (depot.add(photo(n)) for n in (2, 3, 4))
    made = recipe(
        source,
        mask=Mask(picture=mask, feather=0),
        control=Control(kind=ControlKind.DEPTH, picture=control, scale=0.5, start=0.0, end=1.0),
        references=(reference,),
        reference_scale=0.5,
        blend=(Blended(picture=laid_over, weight=0.5),),
    )
    _, engine = rendered(depot, make, made)
    (begun,) = engine.begun
    assert [weights.parts for weights in engine.loaded] == [("control.depth", "reference")]
    assert np.array_equal(np.asarray(begun.mask), half)
    assert begun.control is not None
    assert begun.control.picture is not None
    assert np.array_equal(np.asarray(begun.control.picture), np.asarray(Image.open(io.BytesIO(photo(2)))))
    assert [each.name for each in begun.references] == [f"{reference} on #ffffff"]
    before, after = np.asarray(begun.picture), np.asarray(stored(depot))
    assert np.array_equal(before[:, :32], after[:, :32])
    assert not np.array_equal(before[:, 32:], after[:, 32:])


def test_a_reference_that_goes_with_many_sources_is_fetched_once(depot: Depot, make: Make) -> None:
    reference = depot.add(photo(9))
    sources = [depot.add(photo(number)) for number in range(4)]
    renderer = make(io_threads=1)
    rows = [
        row(number, recipe(source, references=(reference,), reference_scale=0.5), depot)
        for number, source in enumerate(sources)
    ]
    renderer.offer(order(rows, depot).model_dump_json())
    Scheduler(renderer).all_of(4)
    assert depot.asked[f"GET /{reference}"] == 1


@pytest.mark.parametrize("missing", ["mask", "control", "reference"])
def test_a_picture_that_cannot_be_had_fails_only_the_rows_that_need_it(depot: Depot, make: Make, missing: str) -> None:
    source, gone = depot.add(photo()), "0" * 64
    changes: dict[str, dict[str, Any]] = {
        "mask": {"mask": Mask(picture=gone, feather=0)},
        "control": {"control": Control(kind=ControlKind.POSE, picture=gone, scale=0.5, start=0.0, end=1.0)},
        "reference": {"references": (gone,), "reference_scale": 0.5},
    }
    renderer = make()
    rows = [row(0, recipe(source), depot), row(1, recipe(source, **changes[missing]), depot)]
    renderer.offer(order(rows, depot).model_dump_json())
    seen = Scheduler(renderer).all_of(2)
    assert seen[0].tried is Tried.SUCCEEDED
    assert seen[1].failure is not None
    assert seen[1].failure.code == "depot_missing"


def test_a_lost_gpu_hands_back_what_would_have_been_tried_again(depot: Depot, make: Make) -> None:
    class Dying(Recorder):
        def step(self, group: Group) -> Sequence[Ended]:
            if len(self.passes) == STEPS:
                raise RuntimeError("CUDA error")
            return super().step(group)

    engine = Dying(batch=1)
    engine.copied.clear()
    renderer = make(engine, batch=1)
    made = painted(depot, rerolls=8, passing=None)
    renderer.offer(order(two_rows(depot, made), depot).model_dump_json())
    scheduler = Scheduler(renderer)
    assert scheduler.all_of(1)[1].tried is Tried.FAILED
    engine.copied.set()
    report = scheduler.all_of(2)[0]
    assert report.tried is Tried.HANDED_BACK
    assert report.seconds.gpu > 0
