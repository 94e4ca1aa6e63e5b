"""Which tokens are in the loss, proven with real tokenizers and on the real trainer."""

import dataclasses

import pytest
from conftest import TINY_MODEL, rows_file, run_lawft
from hypothesis import given, settings
from hypothesis import strategies as st
from test_questions import question
from test_rows import record, rows_of

from lawft_trl.data.chat import encode, end_of_turn, prompt_fingerprint, prompt_text
from lawft_trl.data.prompts import build_messages
from lawft_trl.data.rows import Row, read_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import ask, unique_questions
from lawft_trl.training.supervision import encode_rows, prove_trainer

NO_THINKING = {"enable_thinking": False}

# In the manner of Qwen3: an answer at the end carries a think block, and the prompt opens an empty one on request.
THINKING_TEMPLATE = """\
{%- for m in messages -%}
{{ '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif -%}
{{ m.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif -%}
{% endif -%}"""


def row(prompt="問い", output="答え", **meta):
    return Row(prompt=({"role": "user", "content": prompt},), output=output, meta=meta, source="rows.jsonl:1")


def supervised_text(item, tokenizer):
    return tokenizer.decode(item.input_ids[item.prompt_length :], skip_special_tokens=False)


def test_real_qwen2_supervises_exactly_the_letter_and_the_end_of_turn(qwen2_tokenizer, lawqa_dir, tmp_path):
    """On every row of lawqa_jp in both direct forms; here pad and EOS are the same token, and not the end of turn."""
    assert qwen2_tokenizer.pad_token == qwen2_tokenizer.eos_token != "<|im_end|>"
    assert end_of_turn(qwen2_tokenizer, NO_THINKING) == "<|im_end|>"
    run_lawft("data", "lawqa", "--from", lawqa_dir, "--out", tmp_path / "lawqa", check=True)
    (turn_end,) = encode(qwen2_tokenizer, "<|im_end|>")
    for pattern in ("direct_norag", "direct_gold"):
        rows = [r for file in sorted((tmp_path / "lawqa" / pattern).iterdir()) for r in read_rows(file)]
        assert len({r.id for r in rows}) == 140
        for item in encode_rows(rows, qwen2_tokenizer, template_kwargs=NO_THINKING, max_length=None):
            assert len(item.input_ids) - item.prompt_length == 2, "one token for the letter, one for the end of turn"
            assert item.input_ids[-1] == turn_end
            assert supervised_text(item, qwen2_tokenizer) == item.row.gold + "<|im_end|>"
            assert item.columns["completion_mask"] == [0] * item.prompt_length + [1, 1]


def test_training_prompts_are_evaluation_prompts(tiny_tokenizer, sample_data):
    """Contract 4: the prompt tokens at training time are the prompt tokens at evaluation time."""
    rows = read_rows(rows_file(sample_data, "train"))[:40]
    trained = {
        (item.row.id, item.row.meta["order"]): item.input_ids[: item.prompt_length]
        for item in encode_rows(rows, tiny_tokenizer, template_kwargs=NO_THINKING, max_length=None)
    }
    originals = [r for r in rows if r.meta["order"] == "abcd"]
    asked = ask(originals, tiny_tokenizer, NO_THINKING)
    assert {(item.row.id, item.order): item.input_ids for item in asked} == trained


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1).filter(lambda t: t.strip() and "<|" not in t))
def test_any_output_is_supervised_whole_or_refused(tiny_tokenizer, output):
    try:
        (item,) = encode_rows([row(output=output)], tiny_tokenizer, template_kwargs=NO_THINKING, max_length=None)
    except InputError as error:
        assert "supervised tokens decode to" in str(error) or "merges with the end of the prompt" in str(error)
        return
    assert supervised_text(item, tiny_tokenizer) == output + "<|im_end|>"
    assert item.input_ids[: item.prompt_length] == encode(tiny_tokenizer, prompt_text(tiny_tokenizer, item.row.prompt, NO_THINKING))


def test_thinking_templates_supervise_no_think_block(tiny_tokenizer_copy):
    tiny_tokenizer_copy.chat_template = THINKING_TEMPLATE
    (item,) = encode_rows([row(output="b")], tiny_tokenizer_copy, template_kwargs=NO_THINKING, max_length=None)
    assert supervised_text(item, tiny_tokenizer_copy) == "b<|im_end|>"
    assert tiny_tokenizer_copy.decode(item.input_ids).endswith("<think>\n\n</think>\n\nb<|im_end|>")


