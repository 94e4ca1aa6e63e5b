"""Figures and the HTML report: what stands in them, that users' texts stay text, and how a browser shows them."""

import io
import json
import math
import random
import re
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from conftest import SAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.evaluation import figure_look
from lawft_trl.evaluation.calibration import calibrate
from lawft_trl.evaluation.figure_look import short, to_png, to_svg
from lawft_trl.evaluation.figures import draw_accuracies, draw_changes, draw_evaluation, runs_svg
from lawft_trl.evaluation.html_report import render_html
from lawft_trl.evaluation.metrics import Prediction, compare, content_answers, content_gold, describe_model
from lawft_trl.training.progress_figure import draw_progress

LAWS = ("借地借家法", "金融商品取引業等に関する内閣府令", '通称"甲"法 & 乙')
SVG = "{http://www.w3.org/2000/svg}"


def predict(questions, skill, bias, seed, *, generated=False, silent=0.0):
    """A model that prefers the right choice by `skill` and the letter a by `bias`; some answers of it have no letter."""
    rng, predictions = random.Random(seed), []
    for question in questions:
        scores = {letter: rng.gauss(0, 1) + skill * (letter == question["answer"]) for letter in LETTERS}
        for order in ORDERS:
            logits = {at: scores[shown] + bias * (at == "a") for at, shown in zip(LETTERS, order, strict=True)}
            total = math.log(sum(map(math.exp, logits.values())) / 0.97)
            answer = {"letter": max(logits, key=logits.get), "letter_logprobs": {at: logit - total for at, logit in logits.items()}}
            if generated:
                answer = {"letter": answer["letter"], "outputs": (f"回答: {answer['letter']}",)}
                if rng.random() < silent:
                    answer = {"letter": None, "outputs": ("<b>いずれでもない</b>" * 80,), "cut": 1, "unread": 1}
            known = {key: question[key] for key in ("id", "group", "known_issue")}
            gold = LETTERS[order.index(question["answer"])]
            predictions.append(Prediction(**known, order=order, prompt_sha256=f"{question['id']} {order}", gold=gold, **answer))
    return predictions


def evaluation(*, skill=2.5, generated=False, silent=0.0, one=False, same=False, number=36, laws=LAWS):
    """Metrics, predictions and questions as an evaluation folder holds them."""
    records = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()[: 4 * number : 4]]
    kept = ("id", "group", "question", "choices", "answer")
    questions = [
        {**{key: record[key] for key in kept}, "law": laws[place % len(laws)], "known_issue": place == 0, "gold_shown": True, "statutes": 1, "source": "t:1"}
        for place, record in enumerate(records)
    ]
    how = {"generated": generated, "silent": silent}
    base = predict(questions, 0.5, 1.5, 1, **how)
    tuned = base if same else predict(questions, skill, 0.1, 2, **how)
    predictions = {"served": base} if one else {"base": base, "tuned": tuned}
    metrics = {
        "run": "runs/direct_gold",
        "model": "someone/model",
        "models": {model: describe_model(answers) for model, answers in predictions.items()},
        "comparison": None if one else compare(base, tuned, seed=0),
        "scorer": "generate" if generated else "letters",
        "answer": "direct",
        "parser_version": 1 if generated else None,
        "statutes": "gold",
        "law_as_of": ["2024-04-01", ""],
        "test_file": "data/sample/direct_gold/test_36.jsonl",
        "test_sha256": "ab" * 32,
        "asked": f"{number} questions in four orders each",
        "groups": len({question["group"] for question in questions}),
        "prompt_fingerprint": "cd" * 32,
        "overlap": "none",
        "contaminated": None,
        "rehearsal": False,
        "warnings": [],
        "seconds": 1.5,
        "retrieval": None,
        "diagnosis": [],
    }
    return metrics, predictions, {question["id"]: question for question in questions}


@pytest.fixture(scope="module")
def scored():
    return evaluation()


@pytest.fixture(scope="module")
def drawn(scored):
    return {name: to_svg(figure) for name, figure in draw_evaluation(*scored).items()}


def texts(svg: str) -> list[str]:
    """The texts a reader sees in a figure, in the order they are drawn."""
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


