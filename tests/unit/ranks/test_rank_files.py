"""Which files are a job's, and which rank each is."""

import pytest

from diagnose.errors import UsageError
from diagnose.ranks.files import found_files, is_many, rank_of_name


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("rank0.json.gz", 0), ("trace_rank_12.json", 12), ("b200_tp8_rank3.json.gz", 3), ("r7.json.gz", 7),
        ("worker-r10.pt.trace.json", 10), ("trace[5].json", 5), ("rank-2.json", 2), ("Rank4.json", 4),
        ("rank1/run_rank6.json", 6), ("rank3.1.json.gz", 3), ("v100_resnet.json", None), ("iter300.json", None),
        ("trace.1712195495519.json", None), ("r2d2.json", None),
    ],
)  # fmt: skip
def test_a_name_tells_its_rank(name, rank):
    assert rank_of_name(name) == rank


def test_patterns_and_folders_give_each_file_once_in_order_of_rank(tmp_path):
    for name in ("rank10.json.gz", "rank2.json.gz", "rank2.1.json.gz", "notes.txt"):
        (tmp_path / name).touch()
    names = ["rank2.json.gz", "rank2.1.json.gz", "rank10.json.gz"]
    for sources in (tmp_path, [tmp_path, str(tmp_path / "*.json.gz")], str(tmp_path / "rank*")):
        assert [path.rpartition("/")[2] for path in found_files(sources)] == names


def test_a_file_with_brackets_in_its_name_is_no_pattern(tmp_path):
    path = tmp_path / "trace[0].json"
    path.touch()
    assert found_files(path) == [str(path)]
    assert not is_many([str(path)])


@pytest.mark.parametrize("source", ["nothing_*.json", "."])
def test_nothing_found_is_said(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no file fits|no \.json"):
        found_files(source)


def test_many_are_several_a_pattern_or_a_folder(tmp_path):
    assert is_many(["a.json", "b.json"])
    assert is_many(["out/*.json"])
    assert is_many([str(tmp_path)])
    assert not is_many(["a.json"])
    assert not is_many(["s3://bucket/a*.json"])
