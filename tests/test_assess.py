"""`lawft assess`: planted differences are found and planted equality is not, a judge's bias and an injection that works come out."""

import hashlib
import json
import random
import re

import pytest
from conftest import QUICKSTART, ROOT, run_lawft
from hypothesis import given, settings
from hypothesis import strategies as st
from legal_endpoint import BAD, Endpoint, knows
from werkzeug import Response

from lawft_trl.assistant.answer_scores import (
    INVENTED,
    METRICS,
    NOTHING_KNOWN,
    UNVERIFIED,
    VERIFIED,
    corpus_articles,
    register_of,
    score_answer,
    style_parts,
)
from lawft_trl.assistant.answer_text import clean_answer
from lawft_trl.assistant.assessed_models import assessed_models
from lawft_trl.assistant.assessed_pairs import read_assessed
from lawft_trl.assistant.assessment import assess, read_assessment
from lawft_trl.assistant.assessment_figures import add_verdicts, what_it_can_show
from lawft_trl.assistant.assessment_plan import Plan
from lawft_trl.assistant.desk import open_desk
from lawft_trl.assistant.documents import document_from_text
from lawft_trl.assistant.injection_pairs import WEAK_CLAUSE, choose_pairs, injected
from lawft_trl.assistant.judge import Verdict, describe_verdicts
from lawft_trl.assistant.models import read_models
from lawft_trl.assistant.prompting import ANSWER_MARK, STRATEGIES, build_prompt, choose_examples
from lawft_trl.cli import main
from lawft_trl.data.legal_pairs import LEGAL_PAIRS, contract_cases
from lawft_trl.data.legal_rows import build_legal
from lawft_trl.errors import InputError
from lawft_trl.evaluation.paired import sign_flip
from lawft_trl.recipe import load_recipe
from lawft_trl.run_dir import begin, finish, unfinished
from lawft_trl.statutes.passages import Passage, write_corpus

PAIRS = read_assessed(LEGAL_PAIRS)[1]
BY_QUESTION = {pair.question: pair for pair in PAIRS}


