"""From statutes to a run: corpus, derived questions, rows of both forms, training through `accelerate launch`, a report."""

import json
from collections import Counter

import pytest
from conftest import CPU, ROOT, first_rows, rows_file, run_lawft, run_sft, sft_here

from lawft_trl.data.prompts import PARTLY_SUPPORTED, UNSUPPORTED
from lawft_trl.data.rows import read_rows
from lawft_trl.reasons.verify import parse_reasons


@pytest.fixture(scope="module")
def derived(sample_data, tmp_path_factory):
    """Questions derived from the sample's statutes, without the articles of its test split."""
    out = tmp_path_factory.mktemp("derived") / "derived"
    test = rows_file(sample_data, "test")
    mix = "retrieved=0.6,gold_inserted=0.2,distractors=0.2"
    run_lawft("data", "derive", "--statutes", sample_data / "statutes", "--exclude", test, "--limit", "160", "--mix", mix, "--out", out, check=True)
    return out


def few_rows(sample_data, derived, folder, trained: list[str], tested: str) -> list[str]:
    """Overrides: forty derived rows of each form to train, eight to watch, twelve of the sample's to ask."""
    train = ",".join(str(first_rows(rows_file(derived, "train", pattern), 40, folder / "few")) for pattern in trained)
    dev, test = first_rows(rows_file(derived, "dev", trained[0]), 8, folder / "few"), first_rows(rows_file(sample_data, "test", tested), 12, folder / "few")
    return [f"data.train=[{train}]", f"data.dev={dev}", f"data.test={test}"]


def test_both_forms_are_trained_and_reported(sample_data, derived, tmp_path):
    data = few_rows(sample_data, derived, tmp_path, ["direct_rag", "cot_rag"], "direct_rag")
    run_sft(ROOT / "recipes" / "mixed_rag.yaml", *data, "--rehearse", launcher=CPU, cwd=tmp_path, check=True)
    run = tmp_path / "runs" / "rehearsal" / "mixed_rag"
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["steps"] == 10
    assert [len(record["identity"]["data"][role]) for role in ("train", "dev", "test")] == [2, 1, 1]
    report = next(run.glob("eval/test_*/report.md")).read_text(encoding="utf-8")
    assert "REHEARSAL" in report and "Only the first 8 of 12 held-out questions were asked." in report


@pytest.mark.parametrize(
    ("recipe", "trained", "tested"),
    [
        pytest.param("cot_norag", ["cot_norag"], "cot_norag", marks=pytest.mark.slow),
        ("cot_rag", ["cot_rag"], "cot_rag"),
        pytest.param("mixed_norag", ["direct_norag", "cot_norag"], "direct_norag", marks=pytest.mark.slow),
        pytest.param("direct_rag", ["direct_rag"], "direct_rag", marks=pytest.mark.slow),
    ],
)
def test_every_pattern_is_rehearsed(sample_data, derived, tmp_path, recipe, trained, tested):
    data = few_rows(sample_data, derived, tmp_path, trained, tested)
    sft_here(ROOT / "recipes" / f"{recipe}.yaml", *data, "--rehearse", cwd=tmp_path, check=True)
    run = tmp_path / "runs" / "rehearsal" / recipe
    assert (run / "adapter_model.safetensors").is_file()
    (evaluated,) = run.glob("eval/test_*/metrics.json")
    assert json.loads(evaluated.read_text(encoding="utf-8"))["scorer"] == ("generate" if recipe.startswith("cot") else "letters")


def test_reasoned_answers_parse_and_say_what_is_shown(derived):
    rows = read_rows(rows_file(derived, "train", "cot_rag"))
    assert Counter(row.gold for row in rows) == dict.fromkeys("abcd", len(rows) // 4)
    kinds = Counter(row.meta["context"] for row in rows)
    assert all(abs(kinds[kind] / len(rows) - share) < 0.02 for kind, share in (("retrieved", 0.6), ("gold_inserted", 0.2), ("distractors", 0.2)))
    for row in rows:
        reasons, letter = parse_reasons(row.output)
        assert letter == row.gold and set(reasons) == set("abcd"), row.source
        first = row.output.split("\n")[0]
        missing, provisions = row.meta["gold_missing"], row.meta["provisions"]
        assert (first == UNSUPPORTED) == (len(missing) == len(provisions)), row.source
        assert (first == PARTLY_SUPPORTED) == (0 < len(missing) < len(provisions)), row.source
        assert (row.meta["context"] == "distractors") <= (not row.meta["gold_shown"])


def test_what_is_excluded_is_neither_asked_nor_shown(sample_data, derived):
    touched = {key for row in read_rows(rows_file(sample_data, "test")) for key in row.meta["provisions"]}
    for pattern in ("direct_norag", "direct_rag", "cot_rag", "direct_gold"):
        for row in read_rows(rows_file(derived, "train", pattern)):
            assert not touched & set(row.meta["provisions"])
            assert not touched & {passage["article"] for passage in row.meta.get("passages", ())}
