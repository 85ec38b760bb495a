"""Writes docs/reference/: settings, metrics, error codes, commands, exit codes, routes and states, taken from the code.

    python ops/docs.py

Long for a module: what to do about each error code is written here by hand, one sentence a code. A code that the
program may give and that has no sentence here, or the other way round, fails tests/unit/docs.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import typer.main
from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from farm.api.app import create_app
from farm.cli import exits
from farm.cli.main import app as command_line
from farm.config import ApiSettings, DepotSettings, MigrateSettings, SchedulerSettings, ServiceSettings
from farm.depot.memory import MemoryDepot
from farm.store.memory import MemoryStore
from farm.telemetry import ApiMetrics, SchedulerMetrics
from ops import diagrams
from schemas.source import SourceFault

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
_MADE = "<!-- Made by `python ops/docs.py`; do not edit. -->\n"
_CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LAID_OVER = ("mask", "control", "blend")
"""What has to have the source's aspect."""

SETTINGS: Mapping[str, type[BaseSettings]] = {
    "The depot: read by `farm api` and `farm scheduler`": DepotSettings,
    "Both services: `farm api` and `farm scheduler`": ServiceSettings,
    "`farm api`": ApiSettings,
    "`farm scheduler`": SchedulerSettings,
    "`farm migrate` and operators' commands": MigrateSettings,
}

COMMAND_LINE_SETTINGS = {
    "FARM_URL": "Address of the farm that the commands speak to. `--url` goes before it.",
    "FARM_API_KEY": "The API key. `--key` goes before it.",
    "FARM_DATA": "Data folder of `farm up`, with `client.json`: address and key. `--data` goes before it.",
}

EXITS = {
    "OK": "Done.",
    "FAILED": "It was refused, or something does not work. The sentence on stderr says what.",
    "USAGE": "The command or a file given to it is wrong. Nothing was submitted.",
    "SOME_FAILED": "The campaign has ended and some of its renders failed.",
    "AUTH": "No API key, or not a good one.",
    "TIMEOUT": "`--timeout` ran out. The campaign goes on.",
    "INTERRUPTED": "Ctrl-C. What was submitted goes on.",
}

ROUTES = {  # those whose name says it all, and whose code therefore says no more
    "show_source": "One source.",
    "list_checkpoints": "Every checkpoint.",
    "list_loras": "Every LoRA.",
    "show": "One campaign with its counts and its spec.",
    "render": "One render.",
    "renderers": "Every renderer and what it does.",
    "metrics_metrics_get": "Metrics of the API.",
}

