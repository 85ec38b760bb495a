"""The line that every benchmark ends with."""

import json
import os
import signal
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.bench._report import Report, arguments, hardware, medians, tidy, undisturbed, versions

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


def report(*, quick: bool = False, **figures: object) -> Report:
    return Report("queue", figures or {"renders_per_second": 1.5}, quick, {"cores": 2}, {"python": "3.11"}, NOON)


def test_the_line_says_what_was_measured_where_with_what_and_when() -> None:
    assert json.loads(report().line()) == {
        "name": "queue",
        "date": "2026-03-04T12:00:00+00:00",
        "quick": False,
        "figures": {"renders_per_second": 1.5},
        "hardware": {"cores": 2},
        "versions": {"python": "3.11"},
    }


def test_the_line_is_one_line_whatever_a_figure_holds() -> None:
    assert "\n" not in report(note="two\nlines").line()


def test_a_figure_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        report(ratio=float("nan")).line()


def test_runs_are_appended_and_none_is_overwritten(tmp_path: Path) -> None:
    results = tmp_path / "results"
    report(ratio=1).finish(keep=False, results=results)
    report(ratio=2).finish(keep=False, results=results)
    lines = (results / "queue.jsonl").read_text().splitlines()
    assert [json.loads(line)["figures"] for line in lines] == [{"ratio": 1}, {"ratio": 2}]


def test_a_quick_run_is_kept_only_when_asked_for(tmp_path: Path) -> None:
    report(quick=True).finish(keep=False, results=tmp_path)
    assert not (tmp_path / "queue.jsonl").exists()
    report(quick=True).finish(keep=True, results=tmp_path)
    assert json.loads((tmp_path / "queue.jsonl").read_text())["quick"] is True


def test_the_line_is_the_last_thing_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print("a table")
    report().finish(keep=False, results=tmp_path)
    assert capsys.readouterr().out == f"a table\n{report().line()}\n"


def test_every_benchmark_takes_quick_and_keep() -> None:
    assert vars(arguments("what it measures").parse_args(["--quick"])) == {"quick": True, "keep": False}


def test_hardware_and_versions_fit_into_the_line() -> None:
    found = versions("pydantic", "no-such-distribution")
    assert found["no-such-distribution"] == "not installed"
    assert found.keys() == {"python", "commit", "pydantic", "no-such-distribution"}
    told = json.loads(Report("queue", {}, False, hardware(), found, NOON).line())["hardware"]
    assert told["cores"] >= 1
    assert told["memory_bytes"] > 0


def test_medians_are_taken_key_by_key() -> None:
    runs = [{"a": 1.0, "b": 9.0}, {"a": 5.0, "b": 7.0}, {"a": 3.0, "b": 8.0}]
    assert medians(runs) == {"a": 3.0, "b": 8.0}


def test_sigterm_ends_a_benchmark_through_its_cleanup() -> None:
    cleaned: list[str] = []
    with pytest.raises(SystemExit):
        end_by_sigterm(cleaned)
    assert cleaned == ["ended"]


def end_by_sigterm(cleaned: list[str]) -> None:
    with tidy(), ExitStack() as started:
        started.callback(cleaned.append, "ended")
        os.kill(os.getpid(), signal.SIGTERM)


def test_cleanup_is_not_cut_short_by_another_ctrl_c() -> None:
    with undisturbed():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
