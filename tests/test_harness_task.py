"""`lawft harness`: what lm-evaluation-harness makes of the task folder is what `lawft eval` makes of the same rows."""

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from conftest import TINY_MODEL, rows_file, run_lawft
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.data.chat import encode, load_tokenizer, prompt_text
from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.data.rows import read_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import ask, unique_questions
from lawft_trl.evaluation.harness_task import SCORING, write_harness_task
from lawft_trl.evaluation.metrics import Prediction, content_answers, content_gold, describe_model

KWARGS = {"enable_thinking": False}
SYSTEM = "あなたは法律の専門家です。{{ 波括弧 }}も{% そのまま %}渡る。\n"


def records(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_rows(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def few(sample_data, folder, pattern, questions=12):
    """The first questions of the held-out sample rows."""
    return write_rows(folder / pattern / f"test_{questions}.jsonl", records(rows_file(sample_data, "test", pattern))[:questions])


def load(path):
    """A Python file by its path, as the harness loads it."""
    spec = importlib.util.spec_from_file_location("content_average", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The folder


def test_docs_are_the_rows_in_four_orders(sample_data, tmp_path, tiny_tokenizer):
    tasks = write_harness_task([sample_data], tmp_path / "task")
    assert set(tasks) == {"sample_none", "sample_retrieved", "sample_gold"}
    for pattern, kind in (("direct_norag", "none"), ("direct_rag", "retrieved"), ("direct_gold", "gold")):
        asked = ask(unique_questions(read_rows(rows_file(sample_data, "test", pattern))), tiny_tokenizer, {}, letters=False)
        docs = records(tmp_path / "task" / f"sample_{kind}.jsonl")
        assert tasks[f"sample_{kind}"] * 4 == len(docs) == len(asked)
        assert [[{"role": "user", "content": doc["prompt"]}] for doc in docs] == [item.messages for item in asked]
        for key in ("id", "order", "gold", "group", "known_issue"):
            assert [doc[key] for doc in docs] == [getattr(item.prediction(letter=None), key) for item in asked]
        assert set(Counter(doc["gold"] for doc in docs).values()) == {len(docs) // 4}, "each letter is the gold one equally often"
        assert [doc["order"] for doc in docs] == list(ORDERS) * (len(docs) // 4)


def test_the_same_rows_give_the_same_folder(sample_data, tmp_path):
    for name in "one", "two":
        write_harness_task([sample_data], tmp_path / name)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert set(one) >= {"sample.yaml", "sample_gold.yaml", "sample_gold.jsonl", "content_average.py", "README.md", "ATTRIBUTION.txt"}
    assert one["ATTRIBUTION.txt"] == (sample_data / "ATTRIBUTION.txt").read_bytes()
    assert "fictional statutes" in one["README.md"].decode(), "the README names the source"


def test_train_dev_and_test_files_give_every_question_once(sample_data, tmp_path):
    tasks = write_harness_task(sorted((sample_data / "direct_gold").glob("*.jsonl")), tmp_path / "task")
    assert tasks == {"sample_gold": len(records(sample_data / "questions.jsonl"))}


def test_the_command(sample_data, tmp_path):
    file, out = few(sample_data, tmp_path, "direct_gold"), tmp_path / "task"
    made = run_lawft("harness", file, "--out", out, "--name", "mine", check=True)
    assert "mine_gold: 12 questions in four orders" in made.stdout
    assert "--tasks mine " in made.stdout
    assert "WARNING: no ATTRIBUTION.txt" in made.stdout
    again = run_lawft("harness", file, "--out", out)
    assert again.returncode == 2
    assert "already there" in again.stderr and "--force" in again.stderr
    run_lawft("harness", file, "--out", out, "--force", check=True)
    assert not (out / "mine.yaml").exists() and (out / "sample.yaml").exists(), "the old folder is gone as a whole"


def test_lawqa_jp(lawqa_dir, tmp_path):
    run_lawft("data", "lawqa", "--from", lawqa_dir, "--out", tmp_path / "lawqa_jp", check=True)
    files = [file for pattern in ("direct_norag", "direct_gold") for file in sorted((tmp_path / "lawqa_jp" / pattern).glob("*.jsonl"))]
    assert write_harness_task(files, tmp_path / "task") == {"lawqa_jp_none": 140, "lawqa_jp_gold": 140}
    for kind in "none", "gold":
        docs = records(tmp_path / "task" / f"lawqa_jp_{kind}.jsonl")
        assert Counter(doc["gold"] for doc in docs) == dict.fromkeys(LETTERS, 140)
        assert all(("【条文】" in doc["prompt"]) == (kind == "gold") for doc in docs)
    assert "公共データ利用規約" in (tmp_path / "task" / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "task" / "LICENSE.md").is_file()


# What is refused


def changed(**meta):
    return lambda row: {**row, "meta": {**row["meta"], **meta}}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda row: {**row, "output": "分からない", "meta": {**row["meta"], "correct": None}}, r"test_12.jsonl:3: no gold letter; set meta.correct"),
        (lambda row: {**row, "input": row["input"] + "。"}, r"test_12.jsonl:3: its prompt is not what meta.question"),
        (changed(retriever_type=None), r"test_12.jsonl:3: it shows statutes, but meta.retriever_type does not say whose"),
        (changed(retriever_type="bm25"), r"test_12.jsonl: its rows show the deciding statutes \(.*:1\), retrieved statutes \(.*:3\)"),
        (changed(dataset="other"), r"no name for the tasks: give one with --name\n.*other, sample"),
    ],
)
def test_rows_that_make_no_task(sample_data, tmp_path, change, problem):
    rows = records(few(sample_data, tmp_path, "direct_gold"))
    file = write_rows(tmp_path / "direct_gold" / "test_12.jsonl", [*rows[:2], change(rows[2]), *rows[3:]])
    with pytest.raises(InputError, match=problem):
        write_harness_task([file], tmp_path / "task")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["direct_gold"], "nothing half-written"


def test_all_faulty_rows_are_named_at_once(sample_data, tmp_path):
    rows = [{**row, "input": row["input"] + "。"} for row in records(few(sample_data, tmp_path, "direct_gold"))]
    with pytest.raises(InputError, match=r"12 error\(s\)"):
        write_harness_task([write_rows(tmp_path / "rows.jsonl", rows)], tmp_path / "task")


def test_tasks_about_different_questions(sample_data, tmp_path):
    files = [few(sample_data, tmp_path, "direct_norag", 12), few(sample_data, tmp_path, "direct_gold", 10)]
    with pytest.raises(InputError, match="different questions.*\n.*the deciding statutes: 2 of 12 questions are missing"):
        write_harness_task(files, tmp_path / "task")


@pytest.mark.parametrize("name", ["a,b", "all*", "../up", "two words", ""])
def test_names_the_harness_cannot_read(sample_data, tmp_path, name):
    with pytest.raises(InputError, match="cannot name a task"):
        write_harness_task([few(sample_data, tmp_path, "direct_gold")], tmp_path / "task", name=name)


def test_a_folder_that_holds_out_nothing_or_is_divided_into_folds(sample_data, tmp_path):
    with pytest.raises(InputError, match="no held-out rows here.*\n.*--test-share"):
        write_harness_task([sample_data / "direct_gold"], tmp_path / "task")
    (tmp_path / "folds" / "fold_1_of_2").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no held-out rows here.*\n.*fold_1_of_2"):
        write_harness_task([tmp_path / "folds"], tmp_path / "task")


def test_something_else_is_never_replaced(sample_data, tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "thesis.tex").write_text("…")
    with pytest.raises(InputError, match="something else is there"):
        write_harness_task([few(sample_data, tmp_path, "direct_gold")], tmp_path / "task", force=True)
    assert (tmp_path / "task" / "thesis.tex").exists()


# The scoring that goes with the folder

logprobs = st.floats(-30, 0).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(st.sampled_from(LETTERS), st.lists(st.tuples(*[logprobs] * 4), min_size=4, max_size=4)), min_size=1, max_size=6))
def test_content_accuracy_is_that_of_lawft_eval(questions):
    scoring, items, predictions = load(SCORING), [], []
    for number, (gold, orders) in enumerate(questions):
        for order, values in zip(ORDERS, orders, strict=True):
            letter = LETTERS[order.index(gold)]
            scored = scoring.score({"id": str(number), "order": order, "gold": letter}, [(value, False) for value in values])
            items.append(scored["content_acc"])
            named = dict(zip(LETTERS, values, strict=True))
            predictions.append(Prediction(id=str(number), group="", order=order, prompt_sha256="", gold=letter, letter=None, letter_logprobs=named))
    answers, right = content_answers(predictions), content_gold(predictions)
    assert scoring.content_accuracy(items) == sum(answers[key] == right[key] for key in right) / len(right)