@pytest.fixture
def tiny_tokenizer_copy():
    from lawft_trl.data.chat import load_tokenizer

    return load_tokenizer(str(TINY_MODEL))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>\n{% endfor %}", "<|im_end|>"),
        ("{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}", "<|endoftext|>"),
        ("{% for m in messages %}{{ m.content }} <|endoftext|>{% endfor %}", "<|endoftext|>"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "<|im_end|>"),  # none: the EOS token
    ],
)
def test_end_of_turn_is_read_off_the_template(tiny_tokenizer_copy, template, expected):
    tiny_tokenizer_copy.chat_template = template
    assert end_of_turn(tiny_tokenizer_copy, {}) == expected


def test_faults_are_refused_all_at_once(tiny_tokenizer):
    bad = [row(output="a<|im_end|>"), row(prompt="長い" * 400)]
    with pytest.raises(InputError) as caught:
        encode_rows(bad, tiny_tokenizer, template_kwargs=NO_THINKING, max_length=100)
    assert "contains the end-of-turn token <|im_end|>" in str(caught.value)
    assert "1 of 2 rows are longer than training.max_length=100" in str(caught.value)


def test_an_output_that_merges_with_the_prompt_is_refused(qwen2_tokenizer):
    with pytest.raises(InputError, match="merges with the end of the prompt"):
        encode_rows([row(output="\n答え: a")], qwen2_tokenizer, template_kwargs=NO_THINKING, max_length=None)


def test_tokenizers_without_a_template_or_a_system_role_are_explained(tiny_tokenizer_copy):
    tiny_tokenizer_copy.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    with pytest.raises(InputError, match="set pattern.system=null"):
        prompt_text(tiny_tokenizer_copy, [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], {})
    tiny_tokenizer_copy.chat_template = "{{ raise_exception('Only one turn') }}"
    with pytest.raises(InputError, match="Only one turn"):
        encode_rows([row()], tiny_tokenizer_copy, template_kwargs={}, max_length=None)
    tiny_tokenizer_copy.chat_template = None
    with pytest.raises(InputError, match="has no chat template"):
        encode_rows([row()], tiny_tokenizer_copy, template_kwargs={}, max_length=None)


