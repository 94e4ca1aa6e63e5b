"""Near-duplicates: the exact index against counting, MinHash against the exact index, and `lawft data overlap`."""

import argparse
import json
import random

import numpy as np
import pytest
from conftest import SAMPLE
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.commands import overlap
from lawft_trl.data import near_duplicates
from lawft_trl.data.near_duplicates import ExactIndex, MinHashIndex, is_near, ngrams, plain, text_index
from lawft_trl.data.quality import find_overlaps
from lawft_trl.data.questions import read_questions
from lawft_trl.data.rows import Row
from lawft_trl.errors import InputError

WORDS = "届出許可登録期間十日二十日三十日以内内閣総理大臣都道府県知事株式会社取締役株主総会又は及び若しくは"


def row(text: str, *, choices: tuple[str, ...] | None = None, **meta) -> Row:
    if choices:
        meta |= {"question": text, "choices": dict(zip("abcd", choices, strict=True))}
    return Row(prompt=({"role": "user", "content": "\n".join([text, *(choices or ())])},), output="a", meta=meta, source=f"x.jsonl:{abs(hash(text))}")


@given(st.lists(st.text(max_size=30), max_size=4))
def test_ngrams_are_those_of_counting(texts):
    texts = [plain(text) for text in texts]
    grams = {text[start : start + 5] for text in texts if text for start in range(max(1, len(text) - 4))}
    assert len(ngrams(texts)) == len(grams)


@given(st.lists(st.tuples(st.text("あいう", max_size=40), st.booleans()), min_size=1, max_size=12))
def test_the_exact_index_finds_what_comparing_all_finds(texts):
    sets, kinds = [ngrams([text]) for text, _ in texts], [kind for _, kind in texts]
    index = ExactIndex(sets, kinds)
    for grams, kind in zip(sets, kinds, strict=True):
        expected = [at for at, other in enumerate(sets) if is_near(grams, kind, other, kinds[at])]
        assert list(index.similar(grams, kind)) == expected


def test_nine_tenths_of_the_grams_is_the_limit():
    ten, one_more = np.arange(9, dtype=np.uint64), np.arange(10, dtype=np.uint64)
    assert is_near(ten, True, one_more, True)
    assert not is_near(ten[:8], True, one_more, True)
    assert is_near(one_more, True, np.arange(1, 100, dtype=np.uint64), False), "nine of the question's ten grams are in the prompt"
    assert not is_near(one_more, False, np.arange(1, 100, dtype=np.uint64), False)


def perturbed(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts, and each again with up to a twentieth of its characters replaced."""
    rng = random.Random(seed)
    texts = ["".join(rng.choices(WORDS, k=rng.randint(60, 300))) for _ in range(count)]
    changed = []
    for text in texts:
        letters = list(text)
        for at in rng.sample(range(len(letters)), rng.randint(0, len(letters) // 20)):
            letters[at] = rng.choice(WORDS)
        changed.append("".join(letters))
    return texts, changed


def test_minhash_finds_what_the_exact_index_finds():
    texts, changed = perturbed(1000)
    sets = [ngrams([text]) for text in texts]
    exact, minhash = ExactIndex(sets, [True] * len(sets)), MinHashIndex(sets)
    found = [(list(exact.similar(grams, True)), list(minhash.similar(grams, True))) for grams in (ngrams([text]) for text in changed)]
    pairs = sum(len(all_of_them) for all_of_them, _ in found)
    assert 200 < pairs < 1000, "the perturbations straddle the limit"
    assert all(set(proposed) <= set(all_of_them) for all_of_them, proposed in found), "MinHash proposes, Jaccard decides"
    assert sum(len(proposed) for _, proposed in found) >= 0.99 * pairs


def test_very_many_texts_of_one_kind_go_through_minhash(monkeypatch):
    monkeypatch.setattr(near_duplicates, "LARGE", 3)
    sets = [ngrams([text]) for text in perturbed(5)[0]]
    assert isinstance(text_index(sets, [True] * 5, [True]), MinHashIndex)
    assert isinstance(text_index(sets, [True] * 5, [False]), ExactIndex), "a question in a prompt is no Jaccard index"
    assert isinstance(text_index(sets[:3], [True] * 3, [True]), ExactIndex)
    held_out = [row(f"第{number}問　{text}", choices=("甲", "乙", "丙", "丁")) for number, text in enumerate(perturbed(5)[0])]
    again = row(held_out[2].meta["question"] + "か。", choices=("丁", "甲", "丙", "乙"))
    assert [found.test for found in find_overlaps([again, row("別の問い", choices=("一", "二", "三", "四"))], held_out)] == [held_out[2]]


def run(a, b) -> None:
    parser = argparse.ArgumentParser()
    overlap.add(parser.add_subparsers())
    options = parser.parse_args(["overlap", str(a), str(b)])
    options.run(options)


def write(path, questions):
    path.write_text("".join(json.dumps({**vars(item), "group": ""}, ensure_ascii=False) + "\n" for item in questions), encoding="utf-8")
    return path


def test_overlap_says_none_or_ends_with_2(tmp_path, capsys):
    questions = read_questions(SAMPLE)[:60]
    first, second = write(tmp_path / "a.jsonl", questions[:20]), write(tmp_path / "b.jsonl", questions[40:])
    run(first, second)
    assert "none of the 20 rows" in capsys.readouterr().out
    moved = [item.in_order("cdab") for item in questions[45:48]]
    moved = [type(item)(**{**vars(item), "id": f"other-{item.id}", "provisions": (), "statutes": ()}) for item in moved]
    both = write(tmp_path / "c.jsonl", [*questions[:5], *moved])
    with pytest.raises(InputError, match=r"3 of the 8 rows of .*c\.jsonl are in .*b\.jsonl \(3 of its 20 questions\)"):
        run(both, second)
    shown = capsys.readouterr().out
    assert "near-duplicate text: 3 rows" in shown and questions[45].question[:20] in shown


def test_overlap_names_what_cannot_be_compared(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"input": "x"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.jsonl.*\n.*bad\.jsonl:1: `output`"):
        run(tmp_path / "bad.jsonl", tmp_path / "bad.jsonl")
    with pytest.raises(InputError, match="no such file"):
        run(tmp_path / "none.jsonl", tmp_path / "none.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no rows are in this folder"):
        run(tmp_path / "folder", tmp_path / "folder")


def test_all_splits_of_the_first_folder_are_compared(tmp_path, capsys):
    questions = read_questions(SAMPLE)[:60]
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    write(tmp_path / "mine" / "train.jsonl", questions[:20])
    write(tmp_path / "mine" / "test.jsonl", questions[20:30])
    write(tmp_path / "theirs" / "train.jsonl", questions[20:40])
    write(tmp_path / "theirs" / "test.jsonl", questions[40:])
    run(tmp_path / "mine", tmp_path / "theirs")
    assert "none of the 30 rows" in capsys.readouterr().out, "of the second, only its test split"
    write(tmp_path / "theirs" / "test.jsonl", questions[:20])
    with pytest.raises(InputError, match="20 of the 30 rows"):
        run(tmp_path / "mine", tmp_path / "theirs")


def test_permuted_copies_are_the_same_questions(lawqa_dir, capsys):
    folder = lawqa_dir / "data" if (lawqa_dir / "data").is_dir() else lawqa_dir
    with pytest.raises(InputError, match="140 of the 140 rows"):
        run(folder / "selection_randomized.json", folder)