class Page(HTMLParser):
    """The visible text of a page, and all its tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.seen, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("style", "title", "desc"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data):
        if not self.open and data.strip():
            self.seen.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.seen)


# Figures


def test_an_evaluation_has_these_figures(scored, drawn):
    assert list(drawn) == ["accuracy", "letters", "confusion", "changes", "reliability"]
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img" and root.get("viewBox")
        title, description = list(root)[:2]
        assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc") and title.text and description.text
        assert set(re.findall(r"https?://[^\"' <]+", svg)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert not re.search(r"<(style|script|metadata|image)\b", svg)
    assert {name: to_svg(figure) for name, figure in draw_evaluation(*scored).items()} == drawn, "the same twice"


def test_accuracy_says_the_numbers(scored, drawn):
    for name, model in scored[0]["models"].items():
        low, high = (100 * end for end in model["interval"])
        assert f"{100 * model['accuracy']:.1f} % ({low:.1f} to {high:.1f})" in texts(drawn["accuracy"])
        assert name in texts(drawn["accuracy"])
    assert "guessing 25.0 %" in texts(drawn["accuracy"])
    majority = 100 * scored[0]["comparison"]["majority_baseline"]
    assert f"most frequent letter {majority:.1f} %" in texts(drawn["accuracy"])


def test_letters_and_confusion_say_the_counts(scored, drawn):
    models = scored[0]["models"].values()
    counts = [str(model["letters"][letter]) for model in models for letter in LETTERS]
    assert Counter(counts) <= Counter(texts(drawn["letters"]))
    cells = [str(model["confusion"][gold][letter]) for model in models for gold in LETTERS for letter in LETTERS]
    numbers = [text for text in texts(drawn["confusion"]) if text.isdigit()]
    assert numbers == cells
    assert "no answer" not in texts(drawn["letters"]) and "none" not in texts(drawn["confusion"])


def test_answers_without_a_letter_have_a_place_of_their_own():
    metrics, predictions, questions = evaluation(generated=True, silent=0.2)
    figures = draw_evaluation(metrics, predictions, questions)
    assert "reliability" not in figures, "no letters were scored"
    letters = texts(to_svg(figures["letters"]))
    assert "no answer" in letters and str(metrics["models"]["tuned"]["unparsed"]) in letters
    numbers = [int(text) for text in texts(to_svg(figures["confusion"])) if text.isdigit()]
    assert sum(numbers) == sum(map(len, predictions.values())), "every prompt is in a cell"


def test_changes_by_law(scored):
    metrics, predictions, questions = scored
    laws = {question: record["law"] for question, record in questions.items()}
    figure = draw_changes(predictions["base"], predictions["tuned"], laws)
    told = figure.get_label()
    for kind in ("gained", "lost"):
        assert sum(map(int, re.findall(rf"{kind} (\d+)", told))) == len(metrics["comparison"][kind])
    assert sum(map(int, re.findall(r" (\d+)(?=[,;]|$)", told))) == len(questions)
    shown = texts(to_svg(figure))
    assert "借地借家法" in shown and '通称"甲"法 & 乙' in shown
    beside = [list(map(int, re.findall(r"\d+", text))) for text in shown if re.fullmatch(r"\+\d+ −\d+", text)]
    assert [sum(column) for column in zip(*beside, strict=True)] == [len(metrics["comparison"][kind]) for kind in ("gained", "lost")]
    (long,) = [text for text in shown if "…" in text]
    assert long.startswith("金融商品取引") and long.endswith("内閣府令")


def test_many_laws_are_drawn_together():
    metrics, predictions, questions = evaluation(laws=tuple(f"第{number}法" for number in range(20)))
    figure = draw_evaluation(metrics, predictions, questions)["changes"]
    rows = figure.get_label().split("; ")
    assert len(rows) == 12 and rows[-1].startswith("9 other laws: ")
    assert sum(map(int, re.findall(r" (\d+)(?=[,;]|$)", figure.get_label()))) == len(questions)


def test_a_question_without_a_law_and_models_that_do_not_differ():
    metrics, predictions, questions = evaluation(same=True, laws=("",))
    label = draw_evaluation(metrics, predictions, questions)["changes"].get_label()
    assert label.startswith("law not stated: lost 0, both wrong ") and "gained 0" in label


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30))
def test_any_name_makes_a_sound_file(name):
    svg = runs_svg([(name, 0.5, 0.4, 0.6), ("甲$x$<script>&", 0.3, 0.2, 0.4)], title="runs")
    assert "甲$x$<script>&" in texts(svg), "a dollar is no formula, a tag no tag"
    assert short(name, 44) in ["", *texts(svg)]


@settings(max_examples=200)
@given(st.text(max_size=80), st.integers(8, 44))
def test_short_names_fit(name, width):
    shortened = short(name, width)
    assert figure_look._text_width(shortened) <= width
    assert "\n" not in shortened
    if "…" not in name and "…" in shortened:
        whole = short(name, 10**6)
        head, tail = shortened.split("…")
        assert whole.startswith(head) and whole.endswith(tail)


def test_pictures_have_no_boxes_with_or_without_a_japanese_font(scored, monkeypatch):
    for fonts in (figure_look._JAPANESE_FONTS, ()):
        monkeypatch.setattr(figure_look, "_JAPANESE_FONTS", fonts)
        figure_look._fonts.cache_clear()
        figure = draw_evaluation(*scored)["changes"]
        svg_label = figure.get_label()
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Glyph")  # matplotlib warns of every one it draws as a box
            picture = Image.open(io.BytesIO(to_png(figure)))
        assert picture.format == "PNG" and picture.width == round(200 * figure.get_figwidth())
        if not fonts:
            assert figure.get_label().startswith(svg_label)
            assert "name 1: 借地借家法" in figure.get_label() and "借地借家法" not in texts(to_svg(figure))
    monkeypatch.undo()
    figure_look._fonts.cache_clear()


def test_drawing_leaves_the_users_matplotlib_alone():
    code = (
        "import sys, matplotlib\n"
        "from lawft_trl.evaluation import figures, html_report\n"
        "matplotlib.rcParams['font.size'] = 17\n"
        "state = lambda: {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != 'backend'}\n"  # reading that loads pyplot
        "before = state()\n"
        "svg = figures.runs_svg([('run', .5, .4, .6)], title='Runs')\n"
        "assert state() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'font-size: 17' not in svg and 'font: 17' not in svg\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    light = "import sys, lawft_trl.evaluation.html_report as _; assert not {'matplotlib', 'jinja2', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], check=True)


# Calibration


def scored_once(number, logprobs, gold, order="abcd"):
    letter = max(logprobs, key=logprobs.get)
    return Prediction(id=f"q{number}", group="g", order=order, prompt_sha256="", letter=letter, gold=gold, letter_logprobs=logprobs)


def test_calibration_by_hand():
    answers = [  # confidence of a: 0.4, 0.5, 0.8, 0.9; right: no, yes, yes, yes
        scored_once(place, dict(zip(LETTERS, map(math.log, (sure, *[(1 - sure) / 3] * 3)), strict=True)), gold)
        for place, (sure, gold) in enumerate([(0.9, "a"), (0.4, "b"), (0.8, "a"), (0.5, "a")])
    ]
    found = calibrate(answers, bins=2)
    assert [(one["questions"], round(one["confidence"], 6), one["accuracy"]) for one in found["bins"]] == [(2, 0.45, 0.5), (2, 0.85, 1.0)]
    assert found["ece"] == pytest.approx((2 * 0.05 + 2 * 0.15) / 4)
    assert [len(calibrate(answers, bins=many)["bins"]) for many in (3, 9)] == [3, 4], "no empty bins"


def test_confidence_does_not_see_letter_bias_and_mass(scored):
    even, biased = (predict(scored[2].values(), 1.0, bias, 5) for bias in (0.0, 3.0))
    lighter = [Prediction(**{**vars(one), "letter_logprobs": {at: value - 2 for at, value in one.letter_logprobs.items()}}) for one in even]
    one, *others = ([list(part.values())[1:3] for part in calibrate(model)["bins"]] for model in (even, biased, lighter))
    for other in others:
        assert [pytest.approx(part) for part in one] == other


def test_no_calibration_without_scores():
    assert calibrate(evaluation(generated=True)[1]["base"]) is None
    assert calibrate([]) is None


# Training progress


def test_progress_has_a_panel_for_what_was_logged():
    loss = [{"step": step, "loss": 1 / step, "epoch": 0.1} for step in range(1, 5)]
    steps = [{**entry, "learning_rate": 1e-4, "grad_norm": 1.0} for entry in loss]
    letters = [{"step": 4, "eval_loss": 0.5, "eval_letter_accuracy": 0.5, "eval_letter_mass": 0.9, "eval_letter_share_a": 1.0}]
    histories = [[], [{"step": 4, "train_loss": 0.3}], loss, steps, [*steps, *letters, {"step": 4, "train_loss": 0.3}]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of matplotlib, e.g. of labels without lines
        heights = [Image.open(io.BytesIO(draw_progress(history))).height for history in histories]
    assert heights[0] == heights[1] == heights[2] < heights[3] < heights[4]


def test_progress_bears_a_loss_that_is_no_number():
    assert draw_progress([{"step": 1, "loss": float("nan")}, {"step": 2, "loss": float("inf")}, {"step": 3, "loss": 1.0}])[:4] == b"\x89PNG"


# The page


def test_the_page_says_what_the_metrics_say(scored):
    metrics, _, questions = scored
    page = Page(render_html(*scored))
    paired = metrics["comparison"]
    assert paired["verdict"] == "better" and "▲ Better." in page.text
    assert f"{100 * paired['difference']:+.1f} points" in page.text
    assert f"gained {len(paired['gained'])}, lost {len(paired['lost'])} of 36 questions" in page.text
    for model in metrics["models"].values():
        assert f"{100 * model['accuracy']:.1f} % ({model['correct']}/36)" in page.text
    assert "35)" in page.text and "gold answer its authors doubt" in page.text
    for question in [*paired["gained"], *paired["lost"]]:
        assert questions[question]["question"] in page.text and questions[question]["choices"]["d"] in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 5
    assert "Retrieval" not in page.text and "Diagnosis" not in page.text and "Answers without a letter" not in page.text


def test_gained_and_lost_say_who_answered_what(scored):
    metrics, predictions, _ = scored
    html = render_html(*scored)
    gained = metrics["comparison"]["gained"]
    base, gold = content_answers(predictions["base"]), content_gold(predictions["base"])
    for question in gained:
        article = html[html.index(f"<code>{question}</code>") :].partition("</article>")[0]
        (right,) = re.findall(r'<li class="gold"><b>(.)</b>', article)
        tagged = {name: letter for letter, line in re.findall(r"<b>(.)</b>(.*?)</li>", article, re.S) for name in ("base", "tuned") if f">{name}<" in line}
        assert right == gold[question] == tagged["tuned"] and tagged.get("base") == base[question]


def test_the_page_stands_alone_and_is_accessible(scored):
    html = render_html(*scored)
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert set(re.findall(r"https?://[^\"' <)]+", html)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"@import|url\((?!#)", html)
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert ("span", {"lang": "ja"}) in page.tags
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert ids and len(ids) == len(set(ids))


def test_users_texts_stay_text(scored):
    metrics, predictions, questions = scored
    evil = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
    changed = metrics["comparison"]["gained"][0]
    record = {**questions[changed], "question": evil, "law": evil, "choices": dict.fromkeys(LETTERS, evil)}
    metrics = {
        **metrics,
        **dict.fromkeys(("run", "model", "test_file", "asked", "overlap", "contaminated"), evil),
        "warnings": [evil],
        "diagnosis": [{"name": evil, "says": evil, "try_next": evil}],
    }
    page = Page(render_html(metrics, predictions, {**questions, changed: record}))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(evil) >= 14 and "49" not in re.findall(r"&(\d+)", page.text)


def test_a_contaminated_evaluation_says_so_first(scored):
    metrics, predictions, questions = scored
    page = Page(render_html({**metrics, "contaminated": "12 of 36 were trained on."}, predictions, questions))
    assert page.seen[0] == "12 of 36 were trained on."
    assert "No verdict:" in page.text and "Better." not in page.text
    assert any(attributes.get("class") == "verdict void" for _, attributes in page.tags)


def test_a_rehearsal_has_no_verdict(scored):
    metrics, predictions, questions = scored
    page = Page(render_html({**metrics, "rehearsal": True, "warnings": ["REHEARSAL: nothing."]}, predictions, questions))
    assert "REHEARSAL" in page.seen[1] and "No verdict:" in page.text and "Better." not in page.text


@pytest.mark.parametrize(("changes", "verdict", "words"), [({"skill": -1.5}, "worse", "▼ Worse."), ({"same": True}, "no evidence", "● No evidence either way.")])
def test_the_other_verdicts(changes, verdict, words):
    metrics, predictions, questions = evaluation(**changes)
    assert metrics["comparison"]["verdict"] == verdict
    page = Page(render_html(metrics, predictions, questions))
    assert words in page.text
    assert any(attributes.get("class") == f"verdict {verdict.replace(' ', '-')}" for _, attributes in page.tags)
    if verdict == "no evidence":
        assert "Gained: 0 none Lost: 0 none" in page.text


def test_one_model_alone():
    page = Page(render_html(*evaluation(one=True)))
    assert "served" in page.text and "95 % Wilson interval" in page.text
    assert "Gained" not in page.text and "McNemar" not in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 4


def test_generated_answers_and_those_without_a_letter():
    metrics, predictions, questions = evaluation(generated=True, silent=0.2)
    html = render_html(metrics, predictions, questions)
    unread = metrics["models"]["tuned"]["unparsed"]
    assert unread > 5 and f"tuned: {unread}, the first 5 of them" in Page(html).text
    assert html.count("<pre>") == 10 and "&lt;b&gt;いずれでもない" in html and "characters more)" in html
    assert "not scored" in html and "parser version 1" in html


def test_retrieval_diagnosis_and_questions_without_choices(scored):
    metrics, predictions, questions = scored
    found = {
        "retrieval": {"hit": {"questions": 30, **metrics["models"]}, "miss": {"questions": 6, **metrics["models"]}},
        "diagnosis": [{"name": "Collapse", "says": "a only", "try_next": ""}],
        "train_check": metrics["models"]["tuned"],
        "cross_validation": {"note": "Folds are not independent."},
    }
    page = Page(render_html({**metrics, **found}, predictions, {id: {**one, "choices": None, "law": ""} for id, one in questions.items()}))
    assert "Diagnosis Collapse a only Figures" in page.text
    assert "hit 30" in page.text and "miss 6" in page.text
    assert "Of the training questions, " in page.text and "Folds are not independent." in page.text


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the page was NOT opened in a browser")
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no chromium here: the page was NOT opened in a browser")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("kind", [{}, {"one": True}, {"generated": True, "silent": 0.2, "skill": 0.5}])
def test_in_a_browser(browser, tmp_path, kind):
    metrics, predictions, questions = evaluation(**kind)
    long = {"contaminated": "long" * 60, "model": "organisation/" + "x" * 120, "test_file": "/" + "y" * 200}
    file = tmp_path / "報告.html"
    file.write_text(render_html({**metrics, **long}, predictions, questions), encoding="utf-8")
    for width in (400, 1200):
        page, said, asked = browser.new_page(viewport={"width": width, "height": 800}), [], []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(file.as_uri())
        assert said == [] and asked == [file.as_uri()], "nothing is loaded from elsewhere"
        assert page.evaluate("document.documentElement.scrollWidth") == width, "no scrolling sideways"
        boxes = page.evaluate("[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect()).map(box => [box.width, box.height])")
        assert all(wide > 300 and high > 90 for wide, high in boxes)
        hidden = "[...document.querySelectorAll('details article')].filter(one => !one.checkVisibility()).length"
        if metrics["comparison"]:
            assert page.evaluate(hidden) > 0
            page.emulate_media(media="print")
            page.wait_for_function(f"{hidden} === 0")  # paper shows what a click would
        page.close()


@pytest.mark.parametrize("width", [400, 1200])
def test_labels_stay_inside_their_figures(browser, scored, tmp_path, width):
    file = tmp_path / "report.html"
    file.write_text(render_html(*scored), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(file.as_uri())
    outside = page.evaluate(
        "[...document.querySelectorAll('svg')].flatMap(svg => { const frame = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('text')].filter(text => { const box = text.getBoundingClientRect();"
        " return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1 }).map(text => text.textContent) })"
    )
    page.close()
    assert outside == []


def test_a_ladder_with_long_names_keeps_them():
    names = [f"{statutes}, direct, few-shot: {model}" for statutes in ("retrieved", "shuffled") for model in ("base", "tuned")]
    shown = texts(to_svg(draw_accuracies([(name, 0.5, 0.4, 0.6) for name in names], majority=0.3)))
    assert set(names) <= set(shown)
