"""Proofs, quotes, changes and the queue, as the commands offer them."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from farm.cli import watching
from farm.cli.contact_sheet import _sources
from farm.cli.editing import edited
from farm.cli.main import app
from farm.cli.submitting import quote_and_send
from farm.cli.watch import watch
from farm.core.ids import CampaignId, read
from schemas.campaign import CampaignState, PausedBy
from schemas.style import StyleSpec
from tests.unit.api.scheduling import Scheduler
from tests.unit.api.serving import Farm
from tests.unit.api.world import picture

FILE = "name: Autumn\nsources: [cup.png, lamp.png]\nstyles: [anime, noir]\nstrengths: [0.3, 0.6]\nvariants: 3\n"


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert "Traceback" not in result.output
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(stocked: Farm, tmp_path: Path) -> Path:
    for number, name in enumerate(("cup.png", "lamp.png")):
        (tmp_path / name).write_bytes(picture(number))
    (tmp_path / "autumn.yaml").write_text(FILE)
    return tmp_path


@pytest.fixture
def scheduler(stocked: Farm, folder: Path) -> Scheduler:
    found = Scheduler(stocked.world.store)
    found.shows()
    return found


def submitted(*more: str) -> str:
    return run("campaign", "submit", "autumn.yaml", *more).stdout.strip()


def shown(campaign: str) -> dict[str, Any]:
    return dict(json.loads(run("campaign", "show", campaign, "--json").stdout))


# quotes


def test_a_quote_says_renders_time_money_and_finish(stocked: Farm, folder: Path, scheduler: Scheduler) -> None:
    stocked.world.store.set_price("*", 36.0)
    facts = dict(line.split("\t") for line in run("campaign", "quote", "autumn.yaml").stdout.splitlines())
    assert facts["renders"] == "24 renders"
    assert facts["money"].split()[1] == "EUR"
    assert facts["finished"].startswith("done at ")
    assert "guess" in facts["rests on"]
    assert list(stocked.client.campaigns()) == []
    found = json.loads(run("campaign", "quote", "cup.png", "--style", "noir", "--json").stdout)
    assert found["renders"] == 1


def test_a_quote_says_what_a_budget_would_break(folder: Path, stocked: Farm, scheduler: Scheduler) -> None:
    stocked.world.store.set_price("*", 36.0)
    assert "budget" in run("campaign", "quote", "autumn.yaml", "--budget", "0.01").stderr


def test_what_is_wrong_is_said_when_it_is_quoted(folder: Path) -> None:
    assert "There is no style nothing" in run("campaign", "quote", "cup.png", "--style", "nothing", code=2).stderr
    (folder / "autumn.yaml").write_text(FILE + "strengths: [0]\n")
    assert "[strength_too_low]" in run("campaign", "quote", "autumn.yaml", code=2).stderr


def test_submitting_says_the_quote_first(folder: Path, scheduler: Scheduler) -> None:
    first, second, last = run("campaign", "submit", "autumn.yaml").stderr.splitlines()
    assert first.startswith("Quote: 24 renders, ")
    assert second.startswith("Note: ")
    assert "guess" in second
    assert last.startswith("Submitted cmp_")


def test_a_repeated_key_is_a_replay_even_when_it_could_not_be_submitted_anew(folder: Path, stocked: Farm) -> None:
    first = submitted("--idempotency-key", "k")
    stocked.world.store.state.styles.rows.clear()
    spec = stocked.client.campaign(first).spec
    assert quote_and_send(stocked.client, spec, "k").id == first


def test_after_the_end_quote_and_truth_stand_side_by_side(folder: Path, stocked: Farm, scheduler: Scheduler) -> None:
    stocked.world.store.set_price("*", 36.0)
    campaign = submitted("--budget", "20")
    running = run("campaign", "show", campaign).stdout
    assert "quoted\t24 renders, " in running
    assert "budget\t20.00 EUR" in running
    scheduler.render(campaign, seconds=5.0, price=36.0)
    facts = dict(line.split("\t") for line in run("campaign", "show", campaign).stdout.splitlines())
    assert facts["GPU time"].startswith("2 min; quoted ")
    assert facts["money"].startswith("1.20 EUR; quoted ")
    assert facts["rendered"] == "24; quoted 24"
    assert "; quoted " in facts["time"]


# what a file and the options say


def test_wishes_may_stand_in_the_file_and_options_go_before_them(folder: Path, stocked: Farm) -> None:
    (folder / "autumn.yaml").write_text(
        FILE + "deadline: in 3h\nbudget: 25\nproof: 4\npriority: 70\noff_peak: true\ngpu: H100\n"
    )
    spec = stocked.client.campaign(submitted()).spec
    assert spec.deadline is not None
    assert spec.budget is not None
    assert spec.proof is not None
    assert (spec.budget.money, spec.proof.renders, spec.priority, spec.off_peak, spec.gpu) == (25, 4, 70, True, "H100")
    other = stocked.client.campaign(submitted("--budget", "5.5", "--priority", "10", "--proof")).spec
    assert other.budget is not None
    assert other.proof is not None
    assert (other.budget.money, other.priority, other.proof.renders, other.gpu) == (5.5, 10, None, "H100")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deadline: tomorrow", "'tomorrow' is no moment"),
        ("budget: -3", "budget money: "),
        ("proof: 0", "proof renders: 0 is too small"),
        ("proof: many", "proof: "),
        ("budget: {mony: 3}", "did you mean `money`?"),
        ("lane: fast", "lane: "),
    ],
)
def test_a_wish_that_is_wrong_is_said_before_anything_is_uploaded(
    folder: Path, stocked: Farm, text: str, said: str
) -> None:
    (folder / "autumn.yaml").write_text(FILE + text + "\n")
    result = run("campaign", "submit", "autumn.yaml", code=2)
    assert said in result.stderr
    assert list(stocked.client.sources()) == []


def test_a_deadline_that_has_passed_is_refused(folder: Path) -> None:
    result = run("campaign", "submit", "autumn.yaml", "--deadline", "2020-01-01 09:00", code=2)
    assert "The deadline 2020-01-01" in result.stderr
    assert run("campaign", "submit", "autumn.yaml", "--deadline", "soon", code=2).stdout == ""


# proofs


def test_a_proof_waits_for_a_yes_and_says_how_to_look_at_it(folder: Path, stocked: Farm, scheduler: Scheduler) -> None:
    campaign = submitted("--proof")
    scheduler.render(campaign)
    seen = run("campaign", "watch", campaign)
    assert "state\tawaiting_approval" in seen.stdout
    for words in ("4 renders to look at; 20 more wait", f"farm campaign approve {campaign}", "farm campaign sheet"):
        assert words in seen.stderr
        assert words in run("campaign", "show", campaign).stderr
    assert f"{campaign}\tAutumn\tactive" in run("campaign", "approve", campaign).stdout
    scheduler.render(campaign)
    assert "state\tdone" in run("campaign", "approve", campaign, "--watch").stdout


def test_submit_and_watch_ends_when_the_proof_waits(
    folder: Path, stocked: Farm, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rendering(_: float) -> None:
        scheduler.render(next(stocked.client.campaigns()).id)

    monkeypatch.setattr(watching, "watch_campaign", partial(watch, pause=rendering))
    result = run("campaign", "submit", "autumn.yaml", "--proof-renders", "6", "--watch", "--timeout", "30")
    assert "state\tawaiting_approval" in result.stdout
    assert "The proof is ready: 6 renders" in result.stderr


def test_the_sheet_of_a_proof_shows_the_sources_that_were_rendered(
    folder: Path, stocked: Farm, scheduler: Scheduler
) -> None:
    for number in range(2, 40):
        (folder / f"{number}.png").write_bytes(picture(number))
    files = [str(path) for path in sorted(folder.glob("*.png"))]
    campaign = run("campaign", "submit", *files, "--style", "noir", "--proof-renders", "3").stdout.strip()
    scheduler.render(campaign)
    assert len(_sources(stocked.client, stocked.client.campaign(campaign))) == 3
    run("campaign", "sheet", campaign, "proof.png")
    assert (folder / "proof.png").stat().st_size > 0


# editing


def test_an_edit_is_a_child_that_takes_over_what_stayed(folder: Path, stocked: Farm, scheduler: Scheduler) -> None:
    parent = submitted("--proof", "--priority", "70")
    scheduler.render(parent)
    # noir has moved on meanwhile: the child keeps the version that the parent had.
    stocked.client.save_style(StyleSpec(name="noir", prompt="new", steps=10, size="64x64"))
    stocked.client.save_style(StyleSpec(name="oil", prompt="oil, {prompt}", steps=10, size="64x64"))
    result = run("campaign", "edit", parent, "--style", "anime=oil")
    child = stocked.client.campaign(result.stdout.strip())
    assert child.spec.blocks[0].styles == ("oil", "noir@1")
    assert (child.parent, child.priority, child.state) == (parent, 70, CampaignState.PROOFING)
    assert "2 of them rendered before" in result.stderr, "the two noir looks of the proof"
    assert stocked.client.campaign(parent).state is CampaignState.CANCELLING


def test_an_edit_may_change_strengths_and_leave_the_proof(folder: Path, stocked: Farm) -> None:
    parent = submitted("--proof")
    words = ("campaign", "edit", parent, "--strength", "0.5", "--no-proof", "--json")
    child = stocked.client.campaign(json.loads(run(*words).stdout)["id"])
    assert (child.spec.blocks[0].strengths, child.state) == ((0.5,), CampaignState.ACTIVE)
    other = run("campaign", "edit", child.id, "--style", "anime=anime", "--proof").stdout.strip()
    assert stocked.client.campaign(other).spec.blocks[0].styles == ("anime", "noir@1")
    assert stocked.client.campaign(other).state is CampaignState.PROOFING


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say what changes"),
        (("--style", "anime"), "write --style old=new"),
        (("--style", "oil=noir"), "does not use the style oil; it uses anime, noir"),
        (("--style", "anime=noir@1"), "the same value stands there twice"),
        (("--style", "anime=nothing"), "There is no style nothing"),
    ],
)
def test_an_edit_that_changes_nothing_sound_is_refused(
    folder: Path, stocked: Farm, words: tuple[str, ...], said: str
) -> None:
    parent = submitted()
    assert said in run("campaign", "edit", parent, *words, code=2).stderr
    assert [campaign.id for campaign in stocked.client.campaigns()] == [parent]


def test_an_edit_leaves_a_deadline_behind_that_has_passed(
    folder: Path, stocked: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = submitted("--deadline", "in 2 days")
    found = stocked.client.campaign(parent).model_copy(update={"deadline": "2020-01-01T00:00:00+00:00"})
    assert (
        edited(stocked.client, found, styles=["noir=anime@1", "anime=noir"], strengths=[], proof=None).deadline is None
    )


# changing and moving


def test_set_changes_what_is_named_and_keeps_the_rest(folder: Path, stocked: Farm) -> None:
    (folder / "autumn.yaml").write_text(FILE + "budget: {gpu_seconds: 60, money: 5, warn_at: 0.5}\n")
    campaign = submitted()
    assert "priority\t" not in run("campaign", "set", campaign, "--priority", "80").stdout
    found = json.loads(run("campaign", "set", campaign, "--budget", "25.00", "--json").stdout)
    assert (found["priority"], found["budget"]) == (80, {"gpu_seconds": 60.0, "money": 25.0, "warn_at": 0.5})
    run("campaign", "set", campaign, "--deadline", "in 2 days", "--budget", "none")
    found = shown(campaign)
    assert found["deadline"] is not None
    assert found["budget"]["money"] is None
    assert found["budget"]["gpu_seconds"] is None
    assert "Say what changes" in run("campaign", "set", campaign, code=2).stderr
    assert "no budget" in run("campaign", "set", campaign, "--budget", "lots", code=2).stderr


def test_campaigns_are_moved_and_the_queue_is_shown(folder: Path) -> None:
    first, second = submitted(), submitted("--priority", "50")

    def order(result: Result) -> list[str]:
        return [line.split("\t")[0] for line in result.stdout.splitlines()]

    assert order(run("campaign", "queue")) == [first, second]
    assert order(run("campaign", "move", second, "--front")) == [second, first]
    assert order(run("campaign", "move", second, "--back")) == [first, second]
    assert order(run("campaign", "move", second, "--before", first)) == [second, first]
    assert run("campaign", "move", second, code=2).stderr.startswith("Say one of")
    assert run("campaign", "move", second, "--front", "--back", code=2).stdout == ""


def test_why_is_one_sentence(folder: Path, scheduler: Scheduler) -> None:
    campaign = submitted()
    run("campaign", "pause", campaign)
    result = run("campaign", "why", campaign)
    assert len(result.stdout.splitlines()) == 1
    assert "paused" in result.stdout
    assert json.loads(run("campaign", "why", campaign, "--json").stdout)["code"] == "paused"


def test_a_budget_that_paused_it_is_named_and_so_are_warnings(
    folder: Path, stocked: Farm, scheduler: Scheduler
) -> None:
    campaign = submitted()
    with scheduler.tx() as tx:
        tx.warn(CampaignId(read("cmp", campaign)), "deadline_at_risk", "An hour late. It needs a later one.", {})
        tx.pause(CampaignId(read("cmp", campaign)), PausedBy.BUDGET, "All of it is spent.")
    facts = run("campaign", "show", campaign).stdout
    assert "state\tpaused, its budget is spent" in facts
    assert "warning\tAn hour late. It needs a later one." in facts
    watched = run("campaign", "watch", campaign, "--timeout", "0", code=5)
    assert "warning: its deadline will probably be missed" in watched.stderr
    assert watched.stderr.count("Warning: An hour late. It needs a later one.\n") == 1
    because = run("campaign", "why", campaign).stdout.splitlines()
    assert because[1:] == ["Warning: An hour late. It needs a later one."]
    assert "farm campaign set" in run("campaign", "resume", campaign, code=1).stderr


def test_the_team_of_the_key_is_shown(folder: Path, scheduler: Scheduler) -> None:
    scheduler.render(submitted(), seconds=5.0, price=36.0)
    facts = dict(line.split("\t") for line in run("team", "show").stdout.splitlines())
    assert (facts["name"], facts["quota"], facts["GPU time this month"]) == ("team 1", "none", "2 min")
    assert json.loads(run("team", "show", "--json").stdout)["spent"]["money"] == pytest.approx(1.2)