ERRORS: Mapping[str, Mapping[str, str]] = {
    "Asking": {
        "no_key": "The request has no API key. Send `Authorization: Bearer farm_...`; `farm up` makes the first key.",
        "bad_key": "The key is unknown or was revoked. Look which farm it belongs to, or ask for a new one.",
        "unauthorised": "The key does not go. Ask for a new one.",
        "invalid": "The body or a parameter is not right. `errors` lists every fault with its JSON pointer.",
        "json_invalid": "The body is no JSON, or is nested too deeply. Check what your program sends.",
        "bad_request": "Something in the request is wrong. `detail` says what.",
        "refused": "It cannot be done, and asking again will not help. `detail` says why.",
        "not_found": "There is no such thing, or it belongs to another team. Check the id.",
        "method_not_allowed": "The route exists, and not for this method. See [routes](routes.md).",
        "too_large": "The body is larger than this route takes. `detail` names the limit.",
        "conflict": "It does not fit the state that the thing is in. Look at it again, then decide.",
        "bad_idempotency_key": "An Idempotency-Key is 1 to 255 visible ASCII characters without spaces.",
        "idempotency_key_reused": "This key came with another body before. Use a new key for a new campaign.",
        "submit_under_way": "Another request with this idempotency key is being worked on. Ask again in a second.",
        "internal": "A fault of ours. The log of `farm api` has more under the `request_id` of the reply.",
    },
    "Sources": {
        "source_empty": "The file is empty. Export it again.",
        "source_not_a_picture": "The file is no picture. JPEG, PNG and WebP are taken.",
        "source_unsupported_format": "A picture in another format. Convert it to JPEG, PNG or WebP.",
        "source_truncated": "The picture is cut off or damaged. Copy or export it again.",
        "source_too_many_pixels": "More than 50 megapixels. Scale it down: a render is far smaller.",
        "source_too_many_bytes": "The file is larger than 64 MiB. Scale it down, or save it as JPEG.",
        "source_animated": "The picture moves. Take one frame of it.",
        "source_too_narrow": "Too few pixels on a side, or too long and thin. Crop it, or use another one.",
    },
    "Weights and styles": {
        "empty_body": "No file came. Send it as the raw body, or name a key below `imports/` in the depot.",
        "bad_depot_key": "Weights are taken only from keys below `imports/`; a LoRA's ends in `.safetensors`.",
        "nothing_in_depot": "Nothing lies at this key in the depot. Upload it there first, or check the spelling.",
        "not_safetensors": "Not a sound .safetensors file. Other formats may run code when loaded: convert it.",
        "not_sdxl": "The checkpoint is not SDXL: parts of SDXL are missing or have other shapes. Use another.",
        "bad_checkpoint_files": "The folder or tar cannot be taken, `detail` says why. It needs `model_index.json`.",
        "no_shapes": "The checkpoint that the LoRA is checked against cannot be read in the depot. Add it again.",
        "lora_does_not_fit": "The LoRA changes weights that the checkpoint does not have, or of another shape. It was "
        "trained for another family: use one for SDXL, or name its checkpoint.",
        "name_taken": "The name stands for other weights already. Choose another name: what was rendered stays true.",
        "unknown_checkpoint": "No checkpoint of that name. `farm checkpoint list` shows those there are.",
        "unknown_lora": "No LoRA of that name. `farm lora list` shows those there are.",
        "lora_expired": "The licence of a LoRA in the style has ended. Renew it under a new name, or change the style.",
        "checkpoint_lacks_part": "The style wants a ControlNet or an IP-Adapter that its checkpoint does not hold. Add "
        "one that has it, or leave `control` or `reference` out.",
        "guidance_too_high": "The sampler `lcm` is made for a guidance of 1 to 2. Lower it.",
        "control_never_acts": "The control of the style ends before it starts. Give `end` more than `start`.",
        "palette_missing": "`delta_e` is the distance to the colours of a `palette`. Give one, or leave it out.",
        "delta_e_missing": "A `palette` says nothing by itself. Say with `delta_e` how far pictures may be from it.",
        "bad_template": "A brace in a prompt belongs to no `{name}`. Names have lower case letters, digits and `_`.",
        "size_not_multiple_of_8": "Width and height are multiples of 8. `detail` names the nearest size.",
        "strength_too_low": "So low that the picture would come back as it went in. `detail` names what would do.",
    },
    "Campaigns": {
        "unknown_source": "The picture was not uploaded. `farm source add` does, and `farm campaign submit` by itself.",
        "unknown_style": "No style of that name or version. `farm style list` shows those there are.",
        "unknown_variable": "A prompt asks for `{name}` and the source has no such variable. Give it one.",
        "unknown_render": "The render that a source is said to be made from is unknown. Leave `made_from` out.",
        "mask_other_aspect": "A mask lies over its source, so it has to have its aspect. Export it anew.",
        "control_other_aspect": "A control picture lies over its source, so it has to have its aspect.",
        "blend_other_aspect": "A blended picture lies over the source, so it has to have its aspect. Crop it.",
        "control_missing": "The style follows a depth or a pose, and the source has none. Give it a `control`.",
        "control_unused": "The source has a control picture that no style of its block follows. Leave it out.",
        "control_kinds_differ": "Styles of one block follow different kinds of control, and a source brings one. Make "
        "two blocks.",
        "reference_missing": "The style resembles reference pictures, and there are none. Give it or the source some.",
        "references_unused": "The source has reference pictures that no style of its block uses. Leave them out.",
        "rendition_too_large": "A rendition would be more than 4 times as large as the render. Ask for less.",
        "too_many_renders": "More renders than one campaign may have, or than the team may have waiting. Split it.",
        "too_many_looks": "More than 5,000 pairs of style and size in one campaign. Make several campaigns of them.",
        "proof_too_large": "One of each look would be more pictures than people look at. Say how many there shall be.",
        "too_many_for_lane": "The interactive lane takes at most 64 renders at a time. Leave `lane` out.",
        "too_many_to_compare": "A source has more than 20,000 pictures that differ. Look for those that look alike in "
        "smaller campaigns.",
        "deadline_past": "The deadline has passed already. Name a later one, or leave it out.",
        "unknown_parent": "The campaign that this one should replace is unknown. `farm campaign list` shows yours.",
        "campaign_state": "The campaign is in a state from which this does not go, such as resuming one that is done.",
        "campaign_ended": "The campaign has ended or is being cancelled: nothing in it can be changed or moved.",
        "no_proof": "Only a campaign with a proof is approved. This one is rendered without.",
        "budget_spent": "The campaign's budget is spent. Raise it with `farm campaign set`: it then goes on by itself.",
        "team_budget_spent": "The team's budget of this month (UTC) is spent. It goes on when the next month "
        "begins, or when an operator raises it with `farm team set --budget-money`.",
        "bad_move": "Say where it goes: either `to`, which is front or back, or `before`.",
        "other_lane": "Interactive campaigns go before all others. Within a lane the order can be changed.",
        "campaign_not_ended": "Only a campaign that has ended is retried. Wait for its end, or cancel it.",
        "nothing_failed": "Nothing failed in this campaign, so there is nothing to retry.",
        "budget_near": "A warning: the campaign's budget is spent up to `warn_at`. Raise it, or let it pause.",
        "team_budget_near": "A warning: the team comes near its budget of this month.",
        "deadline_at_risk": "A warning: even going first it would miss its deadline. The event says by how much, and "
        "what would help.",
        "no_picture": "The render has no picture: it has not been made yet, or it failed.",
        "render_not_finished": "The render has no picture that could be refined: it is not done yet, or it failed.",
        "picture_pruned": "The picture was deleted after the team's retention time. Submit its campaign again.",
    },
    "What an audit finds": {
        "count_differs": "P1: a campaign's shards count other outcomes than there are.",
        "render_lost": "P2: a render has no outcome and stands in no shard. Restore it from a backup, or retry.",
        "in_two_shards": "P2: a render stands in two open shards, so it may be rendered twice.",
        "shard_outside": "P2: a shard holds renders that the campaign does not have.",
        "ended_with_open": "P2: a campaign has ended and something of it is still to do.",
        "done_with_cancelled": "P2: a campaign is done and renders of it were cancelled.",
        "done_and_to_do": "P2: a render has an outcome and is still to do.",
        "outcome_outside": "P1: an outcome of a render that the campaign does not have.",
        "outcome_of_another_team": "P1: an outcome belongs to another team than its campaign.",
        "outcome_twice": "P1: a render was settled twice.",
        "outcome_changed": "P1: an outcome is not what was told when it was settled.",
        "settled_again": "P1: an outcome was told a second time.",
    },
    "Parts that do not answer": {
        "unavailable": "A part does not answer. Ask again; `farm doctor` says which.",
        "store_down": "PostgreSQL does not answer. Start it; clients repeat their calls meanwhile.",
        "depot_down": "The S3 store does not answer or its disk is full. Shards wait until it does.",
        "fleet_down": "Ray does not answer. Start it. A scheduler ends after `FARM_FLEET_PATIENCE` without it, and is "
        "to be started anew.",
        "disk_full": "The disk of the API has no room for the upload. Free some.",
        "not_ready": "`/readyz`: `errors` says which part does not answer and what to do.",
        "unreachable": "The client cannot reach the farm. `farm status` shows what runs on this machine.",
        "values_refused": "The database does not take a value. This is a mistake of the farm: please report it.",
        "leadership_lost": "Another scheduler leads now. Nothing was written; this one stands by. Nothing to do.",
        "lease_lost": "A lease ran out before it was renewed. The shard is given to another renderer. Nothing to do.",
        "store_behind": "The tables are of an earlier release than the process. Run `farm migrate --only expand`; the "
        "process waits for it as long as `FARM_SCHEMA_WAIT` says, then ends, to be started anew.",
        "upgrade_skips_release": "The tables are more than one release behind. Upgrade to each release in between, or "
        "end all processes and run `farm migrate` without `--only`.",
        "roles_refused": "The owner of the tables may not make or change login roles. Give it CREATEROLE, or set their "
        "passwords by hand and leave `--roles` out.",
        "embedded_part_failed": "A part of `farm up` did not start. The end of its log stands in the message.",
        "bad_window": "Off-peak hours are written as `22:00-06:00`, in UTC. Look at `FARM_OFF_PEAK`.",
        "bad_settings": "Settings in the environment are missing or wrong. The message names each: "
        "see [settings](settings.md).",
    },
    "Renders that failed: sources": {
        "source_link_missing": "A fault of ours: the order had no link to the source. Retry the campaign, report it.",
        "source_wrong_digest": "The source in the depot is not what was uploaded. Upload it again.",
        "source_unreadable": "The source could not be prepared. `detail` says why; replace the picture.",
    },
    "Renders that failed: weights": {
        "weights_missing": "Checkpoint or LoRA is gone from the farm. Add it again under its name, then retry.",
        "weights_fetch": "The weights could not be fetched. It is tried again; look at the depot if it goes on.",
        "weights_disk": "The renderer's cache cannot be written. Look at its disk and `FARM_ENGINE_CACHE_BYTES`.",
        "weights_wrong_digest": "The weights in the depot are not what was added. Add them again.",
        "weights_unsafe_file": "The checkpoint holds a file path that leads out of its folder. Add a sound one.",
        "checkpoint_layout": "The checkpoint's files are not those of a diffusers folder or of a single file.",
        "checkpoint_no_tokenizer": "A single-file checkpoint needs CLIP's vocabulary: set `FARM_ENGINE_TOKENIZER`.",
        "checkpoint_not_sdxl": "The checkpoint is made for another family. Use an SDXL checkpoint.",
        "checkpoint_unreadable": "The checkpoint could not be loaded. `detail` says why; add a sound one.",
        "checkpoint_other_noise": "The checkpoint was trained on another kind of noise. Use an SDXL one.",
        "part_unreadable": "A ControlNet or the IP-Adapter of the checkpoint could not be loaded. `detail` says why.",
        "part_does_not_fit": "A ControlNet or the IP-Adapter was made for another UNet. Use one for this checkpoint.",
        "lora_link_missing": "A fault of ours: the order had no link to the LoRA. Retry the campaign, report it.",
        "lora_empty": "The LoRA changes nothing. Use another file.",
        "lora_incomplete": "The LoRA lacks one half of a pair of matrices. Export it again.",
        "lora_not_finite": "The LoRA holds values that are not numbers. Its training went wrong; use another one.",
        "lora_unknown_keys": "The LoRA has weights in a form that is not known here. `detail` names some.",
        "lora_unreadable": "The LoRA could not be read. Export it again as .safetensors.",
        "lora_wrong_shape": "The LoRA is for another architecture. Use one for SDXL.",
        "lora_wrong_dtype": "The LoRA holds numbers of another kind than floating point. Export it again.",
        "lora_ambiguous": "The LoRA says twice how a weight changes. Use another file.",
        "lora_kind_unsupported": "DoRA, LoKr, LoHa and the like are not merged here. Use a plain LoRA.",
    },
    "Renders that failed: rendering": {
        "picture_not_finite": "The checkpoint gave pixels that are not numbers. Change the style or the checkpoint.",
        "picture_blank": "Each try gave one flat colour. Change the style or the checkpoint.",
        "out_of_vram": "The GPU has not enough memory for a pass. Lower `FARM_ENGINE_BATCH` or the size.",
        "engine_error": "The engine raised something. It is tried again; `detail` has its words.",
        "engine_failed": "The renderer gave no reason. Look at its log in Ray.",
        "report_unsound": "What the renderer reported cannot be. It is tried again elsewhere; look at its log.",
        "renderer_fault": "The renderer broke while it rendered this. It is tried again in a new process.",
        "renderer_died": "Renderer after renderer ended while it had this render. Look at their logs, then retry.",
    },
    "Renders that failed: the depot": {
        "depot_unreachable": "The depot did not answer, several times. It is tried again for about an hour.",
        "depot_bad_link": "The link in the order is no link. Look at `FARM_DEPOT_ENDPOINT`.",
        "depot_link_refused": "The depot refused a link: it ran out (`FARM_LINK_TTL`), the clocks differ, or the key "
        "was changed.",
        "depot_missing": "The object is not in the depot any more. Upload it again.",
        "depot_refused": "The depot refused, `detail` says with which status. Look at its log.",
        "publish_failed": "The picture could not be written. It is tried again; `detail` says why.",
        "renderer_memory": "The renderer's machine had no memory left for the picture. It is tried again elsewhere.",
        "rendition_link_missing": "A fault of ours: the order had no link for it. Retry the campaign, report it.",
    },
}


