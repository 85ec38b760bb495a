"""What happens one after the other, so that traces get to where the two stores could part."""

from collections.abc import Callable

from tests.support.twin_actor import Step, Verb
from tests.support.twin_leader import VERBS as LEADERS
from tests.support.twin_leader import bury, end, finish, forget, greet, judge, spend, turn
from tests.support.twin_reports import VERBS as REPORTS
from tests.support.twin_reports import fail, look_up, put_back, report, take, take_blindly, work
from tests.support.twin_users import VERBS as USERS
from tests.support.twin_users import by_hand, set_up, steer, submit, wait

Part = tuple[Verb, int | None, int | None, int | None]
"""A verb and its numbers; None: any."""

PROOF, RETENTION, PAUSE, AMEND = 3, 1, 1, 4
ENGINE = 6  # of the kinds of failure
FRESH: tuple[Part, ...] = ((greet, 0, 0, 2), (greet, 1, 0, 2), (submit, 2, 4, 4))
"""Two renderers that live for some hours, and something for them to do."""

OPENING: tuple[Part, ...] = ((set_up, 1, 0, 1), *FRESH)
FAILED: tuple[Part, ...] = (*FRESH, (take, 0, 0, 0), (fail, 0, 0, ENGINE))
PROOFING: tuple[Part, ...] = (*FRESH, (submit, 0, PROOF, 4))
LATER: tuple[Part, ...] = ((wait, 0, 0, 0),)

SCENES: tuple[tuple[Part, ...], ...] = (
    *(((verb, None, None, None),) for verb in (*USERS, *LEADERS, *REPORTS)),
    ((submit, None, None, None), (take, 0, 3, None), (report, None, None, None), (report, None, None, None)),
    (*FRESH, (take, None, 3, 0), (report, 0, None, 4), (report, 1, None, 4), (report, 0, None, None)),
    (*FRESH, (take, 0, 0, 0), (fail, 0, 0, None), *LATER, (take, 0, 1, 1), (fail, 0, 0, None)),
    # a renderer is blamed, forgiven, cleared
    (*FAILED, (judge, 1, 0, None), *LATER, (take, 0, 1, 1), (fail, 0, 0, ENGINE), (fail, 1, 0, ENGINE)),
    (*FAILED, *LATER, (take, 0, 3, 1), (fail, 0, 0, ENGINE), (fail, 1, 0, ENGINE), (judge, 1, 0, None)),
    (*FAILED, *LATER, (work, 0, 0, 0)),
    (*FAILED, *LATER, (work, 0, 0, 1), (judge, None, 3, None)),
    ((by_hand, 0, 1, 0), (judge, 0, None, None), (judge, 0, 2, None), (by_hand, 0, 0, 0)),
    # leases are lost
    (*FRESH, (take, 0, 0, 0), (put_back, 0, 0, 0), (steer, 0, PAUSE, 0), (take_blindly, 0, 3, 0)),
    (*FRESH, (take, 0, 0, 0), (put_back, 0, 0, 0), (take, 0, 0, 1), (put_back, 1, None, None), (report, 1, 0, 0)),
    (*FRESH, (take, None, 0, 0), (put_back, 0, 1, None), *LATER, (take, None, 1, 1), (put_back, 0, 1, None)),
    (*FRESH, (take, 0, 1, None), (end, None, None, None), *LATER, *LATER, (forget, 0, 1, 7)),
    # proofs
    (*PROOFING, (spend, 0, 0, None), (work, 0, 0, 0), (spend, 0, 2, None), (finish, 0, 0, 0)),
    (*PROOFING, (work, 0, 0, 0), *LATER, (steer, 0, 0, None), (work, 0, None, 0)),
    (*PROOFING, (submit, 0, 1, 5), (finish, 0, 0, 0)),
    (*PROOFING, (steer, 0, None, None), (finish, 0, 0, 0)),
    # pictures that are there already
    (*FRESH, (work, 0, 0, 0), (submit, 2, 4, 4), (look_up, None, 0, 0), (look_up, None, 0, 0)),
    (
        *((set_up, 0, 0, RETENTION), *FRESH, (work, 0, 0, 0), (submit, 2, 4, 4), (work, 0, 0, 0), (wait, 0, 0, 7)),
        *((forget, 0, 0, None), (forget, 0, 0, 7), (forget, 0, 0, 7)),
    ),
    (*FRESH, (work, 0, 0, 0), (bury, 0, None, 1), *LATER, (bury, 0, None, 1), *LATER),
    # money, deadlines, ends
    ((set_up, 0, 0, None), *FRESH, (work, 0, 0, 0), (wait, 7, 7, 0), (submit, 2, 4, 4), (work, 0, 0, 0)),
    (*FRESH, (work, 0, 0, 0), (steer, 0, AMEND, None), (steer, 0, None, None)),
    ((spend, 0, 3, None), (spend, 0, 3, None), (spend, 0, None, None)),
    ((turn, None, None, 1), (turn, None, None, None)),
)


def steps_of(parts: tuple[Part, ...], number: Callable[[], int]) -> list[Step]:
    """With a *number* from 0 to 7 for each that is open."""
    return [Step(verb, *(number() if n is None else n for n in numbers)) for verb, *numbers in parts]