def test_a_preference_for_a_letter_cancels_and_a_draw_is_not_right():
    scoring = load(SCORING)

    def accuracy(knowledge, preference, orders=ORDERS):
        """Of a question whose answer is its choice b."""
        docs = [{"id": "q", "order": order, "gold": LETTERS[order.index("b")]} for order in orders]
        values = [[(knowledge[choice] + preference[letter], False) for letter, choice in zip(LETTERS, doc["order"], strict=True)] for doc in docs]
        scores = [scoring.score(doc, value) for doc, value in zip(docs, values, strict=True)]
        return scoring.mean([score["acc"] for score in scores]), scoring.content_accuracy([score["content_acc"] for score in scores])

    nothing, always_c = dict.fromkeys("abcd", 0.0), {"a": 0.0, "b": 0.0, "c": 9.0, "d": 0.0}
    assert accuracy({**nothing, "b": 0.1}, always_c) == (0.25, 1.0)
    assert accuracy({**nothing, "d": 0.1}, always_c) == (0.25, 0.0)
    assert accuracy(nothing, always_c) == (0.25, 0.0), "four equal choices are no answer"
    assert math.isnan(accuracy({**nothing, "b": 0.1}, nothing, ORDERS[:3])[1]), "a question not asked in all orders does not count"


# Beside the harness


