"""From a campaign to its changed child: `farm campaign edit`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from farm.cli.exits import USAGE, Stop
from farm.cli.faults import sentences
from farm.cli.output import say
from farm.sdk import Client
from schemas.campaign import CampaignDetail, CampaignSpec, ProofSpec


def edited(
    farm: Client, parent: CampaignDetail, *, styles: Sequence[str], strengths: Sequence[float], proof: bool | None
) -> CampaignSpec:
    """The child's spec. Styles that stay keep the version they had, so that nothing of theirs is rendered anew.

    Raises `Stop`.
    """
    changes = dict(_change(text) for text in styles)
    spec = parent.spec
    used = list(dict.fromkeys(reference for block in spec.blocks for reference in block.styles))
    if not changes and not strengths:
        raise Stop("Say what changes: --style old=new, or --strength.", USAGE)
    _check_used(changes, used)
    named = {reference: _named(farm, parent.id, reference, changes) for reference in used}
    value = spec.model_dump(mode="json", exclude_defaults=True)
    for block in value["blocks"]:
        block["styles"] = [named[reference] for reference in block["styles"]]
        block["strengths"] = list(strengths) or block.get("strengths")
    value |= _lasting(parent)
    if proof is not None:
        value["proof"] = (spec.proof or ProofSpec()).model_dump() if proof else None
    return _validated({**value, "parent": parent.id})


def _change(text: str) -> tuple[str, str]:
    old, equals, new = (part.strip() for part in text.partition("="))
    if not (old and equals and new):
        raise Stop(f"{text!r} names no change: write --style old=new.", USAGE)
    return old, new


def _check_used(changes: dict[str, str], used: Sequence[str]) -> None:
    for old in changes:
        if not any(old in (reference, reference.partition("@")[0]) for reference in used):
            raise Stop(f"The campaign does not use the style {old}; it uses {', '.join(used)}.", USAGE)


def _named(farm: Client, campaign: str, reference: str, changes: dict[str, str]) -> str:
    name, _, version = reference.partition("@")
    new = changes.get(reference) or changes.get(name)
    if new is not None or version:
        return new or reference
    render = next(farm.renders(campaign, style=name), None)
    return reference if render is None else f"{name}@{render.style_version}"


def _lasting(parent: CampaignDetail) -> dict[str, object]:
    """What was amended since it was submitted. A deadline that has passed would be refused."""
    found: dict[str, object] = {"priority": parent.priority, "deadline": parent.deadline}
    if parent.deadline is not None and datetime.fromisoformat(parent.deadline) <= datetime.now(UTC):
        say("Its deadline has passed, so the new campaign has none; `farm campaign set --deadline` sets one.")
        found["deadline"] = None
    if parent.budget is not None:
        found["budget"] = parent.budget.model_dump(mode="json")
    return found


def _validated(value: dict[str, object]) -> CampaignSpec:
    try:
        return CampaignSpec.model_validate(value)
    except ValidationError as fault:
        raise Stop("\n".join(["The campaign is not right:", *sentences(fault, CampaignSpec)]), USAGE) from fault