def test_a_template_that_writes_the_date_must_be_given_one(tiny_tokenizer_copy):
    tiny_tokenizer_copy.chat_template = (
        "{% set date_string = date_string if date_string is defined else strftime_now('%d %b %Y') %}{{ date_string }}"
        "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    )
    with pytest.raises(InputError, match="date_string"):
        encode_rows([row()], tiny_tokenizer_copy, template_kwargs={}, max_length=None)
    (item,) = encode_rows([row()], tiny_tokenizer_copy, template_kwargs={"date_string": "26 Jul 2024"}, max_length=None)
    assert tiny_tokenizer_copy.decode(item.input_ids).startswith("26 Jul 2024")


def test_statutes_are_trimmed_at_passage_borders_from_the_last(tiny_tokenizer, tmp_path):
    statutes = [f"## 架空法\n### 第{n}条\n期間は、{n}日とする。" for n in (1, 2, 3)]
    (full,) = rows_of(tmp_path, record(statutes=statutes))
    length = len(encode_rows([full], tiny_tokenizer, template_kwargs=NO_THINKING, max_length=None)[0].input_ids)
    options = {"template_kwargs": NO_THINKING, "overlong": "trim_statutes"}
    (item,) = encode_rows([full], tiny_tokenizer, max_length=length - 1, **options)
    assert item.dropped_statutes == 1
    assert list(item.row.prompt) == build_messages(question(), answer="direct", statutes=statutes[:2])
    with pytest.raises(InputError, match="longer than"):  # one passage, the question, choices and answer always stay
        encode_rows([full], tiny_tokenizer, max_length=20, **options)
    theirs = dataclasses.replace(full, prompt=({"role": "user", "content": full.prompt[0]["content"] + "?"},))
    with pytest.raises(InputError, match="longer than"):  # not rendered here, so nothing is known of its passages
        encode_rows([theirs], tiny_tokenizer, max_length=length - 1, **options)


def test_evaluation_trims_as_training_does(tiny_tokenizer, tmp_path):
    statutes = [f"## 架空法\n### 第{n}条\n期間は、{n}日とする。" for n in (1, 2, 3)]
    (full,) = rows_of(tmp_path, record(statutes=statutes))
    (trained,) = encode_rows([full], tiny_tokenizer, template_kwargs=NO_THINKING, max_length=None)
    whole = ask([full], tiny_tokenizer, NO_THINKING)
    fewer = ask([full], tiny_tokenizer, NO_THINKING, trim_to=len(trained.input_ids) - 1)
    assert [len(item.row.meta["statutes"]) for item in (*whole, *fewer)] == [3] * 4 + [2] * 4
    options = {"template_kwargs": NO_THINKING, "max_length": len(trained.input_ids) - 1, "overlong": "trim_statutes"}
    (trimmed,) = encode_rows([full], tiny_tokenizer, **options)
    assert fewer[0].input_ids == trimmed.prompt_ids


def test_ids_of_two_data_sets_are_not_mixed(tmp_path):
    other = record(statutes=[])
    other["meta"]["dataset"] = "another"
    with pytest.raises(InputError, match="id of a question of another data set"):
        unique_questions(rows_of(tmp_path, record(), other))


def test_fingerprint_changes_with_whatever_is_asked(tiny_tokenizer_copy, monkeypatch):
    def fingerprint(system=None, **kwargs):
        return prompt_fingerprint(tiny_tokenizer_copy, system=system, template_kwargs=kwargs)

    first = fingerprint()
    assert fingerprint() == first
    seen = {first, fingerprint(system="簡潔に。")}
    monkeypatch.setattr("lawft_trl.data.prompts._TASK", "問いに答えよ。")
    seen.add(fingerprint())
    monkeypatch.undo()
    tiny_tokenizer_copy.chat_template = THINKING_TEMPLATE
    seen.add(fingerprint(enable_thinking=False))
    assert len(seen) == 4
    assert fingerprint() == first, "another template that writes the same tokens asks the same"


@pytest.fixture
def trainer_and_rows(tiny_tokenizer, tmp_path):
    """A real SFTTrainer on six rows of unequal length."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = [row(prompt="問い" * n, output="答え" * (n % 3 + 1)) for n in range(1, 7)]
    encoded = encode_rows(rows, tiny_tokenizer, template_kwargs=NO_THINKING, max_length=None)
    config = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, completion_only_loss=True, per_device_train_batch_size=4, report_to=[]
    )
    dataset = Dataset.from_list([item.columns for item in encoded])
    trainer = SFTTrainer(
        str(TINY_MODEL), args=config, train_dataset=dataset, processing_class=tiny_tokenizer, peft_config=LoraConfig(task_type="CAUSAL_LM")
    )
    return trainer, encoded


def test_the_real_trainer_is_proven(trainer_and_rows):
    prove_trainer(*trainer_and_rows)


def test_a_trainer_that_loses_or_unmasks_rows_is_refused(trainer_and_rows):
    trainer, encoded = trainer_and_rows
    kept = trainer.train_dataset
    trainer.train_dataset = kept.select(range(5))
    with pytest.raises(RuntimeError, match="kept 5 of 6 rows"):
        prove_trainer(trainer, encoded)
    trainer.train_dataset = kept.map(lambda example: {"labels": example["input_ids"]})
    with pytest.raises(RuntimeError, match="do not supervise exactly"):
        prove_trainer(trainer, encoded)


def test_the_old_collator_that_overwrites_labels_is_refused(trainer_and_rows, tiny_tokenizer):
    """The fault the project's users began with: `mlm=False` builds labels from the inputs and drops the mask."""
    from transformers import DataCollatorForLanguageModeling

    trainer, encoded = trainer_and_rows
    collate = DataCollatorForLanguageModeling(tiny_tokenizer, mlm=False)
    trainer.data_collator = lambda rows: collate([{"input_ids": r["input_ids"]} for r in rows])
    with pytest.raises(RuntimeError):
        prove_trainer(trainer, encoded)
