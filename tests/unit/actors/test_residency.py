"""Who leaves when there is no room for all, and who lies where."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from actors.residency import Item, Move, Need, Resident, Tier, leaving, plan

names = st.text("abcdef", min_size=1, max_size=2)
residents = st.lists(
    st.builds(Resident, names, st.integers(0, 100), st.integers(0, 20)), max_size=12, unique_by=lambda r: r.name
)
items = st.lists(
    st.builds(Item, names, st.integers(1, 100), st.sampled_from(Tier), st.integers(0, 20), st.sampled_from(Need)),
    max_size=12,
    unique_by=lambda i: i.name,
)
budgets = st.builds(lambda gpu, ram: {Tier.GPU: gpu, Tier.RAM: ram}, st.integers(0, 400), st.integers(0, 400))


@given(residents, st.integers(0, 400), st.sets(names))
def test_rest_fits_or_is_pinned(held: list[Resident], budget: int, pinned: set[str]) -> None:
    gone = leaving(held, budget_bytes=budget, pinned=pinned)
    rest = [each for each in held if each.name not in gone]
    assert not pinned & set(gone)
    assert sum(each.bytes for each in rest) <= budget or all(each.name in pinned for each in rest)


@given(residents, st.integers(0, 400))
def test_nobody_leaves_before_one_that_was_used_earlier(held: list[Resident], budget: int) -> None:
    gone = set(leaving(held, budget_bytes=budget))
    for each in held:
        if each.name not in gone:
            assert all((other.used, other.name) < (each.used, each.name) for other in held if other.name in gone)


@given(residents, st.integers(0, 400))
def test_nobody_leaves_without_need(held: list[Resident], budget: int) -> None:
    gone = leaving(held, budget_bytes=budget)
    if gone:
        last = next(each for each in held if each.name == gone[-1])
        rest = sum(each.bytes for each in held if each.name not in gone)
        assert rest + last.bytes > budget


# tiers


def after(held: list[Item], moves: tuple[Move, ...]) -> list[Item]:
    to = {move.name: move.to for move in moves}
    return [replace(item, at=to.get(item.name, item.at)) for item in held]


def at(held: list[Item], tier: Tier) -> list[Item]:
    return [item for item in held if item.at is tier]


def taken(held: list[Item], tier: Tier) -> int:
    return sum(item.bytes for item in at(held, tier))


@given(items, budgets)
def test_budgets_hold_unless_what_is_needed_now_alone_is_more(held: list[Item], budget: dict[Tier, int]) -> None:
    then = after(held, plan(held, budget))
    assert taken(then, Tier.GPU) <= budget[Tier.GPU]
    assert taken(then, Tier.RAM) <= budget[Tier.RAM] or all(item.need is Need.NOW for item in at(then, Tier.RAM))


@given(items, budgets)
def test_what_is_needed_now_is_at_hand(held: list[Item], budget: dict[Tier, int]) -> None:
    then = after(held, plan(held, budget))
    assert not [item for item in at(then, Tier.BELOW) if item.need is Need.NOW]
    free = budget[Tier.GPU] - sum(item.bytes for item in at(then, Tier.GPU) if item.need is Need.NOW)
    assert all(item.bytes > free for item in at(then, Tier.RAM) if item.need is Need.NOW)


@given(items, budgets)
def test_a_plan_carried_out_leaves_nothing_to_do(held: list[Item], budget: dict[Tier, int]) -> None:
    assert plan(after(held, plan(held, budget)), budget) == ()


@given(items, budgets)
def test_each_moves_at_most_once_and_only_what_is_needed_rises(held: list[Item], budget: dict[Tier, int]) -> None:
    moves = plan(held, budget)
    assert len({move.name for move in moves}) == len(moves)
    before = {item.name: item for item in held}
    for move in moves:
        assert move.to is not before[move.name].at
        if move.to > before[move.name].at:
            assert before[move.name].need is not Need.PAST


@given(items, budgets)
def test_room_is_made_before_it_is_taken(held: list[Item], budget: dict[Tier, int]) -> None:
    before = {item.name: item.at for item in held}
    rises = [move.to > before[move.name] for move in plan(held, budget)]
    assert rises == sorted(rises)


@given(items, budgets)
def test_next_shards_weights_outlast_what_was_merely_used(held: list[Item], budget: dict[Tier, int]) -> None:
    then = after(held, plan(held, budget))
    used = [item for item in at(then, Tier.RAM) if item.need is Need.PAST]
    for item in at(then, Tier.BELOW):
        if item.need is Need.NEXT:  # even without all of those there would be no room for it
            rest = taken(then, Tier.RAM) - sum(other.bytes for other in used)
            assert rest + item.bytes > budget[Tier.RAM]


@given(items, budgets)
def test_what_was_merely_used_leaves_in_the_order_of_its_use_and_only_as_much_as_must(
    held: list[Item], budget: dict[Tier, int]
) -> None:
    then = after(held, plan(held, budget))
    still = {item.name for item in then if item.at is not Tier.BELOW}
    on_gpu = {item.name for item in at(then, Tier.GPU)}
    was = [each for each in held if each.need is Need.PAST and each.at and each.name not in on_gpu]
    gone = [item for item in was if item.name not in still]
    for left in gone:
        assert all((left.used, left.name) < (kept.used, kept.name) for kept in was if kept.name in still)
    if gone:
        last = max(gone, key=lambda item: (item.used, item.name))
        assert taken(then, Tier.RAM) + last.bytes > budget[Tier.RAM]


@given(items, st.integers(0, 400))
def test_without_a_gpu_nothing_goes_there(held: list[Item], ram: int) -> None:
    on_host = [item for item in held if item.at is not Tier.GPU]
    assert all(move.to is not Tier.GPU for move in plan(on_host, {Tier.RAM: ram}))


def test_a_lora_wanted_now_takes_the_place_of_one_that_was_used() -> None:
    held = [
        Item("old", 6, Tier.GPU, used=1),
        Item("older", 5, Tier.RAM, used=0),
        Item("new", 7, Tier.BELOW, used=2, need=Need.NOW),
    ]
    moves = plan(held, {Tier.GPU: 10, Tier.RAM: 10})
    assert moves == (Move("older", Tier.BELOW), Move("old", Tier.RAM), Move("new", Tier.GPU))
