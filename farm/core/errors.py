"""The error tree.

    FarmError
    ├── Refused              what was asked cannot be done, and asking again will not help
    │   ├── BadRequest       422  something in it is wrong; ``faults`` lists everything that is, at once
    │   ├── NotFound         404  no such thing, or it is another team's
    │   ├── Unauthorised     401  no key, or not a good one
    │   ├── Conflict         409  it does not fit the state that the thing is in
    │   ├── KeyReused        422  the idempotency key came with another body before
    │   └── TooLarge         413  more bytes or renders than are taken
    ├── Unavailable          503  a part we need does not answer; ask again
    │   ├── StoreDown             PostgreSQL
    │   ├── DepotDown             the S3 store
    │   └── FleetDown             Ray
    ├── ValuesRefused        the database does not take what it was given: a mistake of ours, or of a renderer
    └── LeadershipLost       another scheduler leads; whatever this one was about to write was not written

Every error has a stable ``code`` and a sentence that says what was wrong, where, and what to do.
"""

from collections.abc import Sequence

from schemas.problem import Fault


class FarmError(Exception):
    """Root of the tree."""

    code = "internal"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class Refused(FarmError):
    code = "refused"


class BadRequest(Refused):
    code = "bad_request"

    def __init__(self, detail: str, *, code: str | None = None, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail, code=code)
        self.faults = tuple(faults)


class NotFound(Refused):
    code = "not_found"


class Unauthorised(Refused):
    code = "unauthorised"


class Conflict(Refused):
    code = "conflict"


class KeyReused(Refused):
    code = "idempotency_key_reused"


class TooLarge(Refused):
    code = "too_large"


class Unavailable(FarmError):
    code = "unavailable"


class StoreDown(Unavailable):
    code = "store_down"


class DepotDown(Unavailable):
    code = "depot_down"


class FleetDown(Unavailable):
    code = "fleet_down"


class ValuesRefused(FarmError):
    code = "values_refused"


class LeadershipLost(FarmError):
    code = "leadership_lost"
