"""How much of a campaign was rendered before. Of a large one a sample is looked up."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

EXACT = 3_000
"""Renders up to which every fingerprint is looked up; a fingerprint takes some 40 microseconds to write out."""

_Z = 1.645
"""One-sided, 95 in 100."""


def to_look_up(renders: int) -> Sequence[int]:
    """Ordinals: all of them, or `EXACT` spread over the campaign, one from each of as many equal stretches.

    Where in its stretch one lies is drawn from its number: at equal distances the sample would meet the same style or
    variant again and again.
    """
    if renders <= EXACT:
        return range(renders)
    ends = [renders * number // EXACT for number in range(EXACT + 1)]
    return [lo + _draw(number) % (hi - lo) for number, (lo, hi) in enumerate(pairwise(ends))]


def at_least(known: int, looked_up: int, renders: int) -> int:
    """Renders of which a picture is there, when *known* of the *looked_up* were: a lower bound unless all were.

    Wilson's interval: unlike the usual one it does not claim certainty when all or none of a sample were found.
    """
    if looked_up >= renders or not known:
        return known
    share, spread = known / looked_up, _Z * _Z / looked_up
    middle = share + spread / 2
    reach = _Z * sqrt(share * (1 - share) / looked_up + spread / (4 * looked_up))
    return max(known, int(renders * (middle - reach) / (1 + spread)))


def _draw(number: int) -> int:
    return int.from_bytes(hashlib.sha256(number.to_bytes(8, "big")).digest()[:8], "big")
