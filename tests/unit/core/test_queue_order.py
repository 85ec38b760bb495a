"""Moving a campaign in its queue, against the order that a store would show afterwards."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from farm.core.ids import CampaignId
from farm.core.queue_order import Back, Before, Front, Placing, Where, place
from farm.core.records import QueuedCampaign
from schemas.campaign import CampaignState
from schemas.order import Lane


def queued(number: int, priority: int, position: float) -> QueuedCampaign:
    return QueuedCampaign(
        CampaignId(number), CampaignState.ACTIVE, Lane.BULK, priority, position, None, False, 0, 0.0, 0
    )


def in_order(queue: list[QueuedCampaign]) -> list[QueuedCampaign]:
    return sorted(queue, key=lambda one: (-one.priority, one.position, one.id))


def after(queue: list[QueuedCampaign], campaign: QueuedCampaign, placing: Placing) -> list[int]:
    changed = []
    for one in queue:
        priority = placing.priority if one.id == campaign.id and placing.priority is not None else one.priority
        position = placing.positions.get(one.id, one.position)
        changed.append(replace(one, priority=priority, position=position))
    return [one.id for one in in_order(changed)]


queues = st.lists(
    st.tuples(st.sampled_from([10, 50, 90]), st.sampled_from([1.7e9, 1.7e9 + 1e-7, 1.7e9 + 1, 1.7e9 + 60])),
    min_size=1,
    max_size=6,
).map(lambda rows: in_order([queued(number, *row) for number, row in enumerate(rows)]))


@given(queues, st.data())
def test_it_stands_where_it_was_put_and_the_others_keep_their_order(
    queue: list[QueuedCampaign], data: st.DataObject
) -> None:
    campaign = data.draw(st.sampled_from(queue))
    places: list[Where] = [Front(), Back(), *(Before(one.id) for one in queue)]
    where = data.draw(st.sampled_from(places))
    placing = place(queue, campaign, where)
    found = after(queue, campaign, placing)
    others = [one.id for one in queue if one.id != campaign.id]
    assert [number for number in found if number != campaign.id] == others
    match where:
        case Front():
            assert found[0] == campaign.id
        case Back():
            assert found[-1] == campaign.id
        case Before(other) if other != campaign.id:
            assert found.index(campaign.id) == found.index(other) - 1
        case _:
            assert placing == Placing()


@given(queues, st.data())
def test_moving_it_again_to_where_it_stands_changes_nothing(queue: list[QueuedCampaign], data: st.DataObject) -> None:
    for campaign, where in ((queue[0], Front()), (queue[-1], Back())):
        assert place(queue, campaign, where) == Placing()


def test_going_before_a_higher_priority_takes_it_over() -> None:
    low, high = queued(1, 10, 5.0), queued(2, 90, 9.0)
    assert place([high, low], low, Front()).priority == 90
    assert place([high, low], high, Back()).priority == 10
    assert place([high, low], low, Before(high.id)).priority == 90


def test_the_front_is_far_enough_ahead_for_a_warm_renderer_to_leave_another() -> None:
    first, second = queued(1, 50, 1000.0), queued(2, 50, 1001.0)
    placing = place([first, second], second, Front())
    assert first.position - placing.positions[second.id] >= 600
