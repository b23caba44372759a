"""Recorded runs."""

import json

import pytest

from seglab import checks, records, runtime


@pytest.fixture
def record(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    monkeypatch.setenv("SEGLAB_RECORD", str(path))
    monkeypatch.setenv("SEGLAB_PROFILE", "cpu")
    return path


def test_record_says_what_the_result_depends_on(record):
    records.begin(runtime.start(7))
    found = json.loads(record.read_text())
    assert found["seed"] == 7
    assert found["profile"] == "cpu"
    assert found["date"] == runtime.today()
    assert 0 <= found["seconds"] < 60
    assert found["versions"]["torch"] == runtime.versions()["torch"]


def test_claims_and_values_are_kept_in_order_whether_they_hold_or_not(record):
    records.begin(runtime.start(0))
    checks.claim("two beats one", 2, ">", 1)
    records.note(mean_iou={"fcn8s": 0.5})
    with pytest.warns(UserWarning, match="does not hold"):
        checks.claim("one beats two", 1, ">", 2)
    found = json.loads(record.read_text())
    assert [c["holds"] for c in found["claims"]] == [True, False]
    assert found["mean_iou"] == {"fcn8s": 0.5}


def test_a_new_run_starts_the_record_anew(record):
    records.begin(runtime.start(0))
    records.note(mean_iou=0.5)
    records.begin(runtime.start(1))
    assert "mean_iou" not in json.loads(record.read_text())


def test_nothing_is_written_without_a_record(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGLAB_RECORD", raising=False)
    monkeypatch.chdir(tmp_path)
    records.note(mean_iou=0.5)
    assert not list(tmp_path.iterdir())


def test_missing_record_lists_those_that_exist(tmp_path, monkeypatch):
    (tmp_path / "known.json").write_text("{}")
    monkeypatch.setattr(records, "FOLDERS", (tmp_path,))
    with pytest.raises(FileNotFoundError, match="known"):
        records.load("unknown")
