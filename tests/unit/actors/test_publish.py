"""What goes into the depot, and in which order."""

import hashlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from actors.engine.port import Refused
from actors.finish import SOURCE_TYPE, Files, encode
from actors.links import Links
from actors.publish import Made, provenance, upload
from schemas.order import OrderRow
from schemas.picture import PictureFormat
from schemas.recipe import Blended, Control, Mask, Output, Recipe
from schemas.rendition import Rendition
from schemas.report import FailureKind, Measured, Seconds, TriedSeed
from schemas.style import ControlKind, Digested, StrengthMode
from tests.unit.actors.support import Depot, recipe, row, running_depot

OUTPUT = Output(
    format=PictureFormat.WEBP,
    renditions=(
        Rendition(name="square", aspect="1:1", format=PictureFormat.JPEG),
        Rendition(name="story", aspect="9:16"),
    ),
)
MADE = Made("gpu=x batch=4", "session", Seconds(fetch=1, publish=2), {"pillow": "13"})
MEASURED = Measured(tries=(TriedSeed(seed=7, structure=0.2, missed=("structure",)), TriedSeed(seed=99)), kept=1)


@pytest.fixture
def depot() -> Iterator[Depot]:
    with running_depot() as running:
        yield running


@pytest.fixture
def links() -> Iterator[Links]:
    opened = Links(lambda _: None)
    yield opened
    opened.close()


def ordered(depot: Depot, made: Recipe) -> OrderRow:
    found = row(3, made, depot)
    renditions = {each.name: f"{depot.url}/out/3/{each.name}" for each in made.output.renditions}
    return found.model_copy(update={"links": found.links.model_copy(update={"renditions": renditions})})


def files_of(order: OrderRow) -> Files:
    return encode(
        Image.linear_gradient("L").resize((64, 48)).convert("RGB"), None, order.recipe.output, order.fingerprint
    )


def test_everything_lies_in_the_depot_as_it_is_reported(depot: Depot, links: Links) -> None:
    order = ordered(depot, recipe(output=OUTPUT))
    published = upload(links, order, files_of(order), MADE, MEASURED)
    body = depot.objects["/out/3/picture"]
    assert published.key == order.links.picture_key
    assert (published.sha256, published.bytes) == (hashlib.sha256(body).hexdigest(), len(body))
    assert (published.width, published.height, published.format) == (64, 48, "webp")
    assert published.measured == MEASURED
    assert [each.name for each in published.renditions] == ["square", "story"]
    for each in published.renditions:
        stored = depot.objects[f"/out/3/{each.name}"]
        assert (each.sha256, each.bytes) == (hashlib.sha256(stored).hexdigest(), len(stored))
    assert [(each.width, each.height, each.format) for each in published.renditions] == [
        (48, 48, "jpeg"),
        (27, 48, "png"),
    ]
    types = {path.rpartition("/")[2]: headers["content-type"] for path, headers in depot.headers.items()}
    assert types == {
        "picture": "image/webp",
        "thumbnail": "image/webp",
        "provenance": "application/json",
        "square": "image/jpeg",
        "story": "image/png",
    }


@pytest.mark.parametrize("path", ["thumbnail", "provenance", "square", "story"])
def test_picture_is_not_there_before_all_that_lies_beside_it(depot: Depot, links: Links, path: str) -> None:
    order = ordered(depot, recipe(output=OUTPUT))
    depot.answers[f"/out/3/{path}"] = [403]
    with pytest.raises(Refused) as refused:
        upload(links, order, files_of(order), MADE, None)
    assert refused.value.failure.kind is FailureKind.DEPOT
    assert "/out/3/picture" not in depot.objects


def test_upload_waits_with_the_picture_until_the_others_have_arrived(depot: Depot, links: Links) -> None:
    order = ordered(depot, recipe(output=OUTPUT))
    depot.gates["/out/3/story"] = gate = threading.Event()
    thread = threading.Thread(target=upload, args=(links, order, files_of(order), MADE, None))
    thread.start()
    while not depot.asked["PUT /out/3/story"]:
        thread.join(0.01)
    assert not depot.asked["PUT /out/3/picture"]
    gate.set()
    thread.join()
    assert "/out/3/picture" in depot.objects


def test_rendition_without_a_link_is_refused_before_anything_is_sent(depot: Depot, links: Links) -> None:
    order = ordered(depot, recipe(output=OUTPUT))
    order = order.model_copy(update={"links": order.links.model_copy(update={"renditions": {}})})
    with pytest.raises(Refused) as refused:
        upload(links, order, files_of(order), MADE, None)
    assert (refused.value.failure.kind, refused.value.failure.code) == (FailureKind.DEPOT, "rendition_link_missing")
    assert not depot.objects


def note(order: OrderRow, measured: Measured | None = MEASURED) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(provenance(order, files_of(order), MADE, measured))
    return found


def test_provenance_says_what_a_picture_is_made_of_and_how() -> None:
    made = recipe(
        "s" * 64,
        loras=(Digested(name="l", digest="l" * 64, scale=1),),
        strength_mode=StrengthMode.NOISE,
        mask=Mask(picture="m" * 64, feather=8),
        control=Control(kind=ControlKind.DEPTH, picture="d" * 64, scale=1, start=0, end=1),
        references=("r" * 64,),
        blend=(Blended(picture="b" * 64, weight=0.5, mask="n" * 64), Blended(picture="e" * 64, weight=0.5)),
        output=OUTPUT,
    )
    order = row(3, made).model_copy(update={"made_from": "rnd_parent"})
    files, found = files_of(order), note(order)
    assert found["digests"] == {
        "picture": files.picture.sha256,
        "source": "s" * 64,
        "checkpoint": "c" * 64,
        "loras": ["l" * 64],
        "mask": "m" * 64,
        "control": "d" * 64,
        "references": ["r" * 64],
        "blend": [{"picture": "b" * 64, "mask": "n" * 64}, {"picture": "e" * 64, "mask": None}],
    }
    assert {found["digests"][name] for name in ("source", "mask", "control")} <= set(made.pictures)
    assert found["renditions"]["square"]["sha256"] == files.renditions["square"].sha256
    assert (found["strength_mode"], found["made_from"], found["numerics"]) == ("noise", "rnd_parent", MADE.numerics)
    assert found["digital_source_type"] == SOURCE_TYPE
    assert Recipe.model_validate(found["recipe"]) == made


def test_provenance_tells_every_try_and_the_seed_of_the_one_that_was_kept() -> None:
    found = note(row(3, recipe(seed=7)))
    assert Measured.model_validate(found["measured"]) == MEASURED
    assert (found["seed"], found["recipe"]["seed"]) == (99, 7)
    unmeasured = note(row(3, recipe(seed=7)), None)
    assert (unmeasured["seed"], unmeasured["measured"], unmeasured["made_from"]) == (7, None, None)