# What is in the code


def error_codes() -> set[str]:
    """Every stable code that the program may give: arguments, attributes and variables called ``code``."""
    trees = [ast.parse(path.read_text()) for part in ("farm", "actors") for path in sorted((ROOT / part).rglob("*.py"))]
    places = _places(trees)
    found = {text for tree in trees for node in ast.walk(tree) for text in _codes(node, places)}
    return {text for text in found if _CODE.fullmatch(text)} | {fault.value for fault in SourceFault}


def _places(trees: Iterable[ast.Module]) -> dict[str, set[int]]:
    """Functions with a parameter called ``code``, and where among the arguments of a call it stands."""
    found: dict[str, set[int]] = {"say": {1}}  # `farm.usecases.entries` calls `Faults.add` by this name
    for tree in trees:
        for owner in ast.walk(tree):
            if not isinstance(owner, ast.Module | ast.ClassDef):
                continue
            for function in owner.body:
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    names = [argument.arg for argument in function.args.args]
                    method = isinstance(owner, ast.ClassDef)
                    name = (
                        owner.name if isinstance(owner, ast.ClassDef) and function.name == "__init__" else function.name
                    )
                    if "code" in names:
                        found.setdefault(name, set()).add(names.index("code") - method)
    return found


def _codes(node: ast.AST, places: Mapping[str, set[int]]) -> Iterator[str]:
    match node:
        case ast.Call(func=function, args=args, keywords=keywords):
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            values = [word.value for word in keywords if word.arg == "code"]
            values += [args[index] for index in places.get(name, ()) if index < len(args)]
            yield from (text for value in values for text in _texts(value))
        case ast.Assign(targets=[ast.Name(id="code" | "CODE" | "_CODES")], value=value):
            yield from _texts(value)
        case ast.arguments(kwonlyargs=names, kw_defaults=defaults):
            for name, default in zip(names, defaults, strict=True):
                if name.arg == "code" and default is not None:
                    yield from _texts(default)