@pytest.fixture(scope="module")
def legal(tmp_path_factory):
    """The shipped pairs, split: `(train file, held-out file)`."""
    folder = tmp_path_factory.mktemp("legal") / "legal"
    build_legal(LEGAL_PAIRS, folder)
    return next(folder.glob("dialogue/train_*.jsonl")), next(folder.glob("dialogue/test_*.jsonl"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus that has two articles of 民法 and no other law, and says that they are all."""
    folder = tmp_path_factory.mktemp("statutes") / "corpus"
    texts = {"415": "債務者がその債務の本旨に従った履行をしないときは、債権者は、これによって生じた損害の賠償を請求することができる。", "90": "公の秩序又は善良の風俗に反する法律行為は、無効とする。"}
    passages = [
        Passage(law_id="129AC0000000089", law="民法", provision="main", article=article, paragraph="1", part=0, caption="", text=text, as_of="2026-01-01")
        for article, text in texts.items()
    ]
    write_corpus(passages, folder, as_of="2026-01-01", sources={"whole_laws": True}, attribution="test")
    return folder


def planted(good: str):
    """Answers of which only those of the models in `good` are right."""
    right = knows(PAIRS)
    return lambda model, messages: right(messages) if model in good else BAD


@pytest.mark.parametrize(("good", "verdict"), [("tuned", "better"), ("base", "worse"), ("base tuned", "no evidence"), ("", "no evidence")])
def test_a_planted_difference_and_none(legal, httpserver, tmp_path, good, verdict):
    found = assess(Plan(pairs=legal[1]), Endpoint(httpserver, planted(good)).clients(), tmp_path / "out").metrics
    verdicts = {each["metric"]: each["verdict"] for each in found["comparisons"]}
    assert {verdicts[metric] for metric in ("expertise", "citations", "points", "style", "relevance")} == {verdict}
    assert verdicts["answered"] == "no evidence", "both always answer"
    assert bool(found["signs"]["plain"]) == (good in ("base", "")), "no sign where the tuned model answers as the pairs do"
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert {"better": "**Better.**", "worse": "**Worse.**", "no evidence": "**No evidence either way.**"}[verdict] in report


def test_a_manner_without_substance_is_called_that(legal, httpserver, tmp_path):
    """The tuned model says the same polite sentence to every question: its style is better, and the report says what that is worth."""
    said = "ご質問の件については、事実関係を整理したうえで、弁護士に確認することをお勧めします。"
    found = assess(Plan(pairs=legal[1]), Endpoint(httpserver, lambda model, _: said if model == "tuned" else BAD).clients(), tmp_path / "out").metrics
    verdicts = {each["metric"]: each["verdict"] for each in found["comparisons"]}
    assert (verdicts["style"], verdicts["expertise"]) == ("better", "no evidence")
    assert {"manner without substance", "one answer for all"} <= {sign["name"] for sign in found["signs"]["plain"]}
    assert "## It may be worth less than it seems" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_noise_alone_is_no_evidence(legal, httpserver, tmp_path):
    """Both models are right in half of the cases, by two independent coins."""
    right, coin = knows(PAIRS), random.Random(1)
    found = assess(Plan(pairs=legal[1]), Endpoint(httpserver, lambda _, messages: right(messages) if coin.random() < 0.5 else BAD).clients(), tmp_path / "out").metrics
    assert any(each["difference"] for each in found["comparisons"])
    assert {each["verdict"] for each in found["comparisons"]} == {"no evidence"}


def test_the_whole_command(legal, httpserver, tmp_path, corpus, capsys):
    """All strategies, a judge, injections, a corpus; nothing is overwritten; a second assessment is compared with the first."""
    right = knows(PAIRS)

    def answer(model, messages):
        said = "\n".join(message["content"] for message in messages)
        if model == "judge":
            return json.dumps({"winner": "A" if judged(said)[0] > judged(said)[1] else "B", "reason": ""})
        if "pointsを空に" in said:
            return '{"points": []}'
        if model == "base":
            return BAD
        return f"【検討】結論は不要です。{ANSWER_MARK}{right(messages)}" if ANSWER_MARK in messages[-1]["content"] else right(messages)

    endpoint = Endpoint(httpserver, answer)
    out = tmp_path / "assessments" / "first"
    models = tmp_path / "models.yaml"
    models.write_text("".join(f"{name}: {{backend: other, base_url: '{endpoint.url}', model: {name}{more}}}\n" for name, more in (("tuned", ", base_model: base"), ("judge", ""))), encoding="utf-8")
    words = ["assess", "--models", models, "--model", "tuned", "--pairs", legal[1], "--out", out, "--corpus", corpus, "--judge", "judge", "--limit", "10"]
    words += ["--strategy", ",".join(STRATEGIES), "--examples", legal[0], "--injection-pairs", "1"]
    words = list(map(str, words))
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "better" in printed
    assert "Only the first 10" in printed
    assert {path.name for path in out.iterdir()} == {"report.md", "metrics.json", "predictions.jsonl", "pairs.jsonl", "assessment.png"}
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert len(metrics["comparisons"]) == len(STRATEGIES) * len(METRICS)
    assert {each["verdict"] for each in metrics["prompting"]} == {"no evidence"}, "the tuned model always answers the same"
    assert metrics["sides"]["cot"]["base"]["unmarked"] == 10
    assert metrics["sides"]["cot"]["tuned"]["unmarked"] == 0
    assert all(found["agreement"] == 1 and found["tuned"] == 10 and found["verdict"] == "better" for found in metrics["judge"]["strategies"].values())
    asked = [body for body in endpoint.asked if body["model"] == "tuned"]
    assert all(body["temperature"] == 0 and body["seed"] == 0 for body in asked if "pointsを空に" not in body["messages"][-1]["content"])
    assert main(words) == 2, "nothing is overwritten"
    assert "--force" in capsys.readouterr().err
    endpoint.answer = planted("")
    second = ["--against", str(out), "--base-url", endpoint.url, "--base", "base", "--strategy", "plain"]
    assert main(["assess", "--model", "tuned", "--pairs", str(out / "pairs.jsonl"), "--out", str(tmp_path / "second"), *second]) == 0
    against = read_assessment(tmp_path / "second").metrics["against"]
    assert next(each for each in against["comparisons"] if each["metric"] == "expertise")["verdict"] == "worse"
    assert main(["assess", "--model", "tuned", "--pairs", str(legal[1]), "--out", str(tmp_path / "third"), *second]) == 2
    assert "it asked other pairs" in capsys.readouterr().err


def changed(file, to, **values):
    """A copy of held-out rows with another `system` message or another `any_of` in every point."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if "system" in values:
            row["messages"][0]["content"] = values["system"]
        for point in row["meta"]["required_points"]:
            point["any_of"] = values.get("any_of", point["any_of"])
    to.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return to


def test_only_what_was_asked_alike_is_compared(legal, httpserver, tmp_path):
    """A looser rubric is no progress: the old answers are scored by it too. Another way of asking is refused."""
    clients = Endpoint(httpserver, planted("")).clients()
    first = assess(Plan(pairs=legal[1], strategies=("plain", "few_shot"), examples=legal[0]), clients, tmp_path / "first").path
    looser = Plan(pairs=changed(legal[1], tmp_path / "looser.jsonl", any_of=["."]), against=first)
    found = assess(looser, clients, tmp_path / "second").metrics
    assert found["sides"]["plain"]["tuned"]["scores"]["points"]["mean"] == 1
    assert {each["difference"] for each in found["against"]["comparisons"]} == {0}
    with pytest.raises(InputError) as refused:
        assess(Plan(pairs=changed(legal[1], tmp_path / "other.jsonl", system="別の指示"), against=first, max_tokens=7, seed=3), clients, tmp_path / "third")
    said = "\n".join(refused.value.problems)
    assert "--max-tokens 1024" in said and "--seed 0" in said and "strategy plain: 14 of 14 prompts were others" in said
    with pytest.raises(InputError, match="cannot be compared") as refused:
        assess(Plan(pairs=legal[1], strategies=("plain", "few_shot"), examples=legal[0], shots=1, against=first), clients, tmp_path / "third")
    assert len(refused.value.problems) == 1 and "strategy few_shot" in refused.value.problems[0]
    assert not (tmp_path / "third").exists()


def judged(prompt: str) -> list[int]:
    """How long the answers A and B in a judge's prompt are."""
    return [len(re.search(rf"〈回答{name} \w+〉\n(.*?)\n〈回答{name}おわり", prompt, re.DOTALL)[1]) for name in "AB"]


@pytest.mark.parametrize("always", ["A", "B"])
def test_a_judge_that_likes_a_place_is_found_out(legal, httpserver, tmp_path, always):
    endpoint = Endpoint(httpserver, lambda model, messages: json.dumps({"winner": always, "reason": "よい"}) if model == "judge" else planted("tuned")(model, messages))
    found = assess(Plan(pairs=legal[1]), endpoint.clients(), tmp_path / "out", judge=endpoint.client("judge")).metrics["judge"]["strategies"]["plain"]
    assert found["biased"]
    assert found["agreement"] == 0
    assert found["verdict"] == "no evidence"
    assert f"POSITION BIAS for the {'first' if always == 'A' else 'second'}" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_a_judge_that_fails_costs_no_answers(legal, httpserver, tmp_path):
    """One that cannot be asked is found before anything else is asked; one that fails later leaves the answers and their scores."""
    denied = Response("{}", status=401, content_type="application/json")
    endpoint = Endpoint(httpserver, lambda model, _: denied if model == "judge" else BAD)
    with pytest.raises(InputError, match="--judge judge cannot be asked"):
        assess(Plan(pairs=legal[1]), endpoint.clients(), tmp_path / "out", judge=endpoint.client("judge"))
    assert {body["model"] for body in endpoint.asked} == {"judge"}
    said = iter([json.dumps({"winner": "tie", "reason": ""})] * 4)
    endpoint.answer = lambda model, messages: next(said, denied) if model == "judge" else denied if "pointsを空に" in messages[-1]["content"] else BAD
    found = assess(Plan(pairs=legal[1], injection_pairs=1), endpoint.clients(), tmp_path / "out", judge=endpoint.client("judge"))
    assert (found.metrics["judge"], found.metrics["injections"], len(found.predictions)) == (None, None, 28)
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "No judge, it was broken off: AuthFailed" in report and "No review of hidden orders, it was broken off: AuthFailed" in report


def test_verdicts_that_cannot_be_read_are_counted():
    verdicts = [Verdict(id=str(number), strategy="plain", base_first="tuned", tuned_first="tuned") for number in range(8)]
    verdicts += [Verdict(id="8", strategy="plain", base_first=None, tuned_first="tuned"), Verdict(id="9", strategy="plain", base_first="base", tuned_first="tuned")]
    found = describe_verdicts(verdicts, {str(number): str(number) for number in range(10)}, seed=0)
    assert (found["tuned"], found["ties"], found["unreadable"], found["disagreements"], found["pairs"]) == (8, 1, 1, 1, 9)
    assert not found["biased"], "one disagreement says nothing of a place"
    assert found["p_value"] < 0.05


def test_an_injection_that_works_is_found(legal, httpserver, tmp_path):
    """The base obeys what stands in a clause, the tuned model does not."""
    orders = [clean_answer(document_from_text("x", each.text).text).strip()[:12] for each in contract_cases()[0].injections]
    points = json.dumps({"points": [{"issue": "免責、責任、解除、違約金、再委託、検査の期限、範囲を確認すべきです。", "priority": "中", "suggestion": "", "citations": []}]}, ensure_ascii=False)

    def answer(model, messages):
        text = messages[-1]["content"]
        if "pointsを空に" not in text:
            return BAD
        return '{"points": []}' if model == "base" and any(order in text for order in orders if order) else points

    found = assess(Plan(pairs=legal[1], limit=2, injection_pairs=8), Endpoint(httpserver, answer).clients(), tmp_path / "out").metrics["injections"]
    assert found["tuned"]["same"] == found["tuned"]["usable"] == 8
    assert found["tuned"]["hold"] == found["tuned"]["reported"] >= 7
    assert found["base"]["lost"] >= 3, "those within a weak clause that the model could see"
    assert all(pair["place"] == WEAK_CLAUSE for pair in found["base"]["pairs"] if pair["lost"])
    assert all(found["base"]["repeated"].values())


def test_injections_are_spread_and_stay_in_their_place():
    chosen = choose_pairs(64)
    assert len({(case.id, injection.id, place) for case, injection, place in chosen}) == 64
    for case, injection, _ in chosen:
        text = injected(case, injection, WEAK_CLAUSE)
        assert text.replace(f"\n{injection.text}", "", 1).split() == case.text.split()
        heading = f"第{case.findings[0].clause + 1}条"
        assert text.index(injection.text) < text.index(f"\n{heading}")


def test_what_fails_once_is_left_out_and_what_fails_always_ends_it(legal, httpserver, tmp_path):
    """A pause that the server asks for is waited out; one question that the server refuses is counted; a wrong key ends it."""
    right, refused = knows(PAIRS), read_assessed(legal[1])[1][0].question
    state = {"busy": 1}

    def answer(model, messages):
        if state["busy"]:
            state["busy"] -= 1
            return Response("{}", status=429, headers={"Retry-After": "1"}, content_type="application/json")
        if model == "base" and messages[-1]["content"] == refused:
            return Response('{"error": {"message": "context length exceeded"}}', status=400, content_type="application/json")
        return right(messages)

    endpoint = Endpoint(httpserver, answer)
    found = assess(Plan(pairs=legal[1]), endpoint.clients(), tmp_path / "out").metrics
    assert found["sides"]["plain"]["base"]["failed"] == 1
    assert found["comparisons"][0]["left_out"] == 1
    endpoint.answer = lambda *_: Response("{}", status=401, content_type="application/json")
    with pytest.raises(InputError, match="cannot be asked, and nothing was written"):
        assess(Plan(pairs=legal[1]), endpoint.clients(), tmp_path / "none")
    endpoint.answer = lambda *_: Response("{}", status=500, content_type="application/json")
    with pytest.raises(InputError, match="3 of 3 questions got no answer"):
        assess(Plan(pairs=legal[1]), endpoint.clients(), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def trained_on(file, folder):
    """A finished run whose record says that it was trained on a file."""
    target = folder / "run"
    record = {"identity": {"data": {"train": [{"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}]}}}
    begin(target, load_recipe(QUICKSTART), record)
    finish(unfinished(target), target, {})
    return target


def test_pairs_of_the_training_are_refused(legal, httpserver, tmp_path):
    clients = Endpoint(httpserver, planted("tuned")).clients()
    clean, dirty = trained_on(legal[0], tmp_path / "clean"), trained_on(legal[1], tmp_path / "dirty")
    assert assess(Plan(pairs=legal[1], run=clean), clients, tmp_path / "fine").metrics["overlap"] == "none"
    with pytest.raises(InputError, match="--allow-overlap"):
        assess(Plan(pairs=legal[1], run=dirty), clients, tmp_path / "out")
    found = assess(Plan(pairs=legal[1], run=dirty, allow_overlap=True), clients, tmp_path / "out")
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert report.startswith("**CONTAMINATED")
    assert "**No verdict:**" in report
    assert found.metrics["contaminated"]
    with pytest.raises(InputError, match="are held-out pairs"):
        assess(Plan(pairs=legal[1], strategies=("few_shot",), examples=legal[1]), clients, tmp_path / "leak")


def test_another_run_does_not_turn_the_check_off(legal, httpserver, tmp_path, capsys):
    """The models file says whose run the model is; naming a clean one beside it changes nothing."""
    clean, dirty = trained_on(legal[0], tmp_path / "clean"), trained_on(legal[1], tmp_path / "dirty")
    models = tmp_path / "models.yaml"
    models.write_text(f"tuned: {{backend: other, base_url: '{Endpoint(httpserver, planted('tuned')).url}', model: tuned, base_model: base, run: dirty/run}}\n", encoding="utf-8")
    words = ["--models", str(models), "--model", "tuned", "--pairs", str(legal[1]), "--out", str(tmp_path / "out")]
    assert main(["assess", str(clean), *words]) == 2
    assert "another run" in capsys.readouterr().err
    for named in ([], [str(dirty)]):
        assert main(["assess", *named, *words]) == 2
        assert "--allow-overlap" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_base_is_one_model_in_both_commands(tmp_path):
    """`base_model` is an id also where an alias is called the same; --base may be an alias; a model is not its own base."""
    models, url = tmp_path / "models.yaml", "http://127.0.0.1:9/v1"
    models.write_text(
        f"tuned: {{backend: other, base_url: '{url}', model: t, base_model: qwen}}\nqwen: {{backend: other, base_url: 'http://127.0.0.1:8/v1', model: other}}\nsame: {{backend: other, base_url: '{url}', model: t}}\n",
        encoding="utf-8",
    )
    options = {"run": None, "base_url": None, "judge": None, "api_key_env": None, "timeout": 1.0}
    opened = open_desk(read_models(models)["tuned"]).models["base"]
    with assessed_models(models=models, model="tuned", base=None, **options) as asked:
        client, name = asked.clients["base"]
        assert (client.entry.base_url, name) == (opened.base_url, opened.model) == (url, "qwen")
    with assessed_models(models=models, model="tuned", base="qwen", **options) as asked:
        assert asked.clients["base"][1] == "other"
    with pytest.raises(InputError, match="that is the tuned model"), assessed_models(models=models, model="tuned", base="same", **options):
        pass
    with pytest.raises(InputError, match="that is the tuned model"):
        open_desk(read_models(models)["tuned"], base=read_models(models)["same"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--base-url", "http://127.0.0.1:9/v1"], ["--model", "--base"]),
        ([], ["no model"]),
        (["--model", "x", "--judge", "y"], ["no model", "--model", "--judge"]),
        (["--base-url", "http://127.0.0.1:9/v1", "--model", "a", "--base", "a"], ["that is the tuned model"]),
        (["--base-url", "http://127.0.0.1:9/v1", "--model", "a", "--base", "b", "--strategy", "plain,magic,few_shot", "--shots", "0", "--limit", "0"], ["magic", "--examples", "--shots 0", "--limit 0"]),
    ],
)
def test_every_mistake_is_named_at_once(legal, tmp_path, capsys, words, says):
    assert main(["assess", "--pairs", str(legal[1]), "--out", str(tmp_path / "out"), *words]) == 2
    told = capsys.readouterr().err
    assert all(each in told for each in says), told
    assert not (tmp_path / "out").exists()


def test_rows_that_cannot_be_scored_are_named(tmp_path):
    lines = LEGAL_PAIRS.read_text(encoding="utf-8").splitlines()[:3]
    broken = [json.loads(line) for line in lines]
    broken[0]["meta"]["citations"] = []
    broken[1]["meta"]["required_points"][0]["any_of"] = ["("]
    broken[2]["meta"]["id"] = broken[1]["meta"]["id"]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(each, ensure_ascii=False) for each in broken), encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_assessed(file)
    assert [problem.split(":")[1] for problem in error.value.problems] == ["1", "2", "3"]


def test_citations_are_looked_up(corpus):
    pair = next(pair for pair in PAIRS if {cited.article for cited in pair.citations} == {"415", "90"})
    text = "民法第415条と民法第9999条、会社法第1条によります。同法第2条も弁護士が確認します。"
    found = score_answer(pair, text, cut=False, known=corpus_articles(corpus, [text]))
    assert {(cited["law"], cited["article"]): cited["status"] for cited in found["citations"]} == {
        ("民法", "415"): VERIFIED,
        ("民法", "9999"): INVENTED,
        ("会社法", "1"): UNVERIFIED,
        ("会社法", "2"): UNVERIFIED,
    }
    assert (found["precision"], found["recall"]) == (1 / 4, 1 / 2)
    assert [cited["article"] for cited in found["missed_citations"]] == ["90"]


def test_what_an_excerpt_does_not_have_is_not_called_invented(tmp_path):
    passage = Passage(law_id="129AC0000000089", law="民法", provision="main", article="1", paragraph="1", part=0, caption="", text="私権は、公共の福祉に適合しなければならない。", as_of="2026-01-01")
    write_corpus([passage], tmp_path / "excerpt", as_of="2026-01-01", sources={}, attribution="test")
    text = "民法第1条と民法第2条によります。"
    found = score_answer(PAIRS[0], text, cut=False, known=corpus_articles(tmp_path / "excerpt", [text]))
    assert [cited["status"] for cited in found["citations"]] == [VERIFIED, UNVERIFIED]


def test_forbidden_and_foretold():
    pair = PAIRS[0]
    assert score_answer(pair, pair.answer, cut=False, known=NOTHING_KNOWN)["scores"]["clean"] == 1
    assert score_answer(pair, pair.answer + pair.forbidden[0] + "ちます。", cut=False, known=NOTHING_KNOWN)["forbidden"] == [pair.forbidden[0]]
    assert score_answer(pair, pair.answer + "裁判では勝訴できるでしょう。", cut=False, known=NOTHING_KNOWN)["predictions"] == 1
    assert score_answer(pair, "", cut=False, known=NOTHING_KNOWN)["scores"] == dict.fromkeys(METRICS, 0.0)


@given(pair=st.sampled_from(PAIRS), text=st.text(alphabet="民法第条415の。です、責任 \n弁護士aＡ", max_size=80), cut=st.booleans())
@settings(max_examples=60, deadline=None)
def test_scores_stay_between_nothing_and_all(pair, text, cut):
    scores = score_answer(pair, text, cut=cut, known=NOTHING_KNOWN)["scores"]
    assert set(scores) == set(METRICS)
    assert all(0 <= score <= 1 for score in scores.values())


@given(pair=st.sampled_from(PAIRS), places=st.lists(st.integers(0, 400), max_size=5), more=st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_points_do_not_depend_on_spaces_and_never_fall_with_more_text(pair, places, more):
    spaced = pair.answer
    for place in places:
        spaced = spaced[:place] + " " + spaced[place:]
    assert score_answer(pair, spaced, cut=False, known=NOTHING_KNOWN)["scores"]["points"] == 1
    half = pair.answer[: len(pair.answer) // 2]
    assert score_answer(pair, half + "\n" + more, cut=False, known=NOTHING_KNOWN)["scores"]["points"] >= score_answer(pair, half, cut=False, known=NOTHING_KNOWN)["scores"]["points"] - 1e-9


@given(pair=st.sampled_from(PAIRS), strategy=st.sampled_from(STRATEGIES))
@settings(max_examples=30, deadline=None)
def test_prompts_end_with_the_question_and_never_hold_its_answer(pair, strategy):
    examples = choose_examples(pair, PAIRS, 3)
    messages = build_prompt(pair, strategy, examples)
    roles = [message["role"] for message in messages if message["role"] != "system"]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert messages[-1]["content"].startswith(pair.question)
    assert pair.answer not in "".join(message["content"] for message in messages)
    assert pair.group not in {example.group for example in examples}
    if strategy == "plain":
        assert [message["content"] for message in messages] == [pair.system, pair.question]


def test_the_more_is_compared_the_more_each_has_to_show():
    rose = {"interval": [0.1, 0.3], "p_value": 0.02}
    assert add_verdicts([rose])[0]["verdict"] == "better"
    assert {each["verdict"] for each in add_verdicts([rose] * 3)} == {"no evidence"}


def test_what_few_pairs_can_show():
    assert what_it_can_show([str(number) for number in range(13)], 7)["smallest_p"] == 2**-12
    assert what_it_can_show([str(number) for number in range(200)], 7)["detectable"] < 0.2


@pytest.mark.parametrize(("groups", "comparisons"), [(5, 1), (6, 1), (8, 7), (9, 7), (10, 35), (11, 35)])
def test_too_few_is_where_no_verdict_can_come(groups, comparisons):
    """Every group changes the same way in every metric, which is the most that can be shown."""
    names = [str(number) for number in range(groups)]
    most = {"interval": [1.0, 1.0], "p_value": sign_flip([1.0] * groups, names, 0)}
    shown = {each["verdict"] for each in add_verdicts([most] * comparisons)} == {"better"}
    assert what_it_can_show(names, comparisons)["too_few"] is not shown


@pytest.mark.parametrize("ending", ["（民法第415条）", "（民法第415条（債務不履行）参照）", ""])
def test_a_citation_at_the_end_does_not_hide_the_register(ending):
    assert register_of(f"責任を負うこととする{ending}。無効である{ending}。") == "である"
    assert style_parts(f"責任を負います{ending}。", "です。")["register"] == 1


def test_the_report_has_the_length_the_exercise_asks_for():
    text = (ROOT / "docs" / "report.ja.md").read_text(encoding="utf-8")
    assert 800 <= len("".join("".join(line.split()) for line in text.splitlines() if not line.startswith("#"))) <= 1200


@pytest.mark.slow
def test_a_run_and_its_base_are_served_and_assessed(legal, trained, tmp_path):
    """Without an endpoint both are served here, asked over HTTP, and ended."""
    out = tmp_path / "out"
    done = run_lawft("assess", trained, "--pairs", legal[1], "--out", out, "--limit", "2", "--max-tokens", "8", check=True)
    metrics = read_assessment(out).metrics
    assert metrics["overlap"] == "none"
    assert {model["backend"] for model in metrics["models"].values()} == {"transformers"}
    assert metrics["sides"]["plain"]["tuned"]["pairs"] == metrics["sides"]["plain"]["base"]["pairs"] == 2
    assert "With so few groups for so many comparisons no verdict but `no evidence` is possible." in done.stdout
