"""What was learned from running out of memory is remembered, per type of GPU and size."""

from pathlib import Path

import pytest

from actors.engine.vram import Limits

SIZE = "1024x1024"


def test_a_bucket_is_what_was_asked_for_until_memory_ran_out(tmp_path: Path) -> None:
    limits = Limits(tmp_path / "limits.json", "H100")
    assert limits.bucket(SIZE, 8) == 8
    assert limits.halve(SIZE, 8) == 4
    assert limits.bucket(SIZE, 8) == 4
    assert limits.bucket(SIZE, 2) == 2


def test_another_process_remembers_it(tmp_path: Path) -> None:
    Limits(tmp_path / "limits.json", "H100").halve(SIZE, 8)
    assert Limits(tmp_path / "limits.json", "H100").bucket(SIZE, 8) == 4


def test_other_sizes_and_other_gpus_are_not_concerned(tmp_path: Path) -> None:
    limits = Limits(tmp_path / "limits.json", "H100")
    limits.halve(SIZE, 8)
    assert limits.bucket("512x512", 8) == 8
    assert Limits(tmp_path / "limits.json", "A100").bucket(SIZE, 8) == 8


def test_two_renderers_keep_each_others_findings(tmp_path: Path) -> None:
    one, other = Limits(tmp_path / "limits.json", "H100"), Limits(tmp_path / "limits.json", "H100")
    one.halve("512x512", 8)
    other.halve(SIZE, 4)
    both = Limits(tmp_path / "limits.json", "H100")
    assert (both.bucket("512x512", 8), both.bucket(SIZE, 8)) == (4, 2)


def test_the_smaller_of_two_findings_holds(tmp_path: Path) -> None:
    one, other = Limits(tmp_path / "limits.json", "H100"), Limits(tmp_path / "limits.json", "H100")
    assert one.halve(SIZE, 4) == 2
    assert other.halve(SIZE, 8) == 2


def test_a_bucket_of_one_stays_one(tmp_path: Path) -> None:
    assert Limits(tmp_path / "limits.json", "H100").halve(SIZE, 1) == 1


@pytest.mark.parametrize("content", ["", "[]", '{"H100 1024x1024": "many"}', "\xff"])
def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "limits.json"
    path.write_bytes(content.encode("latin-1"))
    limits = Limits(path, "H100")
    assert limits.bucket(SIZE, 8) == 8
    limits.halve(SIZE, 8)
    assert Limits(path, "H100").bucket(SIZE, 8) == 4


def test_where_nothing_can_be_written_it_is_remembered_for_this_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    limits = Limits(tmp_path / "file" / "limits.json", "H100")
    limits.halve(SIZE, 8)
    assert limits.bucket(SIZE, 8) == 4


def test_nothing_unfinished_is_left_behind(tmp_path: Path) -> None:
    Limits(tmp_path / "limits.json", "H100").halve(SIZE, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["limits.json"]
