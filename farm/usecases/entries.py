"""The sources of a block with the pictures that go with them: mask, control, references, blends."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from farm.core.aspect import lies_over
from farm.core.records import SourceRow
from schemas.campaign import BlendEntry, Block, MaskEntry, ResolvedSource, SourceEntry
from schemas.recipe import Blended, Mask
from schemas.style import ControlKind, ResolvedStyle

Say = Callable[[str, str, str], None]
"""Notes a fault: pointer, code, detail."""

_GIVEN = frozenset({ControlKind.DEPTH, ControlKind.POSE})
"""Kinds of control that come as a picture."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a team has of what is named: uploads by sha256, and ids of renders."""

    sources: dict[str, SourceRow]
    renders: frozenset[str]

    def find(self, source: str) -> SourceRow | None:
        return self.sources.get(_sha(source))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the styles of a block ask of each of its sources."""

    control: str  # name of the first style that follows a picture; "" when none does
    kind: str
    reference: str  # name of the first style that has no reference pictures of its own; "" when none does
    takes_references: bool
    whole: bool  # all styles of the block are known

    @classmethod
    def by(cls, styles: Sequence[ResolvedStyle], whole: bool) -> "_Asked":
        following = [
            (style.name, style.control.kind) for style in styles if style.control and style.control.kind in _GIVEN
        ]
        alike = [style for style in styles if style.reference is not None]
        bare = [style.name for style in alike if style.reference is not None and not style.reference.pictures]
        name, kind = following[0] if following else ("", "")
        return cls(name, str(kind), bare[0] if bare else "", bool(alike), whole)


def pictures_in(entry: SourceEntry) -> Iterator[str]:
    """Ids of all uploads that it names."""
    yield entry.source
    for _, _, picture in _beside(entry):
        yield picture


def resolve_sources(
    block: Block, styles: Sequence[ResolvedStyle], pictures: Pictures, say: Say, at: str
) -> Iterator[ResolvedSource]:
    """*styles*: those of the block that could be resolved."""
    asked = _Asked.by(styles, whole=len(styles) == len(block.styles))
    _check_kinds(styles, say, f"{at}/styles")
    for index, entry in enumerate(block.sources):
        pointer = f"{at}/sources/{index}"
        row = pictures.find(entry.source)
        if row is None:
            say(f"{pointer}/source", "unknown_source", _unknown("source", entry.source))
        _check_beside(entry, row, pictures, say, pointer)
        _check_asked(entry, asked, say, pointer)
        if row is not None:
            yield _resolved(entry, row)


def _resolved(entry: SourceEntry, row: SourceRow) -> ResolvedSource:
    # Every value was validated when it came in; doing it again would be half the time of a large submission.
    found = ResolvedSource.model_construct(
        sha256=row.sha256, name=row.name, prompt=entry.prompt, variables=entry.variables
    )
    if not (entry.mask or entry.control or entry.references or entry.blend or entry.made_from):
        return found
    beside = {
        "mask": None if entry.mask is None else _mask(entry.mask),
        "control": None if entry.control is None else _sha(entry.control),
        "references": tuple(map(_sha, entry.references)),
        "blend": tuple(map(_blended, entry.blend)),
        "made_from": entry.made_from,
    }
    return found.model_copy(update=beside)


def _mask(mask: MaskEntry) -> Mask:
    return Mask(picture=_sha(mask.picture), feather=mask.feather, invert=mask.invert)


def _blended(one: BlendEntry) -> Blended:
    return Blended(picture=_sha(one.picture), weight=one.weight, mask=None if one.mask is None else _sha(one.mask))


def _sha(source: str) -> str:
    return source.removeprefix("src_")


def _beside(entry: SourceEntry) -> Iterator[tuple[str, str, str]]:
    """Where each picture beside the source stands, what it is, and its id."""
    if entry.mask is not None:
        yield "/mask/picture", "mask", entry.mask.picture
    if entry.control is not None:
        yield "/control", "control", entry.control
    for number, reference in enumerate(entry.references):
        yield f"/references/{number}", "reference", reference
    for number, blended in enumerate(entry.blend):
        yield f"/blend/{number}/picture", "blend", blended.picture
        if blended.mask is not None:
            yield f"/blend/{number}/mask", "mask", blended.mask


def _check_beside(entry: SourceEntry, row: SourceRow | None, pictures: Pictures, say: Say, at: str) -> None:
    for where, what, picture in _beside(entry):
        found = pictures.find(picture)
        if found is None:
            say(at + where, "unknown_source", _unknown(f"{what} picture", picture))
        elif row is not None and what != "reference" and not _fits(found, row):
            sizes = f"{found.width}x{found.height}, the source {row.width}x{row.height}"
            detail = f"The {what} picture lies over the source {row.name}, so it needs its aspect: it is {sizes}."
            say(at + where, f"{what}_other_aspect", detail)
    if entry.made_from is not None and entry.made_from not in pictures.renders:
        say(f"{at}/made_from", "unknown_render", f"There is no render {entry.made_from}.")


def _fits(picture: SourceRow, source: SourceRow) -> bool:
    return lies_over((picture.width, picture.height), (source.width, source.height))


def _check_asked(entry: SourceEntry, asked: _Asked, say: Say, at: str) -> None:
    if asked.control and entry.control is None:
        detail = (
            f"Style {asked.control} follows {asked.kind}, and this source has no such picture. Give it a `control`."
        )
        say(f"{at}/control", "control_missing", detail)
    if asked.reference and not entry.references:
        detail = (
            f"Style {asked.reference} takes after reference pictures, and neither it nor this source has any. Give the "
            "source `references`, or the style."
        )
        say(f"{at}/references", "reference_missing", detail)
    if not asked.whole:  # a style that is not known may be the one that uses them
        return
    if entry.control is not None and not asked.control:
        detail = "No style of this block follows depth or a pose, so the control picture would change nothing."
        say(f"{at}/control", "control_unused", f"{detail} Choose such a style, or leave `control` out.")
    if entry.references and not asked.takes_references:
        detail = "No style of this block takes after reference pictures, so these would change nothing."
        say(f"{at}/references", "references_unused", f"{detail} Choose such a style, or leave `references` out.")


def _check_kinds(styles: Sequence[ResolvedStyle], say: Say, at: str) -> None:
    kinds = {style.control.kind: style.name for style in styles if style.control and style.control.kind in _GIVEN}
    if len(kinds) > 1:
        who = " and ".join(f"{name} ({kind})" for kind, name in sorted(kinds.items()))
        detail = f"Styles {who} follow pictures of different kinds, and a source brings one. Put them into two blocks."
        say(at, "control_kinds_differ", detail)


def _unknown(what: str, source: str) -> str:
    return f"There is no {what} {source[:16]}...: upload the picture first."
