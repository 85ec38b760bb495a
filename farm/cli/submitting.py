"""From what `farm campaign submit` is given to a campaign: draft, look at its styles, upload, send."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from farm.cli.campaign_file import CampaignFile, from_value, read_file
from farm.cli.companions import PICTURES
from farm.cli.exits import FAILED, USAGE, Stop, spec_sent
from farm.cli.output import say
from farm.cli.quoting import quote_line
from farm.cli.uploading import upload_all
from farm.core.words import many
from farm.sdk import ApiError, Client, Unreachable
from schemas.campaign import Campaign, CampaignSpec

_YAML = (".yaml", ".yml")
_SHOWN = 30  # names of styles in a sentence


def draft_of(paths: Sequence[Path], options: Mapping[str, Any], wishes: Mapping[str, Any]) -> CampaignFile:
    """Of one campaign file, or of pictures and folders with *options*; *wishes* go with both. Raises `Stop`."""
    given = {key: value for key, value in options.items() if value}
    strange = [path for path in paths if path.is_file() and path.suffix.lower() not in PICTURES]
    if not strange:
        return _of_pictures(paths, {**given, **wishes})
    file = strange[0]
    if len(paths) > 1 or (given and file.suffix.lower() not in _YAML):
        kinds = ", ".join(sorted(PICTURES))
        raise Stop(f"{file} is neither a picture ({kinds}) nor a folder. A campaign file goes alone.", USAGE)
    if given:
        raise Stop(f"{file} says itself which {', '.join(given)} it wants; the options go with pictures.", USAGE)
    return read_file(file, wishes)


def _of_pictures(paths: Sequence[Path], given: Mapping[str, Any]) -> CampaignFile:
    if "styles" not in given:
        raise Stop("With pictures, say at least one --style. `farm style list` shows them.", USAGE)
    found = list(dict.fromkeys(path.absolute() for path in paths))
    sources = [str(path) for path in found]  # whole paths: none of them looks like an id
    return from_value({"sources": sources, **given}, Path(), default_name=_name_of(found) or "Pictures")


def _name_of(found: Sequence[Path]) -> str:
    """Of the picture, or of the folder that the first lies in."""
    first = found[0]
    if first.is_dir():
        return first.resolve().name
    return first.stem if len(found) == 1 else first.parent.resolve().name


def check_styles(farm: Client, references: Collection[str]) -> None:
    """With one look at the list, before anything is uploaded. Raises `Stop`."""
    newest = {style.name: style.version for style in farm.styles()}
    faults = [fault for reference in references if (fault := _style_fault(reference, newest))]
    if faults:
        raise Stop("\n".join([*faults, _known(newest)]), USAGE)


def _style_fault(reference: str, newest: Mapping[str, int]) -> str | None:
    name, _, version = reference.partition("@")
    if name not in newest:
        near = get_close_matches(name, newest, 1)
        return f"There is no style {name}" + (f"; did you mean {near[0]}?" if near else ".")
    if version and int(version) > newest[name]:  # versions are counted from 1 and never go away
        return f"The style {name} has no version {version}; its newest is {newest[name]}."
    return None


def _known(newest: Mapping[str, int]) -> str:
    if not newest:
        return "There are no styles yet; `farm style add` saves one."
    more = f" and {len(newest) - _SHOWN} more" if len(newest) > _SHOWN else ""
    return f"There are {', '.join(sorted(newest)[:_SHOWN])}{more}."


def upload_for(farm: Client, draft: CampaignFile, *, skip_bad: bool) -> CampaignSpec:
    """Raises `Stop` when a picture is refused, or none is left."""
    pictures = draft.pictures()
    uploads = upload_all(farm, pictures)
    if uploads.refused and not skip_bad:
        raise Stop(f"{len(uploads.refused)} pictures were refused. Take them out, or go on with --skip-bad.", FAILED)
    if pictures and not uploads.sources:
        raise Stop("No picture is left to render.", FAILED)
    return draft.spec(uploads.ids)


def quote_and_send(farm: Client, spec: CampaignSpec, key: str | None) -> Campaign:
    """Says what it will cost, then submits. Raises `Stop`."""
    try:
        quote = farm.quote(spec)
    except Unreachable:
        raise
    except ApiError:  # submitting says what is wrong; under a key that came before it may be nothing
        return send(farm, spec, key)
    say(f"Quote: {quote_line(quote)}")
    for note in quote.notes:
        say(f"Note: {note}")
    return send(farm, spec, key)


def send(farm: Client, spec: CampaignSpec, key: str | None) -> Campaign:
    """Says whether it is new. Raises `Stop`."""
    with spec_sent():
        campaign, replayed = farm.submit_once(spec, key or str(uuid.uuid4()))
    if replayed and key:  # under a key made up here only the answer was lost
        say(f"{campaign.id} was submitted before with this key; it is {campaign.state}. Nothing was submitted anew.")
    else:
        proof = "" if spec.proof is None else " Its proof goes first; the rest waits for your approval."
        say(f"Submitted {campaign.id}: {many(campaign.counts.total, 'render')}.{proof}")
    return campaign
