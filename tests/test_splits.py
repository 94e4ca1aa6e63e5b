"""Splits: groups stay whole, nothing is lost, the same seed gives the same split."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_questions import question

from lawft_trl.data.lawqa import find_lawqa, read_lawqa
from lawft_trl.data.splits import fold_questions, join_near_duplicates, split_hash, split_questions
from lawft_trl.errors import InputError

SHARES = {"test": 0.25, "dev": 0.1}

sets = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["甲法", "乙法"])), min_size=30, max_size=60).map(
    lambda drawn: [question(id=f"q{i}", group=f"{law}{group}", law=law) for i, (group, law) in enumerate(drawn)]
)


@given(sets, st.integers(0, 5), st.randoms())
def test_split_holds(questions, seed, chance):
    try:
        parts = split_questions(questions, SHARES, seed)
    except InputError as error:
        assert "would be empty" in str(error)
        return
    ids = [q.id for members in parts.values() for q in members]
    assert sorted(ids) == sorted(q.id for q in questions)
    groups = [{q.group for q in members} for members in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)), "a group is in two parts"
    shuffled = list(questions)
    chance.shuffle(shuffled)
    assert split_hash(split_questions(shuffled, SHARES, seed)) == split_hash(parts)


@pytest.mark.parametrize(("laws", "each"), [(20, 1), (30, 2), (25, 4), (3, 40)])
def test_shares_are_kept_however_small_the_laws_are(laws, each):
    questions = [question(id=f"q{law}-{i}", group=f"g{law}-{i}", law=f"法{law}") for law in range(laws) for i in range(each)]
    parts = split_questions(questions, SHARES, 0)
    for name, share in SHARES.items():
        assert abs(len(parts[name]) - share * len(questions)) <= 1


def test_another_seed_gives_another_split():
    questions = [question(id=f"q{i}", group=f"g{i}") for i in range(40)]
    assert split_hash(split_questions(questions, SHARES, 0)) != split_hash(split_questions(questions, SHARES, 1))


@pytest.mark.parametrize("shares", [{"test": 1.0}, {"test": -0.1}, {"test": 0.6, "dev": 0.5}])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(InputError, match="sum to less than 1"):
        split_questions([question()], shares, 0)


def test_a_share_of_nothing_is_no_fault():
    parts = split_questions([question(id=f"q{i}", group="") for i in range(10)], {"test": 0.3, "dev": 0.0}, 0)
    assert {name: len(members) for name, members in parts.items()} == {"train": 7, "test": 3, "dev": 0}


def test_too_few_groups_are_refused():
    with pytest.raises(InputError, match="would be empty"):
        split_questions([question(id=f"q{i}") for i in range(10)], SHARES, 0)


def test_real_lawqa_keeps_every_law_in_every_part(lawqa_dir):
    questions = read_lawqa(find_lawqa(lawqa_dir))
    parts = split_questions(questions, {"test": 0.3, "dev": 0.1}, 0)
    for members in parts.values():
        assert set(Counter(q.law for q in members)) == {"金商法", "薬機法", "借地借家法"}
    assert 40 <= len(parts["test"]) <= 42
    assert not {s for q in parts["train"] for s in q.statutes} & {s for q in parts["test"] for s in q.statutes}


@given(sets, st.integers(2, 6), st.integers(0, 5), st.randoms())
def test_folds_hold(questions, folds, seed, chance):
    try:
        parts = fold_questions(questions, folds, seed)
    except InputError as error:
        assert "--folds" in str(error)
        return
    assert len(parts) == folds and all(parts)
    assert sorted(q.id for part in parts for q in part) == sorted(q.id for q in questions)
    groups = [{q.group for q in part} for part in parts]
    assert sum(map(len, groups)) == len(set().union(*groups)), "a group is in two folds"
    shuffled = list(questions)
    chance.shuffle(shuffled)
    assert fold_questions(shuffled, folds, seed) == parts


@pytest.mark.parametrize("folds", [0, 1, 41])
def test_impossible_folds_are_refused(folds):
    with pytest.raises(InputError, match="expected at least 2 and at most 40, the number of groups"):
        fold_questions([question(id=f"q{i}", group=f"g{i}") for i in range(40)], folds, 0)


def test_no_group_of_real_lawqa_is_on_two_sides_for_200_seeds(lawqa_dir):
    """Permuted copies are read as the one question they are, so the same holds for `selection_randomized.json`."""
    questions = read_lawqa(find_lawqa(lawqa_dir))
    copies = read_lawqa(find_lawqa(lawqa_dir).with_name("selection_randomized.json"))
    assert {q.id: q.group for q in copies} == {q.id: q.group for q in questions}
    splits = set()
    for seed in range(200):
        parts = split_questions(questions, {"test": 0.3, "dev": 0.1}, seed)
        sides = {}
        for name, members in parts.items():
            for q in members:
                for key in (q.group, *q.provisions, *q.statutes):
                    assert sides.setdefault(key, name) == name, (seed, key)
        assert split_hash(parts) == split_hash(split_questions(copies, {"test": 0.3, "dev": 0.1}, seed))
        splits.add(split_hash(parts))
        folds = fold_questions(questions, 5, seed)
        assert all(26 <= len(fold) <= 30 for fold in folds)
        for key in ({p for q in fold for p in q.provisions} for fold in folds):
            assert sum(bool(key & {p for q in fold for p in q.provisions}) for fold in folds) == 1
    assert len(splits) == 200


def test_near_duplicates_are_one_group():
    """Questions of an old and a new version of a law differ in a few characters; they stay on one side."""
    text = "架空空中庭園法によれば、庭園主が庭園の浮力の測定結果を庭園管理庁に届け出なければならない期限はどれか。その起算日にも注意して答えなさい。"
    old, new, other = (
        question(id=name, group=name, question=words, choices=dict(zip("abcd", (f"{n}日以内" for n in "三五七九"), strict=True)))
        for name, words in (("old", text), ("new", "旧" + text), ("other", "航海日誌は、" + text[30:]))
    )
    assert [q.group for q in join_near_duplicates([old, other, new])] == ["old", "other", "old"]
    alone = [question(id=f"q{n}", group="", question=f"第{n}条の期間は。{'甲乙丙丁戊'[n] * 40}") for n in range(5)]
    assert len({q.group for q in join_near_duplicates(alone)}) == 5