def _texts(node: ast.expr) -> Iterator[str]:
    """What an expression may come to, as far as it is text that stands there."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*_texts(body), *_texts(orelse))
        case ast.Dict(values=values):
            yield from (text for value in values for text in _texts(value))
        case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value="_other_aspect" as rest)]):
            yield from (f"{what}{rest}" for what in _LAID_OVER)
        case ast.Call(func=ast.Attribute(value=ast.Dict() as table, attr="get"), args=args):
            yield from (text for value in (table, *args[1:]) for text in _texts(value))


# The pages


def settings_page() -> str:
    lines = [
        "# Settings\n",
        (
            "Each process reads its settings once from its environment. Durations are written like `PT30S` (ISO 8601) "
            "or `00:00:30`. `farm up` sets all of them for the farm that it starts.\n"
        ),
        "## The commands\n",
        *_table(("variable", "what it is"), ((f"`{name}`", text) for name, text in COMMAND_LINE_SETTINGS.items())),
    ]
    for title, kind in SETTINGS.items():
        own = {name: field for name, field in kind.model_fields.items() if name in kind.__annotations__}
        rows = (
            (f"`FARM_{name.upper()}`", _default(field), _limits(field), field.description)
            for name, field in own.items()
        )
        lines += ["", f"## {title}\n", *_table(("variable", "default", "allowed", "what it is"), rows)]
    return _page(lines)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "must be set"
    if isinstance(field.default, timedelta):
        return f"`PT{field.default.total_seconds():g}S`"
    return "none" if field.default is None else f"`{field.default}`"


def _limits(field: FieldInfo) -> str:
    words = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "min_length": "{} characters or more"}
    found = [f"`{rule.pattern}`" for rule in field.metadata if getattr(rule, "pattern", None)]
    for rule in field.metadata:
        given = ((text, getattr(rule, name, None)) for name, text in words.items())
        found += [text.format(0 if limit == timedelta(0) else limit) for text, limit in given if limit is not None]
    return ", ".join(found)


def metrics_page() -> str:
    lines = ["# Metrics\n", "In the text format of Prometheus, at `/metrics`, without a key.\n"]
    for title, owner in (("`farm api`", ApiMetrics()), ("`farm scheduler`", SchedulerMetrics())):
        rows = map(_metric, metrics_of(owner))
        lines += ["", f"## {title}\n", *_table(("name", "kind", "labels", "what it is"), rows)]
    return _page(lines)


def metrics_of(owner: object) -> Iterator[MetricWrapperBase]:
    """Its own, and those of the groups that it has."""
    for value in vars(owner).values():
        if isinstance(value, MetricWrapperBase):
            yield value
        elif type(value).__module__.startswith("farm.telemetry") and value is not owner:
            yield from metrics_of(value)


def _metric(metric: MetricWrapperBase) -> Sequence[str]:
    about = next(iter(metric.describe()))
    labels = ", ".join(f"`{name}`" for name in metric._labelnames)  # noqa: SLF001 - nothing public tells them
    name = f"{about.name}_total" if about.type == "counter" else about.name
    return f"`{name}`", about.type, labels, about.documentation


def errors_page() -> str:
    lines = [
        "# Error codes\n",
        (
            "The API answers errors as `application/problem+json` (RFC 9457). `code` is stable, sentences may be "
            "reworded; `errors` lists every fault at once, each with a JSON pointer and a code of its own. A failed "
            "render has a `code` and a `detail` too, and so have the logs.\n"
        ),
        (
            "Faults in the form of a request (a missing key, a text that is too long) have the code of the validator, "
            "such as `missing`, `extra_forbidden` or `too_short`: they are listed in "
            "[pydantic's documentation](https://docs.pydantic.dev/latest/errors/validation_errors/). An HTTP error "
            "without a code of its own is `http_` and its status.\n"
        ),
    ]
    for title, codes in ERRORS.items():
        rows = ((f"`{code}`", sentence) for code, sentence in codes.items())
        lines += ["", f"## {title}\n", *_table(("code", "what it means, what to do"), rows)]
    return _page(lines)


def commands_page() -> str:
    codes = {name: value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    lines = [
        "# Commands\n",
        (
            "Answers go to stdout: tables on a terminal, bare values separated by tabs in a pipe, JSON with `--json`. "
            "Progress and sentences go to stderr.\n"
        ),
        "## Exit codes\n",
        *_table(("code", "meaning"), ((str(value), EXITS[name]) for name, value in codes.items())),
        "",
    ]
    for path, command in commands():
        lines += [f"## {path}\n", *_about(command), ""]
        if (rows := [_parameter(one) for one in command.params if one.name != "help"]) != []:
            lines += [*_table(("argument", "what it is"), rows), ""]
    return _page(lines[:-1])


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, the root first."""

    def below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", None)
        if children is None or path == "farm":
            yield path, command
        for name, child in (children or {}).items():
            yield from below(f"{path} {name}", child)

    yield from below("farm", typer.main.get_command(command_line))