@pytest.fixture(scope="module")
def tasks(sample_data, tmp_path_factory):
    """Two task folders side by side, the second with a system message: where they lie, and the file of each task's rows."""
    folder = tmp_path_factory.mktemp("harness")
    files = {f"sample_{kind}": few(sample_data, folder / "rows", pattern) for kind, pattern in (("none", "direct_norag"), ("gold", "direct_gold"))}
    write_harness_task(list(files.values()), folder / "tasks" / "plain")
    spoken = [
        {"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}], "meta": row["meta"]}
        for row in records(files["sample_gold"])
    ]
    files["spoken_gold"] = write_rows(folder / "rows" / "spoken.jsonl", spoken)
    write_harness_task([files["spoken_gold"]], folder / "tasks" / "spoken", name="spoken")
    return SimpleNamespace(folder=folder, files=files)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tiny model with a chat template that, as Qwen3's does, closes an empty thought unless the model is to think."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(TINY_MODEL, folder)
    template = folder / "chat_template.jinja"
    thought = "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    template.write_text(template.read_text(encoding="utf-8") + thought, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def harness(tasks, model):
    """What `lm_eval` finds: task -> its logged samples in the docs' order, and its accuracies."""
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: the task folder was NOT run")
    command = [sys.executable, "-m", "lm_eval", "--tasks", "sample,spoken", "--include_path", tasks.folder / "tasks", "--model", "hf"]
    command += ["--model_args", f"pretrained={model},enable_thinking=False,add_bos_token=False,dtype=float32", "--device", "cpu"]
    command += ["--apply_chat_template", "--batch_size", "8", "--log_samples", "--output_path", tasks.folder / "found"]
    environment = os.environ | {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(list(map(str, command)), cwd=tasks.folder, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-4000:]
    (results,) = tasks.folder.glob("found/*/results_*.json")
    accuracies = json.loads(results.read_text(encoding="utf-8"))["results"]
    found = {}
    for task in tasks.files:
        (file,) = tasks.folder.glob(f"found/*/samples_{task}_*.jsonl")
        found[task] = SimpleNamespace(samples=sorted(records(file), key=lambda sample: sample["doc_id"]), accuracies=accuracies[task])
    return found


@pytest.fixture(scope="module")
def ours(tasks, model):
    """Task -> what we ask, our predictions, and the log-probability of the white space that ends the prompt."""
    import torch
    from transformers import AutoModelForCausalLM

    from lawft_trl.evaluation.letters import score_letters

    tokenizer, network = load_tokenizer(str(model)), AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    def white_space(item) -> float:
        text = prompt_text(tokenizer, item.messages, KWARGS)
        assert text.endswith("</think>\n\n")
        start = len(encode(tokenizer, text.rstrip()))
        ids = torch.tensor(item.input_ids)
        logprobs = network(ids[None]).logits[0].log_softmax(dim=-1)
        return logprobs[range(start - 1, len(ids) - 1), ids[start:]].sum().item()

    found = {}
    for task, file in tasks.files.items():
        asked = ask(unique_questions(read_rows(file)), tokenizer, KWARGS)
        predictions = score_letters(network, asked, pad_token_id=tokenizer.pad_token_id, batch_size=8, progress=task)
        with torch.inference_mode():
            before = [white_space(item) for item in asked]
        prompts = [prompt_text(tokenizer, item.messages, KWARGS) for item in asked]
        found[task] = SimpleNamespace(prompts=prompts, predictions=predictions, before=before)
    return found


@pytest.mark.parametrize("task", ["sample_none", "sample_gold", "spoken_gold"])
def test_the_harness_finds_what_we_find(task, harness, ours):
    theirs, mine = harness[task], ours[task]
    assert len(theirs.samples) == len(mine.predictions) == 48
    for sample, prompt, prediction, before in zip(theirs.samples, mine.prompts, mine.predictions, mine.before, strict=True):
        assert (sample["doc"]["id"], sample["doc"]["order"], sample["doc"]["gold"]) == (prediction.id, prediction.order, prediction.gold)
        asked = [sample["arguments"][f"gen_args_{place}"] for place in range(4)]
        assert [(pair["arg_0"], pair["arg_1"]) for pair in asked] == [(prompt, letter) for letter in LETTERS]
        logprobs = dict(zip(LETTERS, (float(response[0]) for response in sample["filtered_resps"]), strict=True))
        # The harness counts the white space that ends the prompt to what it scores: the same for all four letters.
        assert {letter: value - before for letter, value in logprobs.items()} == pytest.approx(prediction.letter_logprobs, abs=1e-3)
        assert max(logprobs, key=logprobs.__getitem__) == prediction.letter
        assert sample["acc"] == (prediction.letter == prediction.gold)
    described = describe_model(mine.predictions)
    assert theirs.accuracies["acc,none"] == pytest.approx(described["single_order_accuracy"])
    assert theirs.accuracies["content_acc,none"] == pytest.approx(described["accuracy"])
    assert 0 < described["accuracy"] < 1, "an accuracy that could be anything else"
    assert theirs.accuracies["acc_stderr,none"] == theirs.accuracies["content_acc_stderr,none"] == "N/A"
    assert (SYSTEM in theirs.samples[0]["arguments"]["gen_args_0"]["arg_0"]) == (task == "spoken_gold")


def test_the_harness_reads_the_same_tokens(tasks):
    """Also with a tokenizer that puts a token before every text, as long as `add_bos_token=False` is said."""
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: its tokens were NOT compared")
    from lm_eval.models.huggingface import HFLM
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModelForCausalLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY_MODEL), load_tokenizer(str(TINY_MODEL))
    start = ("<|endoftext|>", tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start[0]} $A", special_tokens=[start])
    asked = ask(unique_questions(read_rows(tasks.files["sample_gold"]))[:3], tokenizer, KWARGS)

    def tokens(**settings):
        theirs = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", **settings)
        pairs = [theirs._encode_pair(prompt_text(tokenizer, item.messages, KWARGS), letter) for item in asked for letter in LETTERS]
        return [context + continuation for context, continuation in pairs]

    mine = [[*item.input_ids, label] for item in asked for label in item.label_ids]
    assert tokens(add_bos_token=False) == mine
    assert tokens() == [[start[1], *ids] for ids in mine], "without the option the prompt begins with a token the template did not write"
