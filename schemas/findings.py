"""What is found in a campaign's pictures when they are looked at together."""

from schemas.base import Wire


class Alike(Wire):
    """A render, and in how many of 64 bits its perceptual hash differs from that of the first of its group."""

    render: str
    distance: int
    style: str
    strength: float
    variant: int


class AlikeGroup(Wire):
    """Renders of one source that look alike: the first, in the order of the campaign, and what is near it."""

    source: str
    source_name: str
    renders: tuple[Alike, ...]


class Duplicates(Wire):
    """``compared`` pictures; ``unmeasured`` ones have no perceptual hash, as those of a former release."""

    distance: int
    compared: int
    unmeasured: int
    groups: tuple[AlikeGroup, ...]


class CheckCounts(Wire):
    """How a campaign's pictures did in the checks of their styles, those taken over from earlier campaigns too.

    ``missed`` renders kept a picture that misses at least one check; ``by_check`` says which. ``rerolled`` renders took
    more than one try, ``tries`` is how many tries all took.
    """

    checked: int = 0
    missed: int = 0
    rerolled: int = 0
    tries: int = 0
    by_check: dict[str, int] = {}