def _about(command: Any) -> Iterator[str]:
    """The help text; what is indented in it is an example."""
    blocks = inspect.cleandoc(command.help or "").split("\n\n")
    examples = False
    for block in blocks:
        if block.startswith("    "):
            yield from (() if examples else ("```bash",))
            yield block.strip()
            examples = True
        else:
            yield " ".join(block.split()) + "\n"
    if examples:
        yield "```"


def _parameter(one: Any) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in one.opts)
    if one.param_type_name == "argument":
        shown = (one.metavar or one.name).upper().replace("OUT.PNG", "OUT.png")
        names = f"`{shown}`" + ("" if one.required else " (may be left out)")
    elif not one.is_flag:
        names += f" `{one.metavar or one.name.upper()}`"
    return names, one.help or ""


def routes_page() -> str:
    schema = _openapi()
    lines = [
        "# Routes\n",
        (
            "Every route below `/v1` wants `Authorization: Bearer` and a key. Lists come a page at a time: `limit` and "
            "`after` in, `data`, `has_more` and `next_cursor` out. The full description is at `/openapi.json`, to be "
            "read at `/docs`.\n"
        ),
    ]
    rows = (
        (f"`{method.upper()} {path}`", _words(about), ", ".join(_queries(about)))
        for path, methods in schema["paths"].items()
        for method, about in methods.items()
    )
    return _page([*lines, *_table(("route", "what it does", "parameters"), rows)])


def _openapi() -> dict[str, Any]:
    values = {"depot_endpoint": "-", "depot_access_key": "-", "depot_secret_key": "-", "api_database_url": "-"}
    app = create_app(ApiSettings.model_validate(values), MemoryStore(), MemoryDepot(), _NoClock())
    return app.openapi()


class _NoClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def random_bits(self) -> int:
        return 0


def _words(about: Mapping[str, Any]) -> str:
    return " ".join(str(about.get("description") or ROUTES[about["operationId"].partition("_v1_")[0]]).split())


def _queries(about: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"`{one['name']}`" for one in about.get("parameters", ()) if one["in"] != "path")


def _table(head: Sequence[str], rows: Iterable[Sequence[str | None]]) -> list[str]:
    body = [[(cell or "").replace("|", "\\|") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]


def _page(lines: Iterable[str]) -> str:
    text = _MADE + "\n" + "\n".join(lines).strip() + "\n"
    return re.sub(r"\n{3,}", "\n\n", text)


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "errors.md": errors_page,
    "commands.md": commands_page,
    "routes.md": routes_page,
    "states.md": diagrams.page,
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


if __name__ == "__main__":
    main()
