"""Punctuation as tokens: nothing where a tokenizer has them, else ordinary tokens whose rows are trained and come back."""

import pytest
from conftest import QUICKSTART, TINY_MODEL

from lawft_trl.data.chat import encode, load_tokenizer
from lawft_trl.data.punctuation import (
    PUNCTUATION,
    add_punctuation,
    describe_punctuation,
    missing_punctuation,
)
from lawft_trl.errors import InputError
from lawft_trl.recipe import load_recipe

TEXT = "では、君は何を知っているのかね？そうだ！正義である。"


@pytest.fixture
def tokenizer():
    return load_tokenizer(str(TINY_MODEL))


def test_nothing_is_added_to_qwen2(qwen2_tokenizer):
    before, size = encode(qwen2_tokenizer, TEXT), len(qwen2_tokenizer)
    assert missing_punctuation(qwen2_tokenizer) == []
    assert add_punctuation(qwen2_tokenizer) == {}
    assert (encode(qwen2_tokenizer, TEXT), len(qwen2_tokenizer)) == (before, size)
    assert "nothing was added" in describe_punctuation(qwen2_tokenizer, {})


def test_what_the_tiny_tokenizer_cuts_is_added_as_ordinary_tokens(tokenizer, tmp_path):
    size = len(tokenizer)
    assert missing_punctuation(tokenizer) == ["！", "？"]
    pieces = {mark: encode(tokenizer, mark) for mark in ("！", "？")}
    added = add_punctuation(tokenizer)
    assert added == {size: pieces["！"], size + 1: pieces["？"]}
    assert missing_punctuation(tokenizer) == [] and add_punctuation(tokenizer) == {}, "a second time there is nothing to do"
    ids = encode(tokenizer, TEXT)
    assert ids.count(size) == ids.count(size + 1) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == TEXT, "decoding leaves no mark out"
    assert not {"！", "？"} & set(tokenizer.all_special_tokens)
    assert "！ (was 3 tokens), ？ (was 3 tokens)" in describe_punctuation(tokenizer, added)
    assert "whole embedding and output projection, for they have grown (1.5 MiB)" in describe_punctuation(tokenizer, added, whole=3 * 2**19)
    tokenizer.save_pretrained(tmp_path)
    assert encode(load_tokenizer(str(tmp_path)), TEXT) == ids


def test_a_special_token_is_no_mark(tokenizer):
    """What the notebook did: registered as special tokens, the marks are lost when an answer is decoded."""
    tokenizer.add_special_tokens({"additional_special_tokens": list(PUNCTUATION)})
    assert tokenizer.decode(encode(tokenizer, TEXT), skip_special_tokens=True) == "では君は何を知っているのかねそうだ正義である"
    assert missing_punctuation(tokenizer) == list(PUNCTUATION)


@pytest.mark.parametrize("tied", [False, True])
def test_rows_begin_as_their_pieces_are_trained_and_come_back(tokenizer, tmp_path, tied):
    import torch
    from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    from lawft_trl.evaluation.added_rows import grow_embeddings
    from lawft_trl.training.punctuation_rows import embedding_bytes, with_trained_rows

    base = tmp_path / "base"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(TINY_MODEL, tie_word_embeddings=tied))
    model.save_pretrained(base)
    size = model.get_input_embeddings().weight.shape[0]
    added = add_punctuation(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(base)
    before = model.get_input_embeddings().weight.detach().clone()
    grow_embeddings(model, added)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert layer.weight.shape[0] == size + 2
        for token, pieces in added.items():
            assert torch.allclose(layer.weight[token], layer.weight[pieces].mean(dim=0))
    lora = with_trained_rows({"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}, model, added)
    assert len(lora["trainable_token_indices"]) == (1 if tied else 2)
    tuned = get_peft_model(model, LoraConfig(**lora))
    ids = torch.tensor([encode(tokenizer, TEXT)])
    optimizer = torch.optim.SGD([weight for weight in tuned.parameters() if weight.requires_grad], lr=0.05)
    first = None
    for _ in range(3):
        loss = tuned(input_ids=ids, labels=ids).loss
        first = first if first is not None else loss.item()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < first
    rows = tuned.get_input_embeddings().weight.detach()
    assert torch.equal(rows[:size], before), "no other row moved"
    assert all(not torch.allclose(rows[token], before[pieces].mean(dim=0)) for token, pieces in added.items()), "these did"
    tuned.eval()
    expected = tuned(input_ids=ids).logits.detach()

    tuned.save_pretrained(tmp_path / "run")
    tokenizer.save_pretrained(tmp_path / "run")
    found = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run").eval()
    assert torch.allclose(found(input_ids=ids).logits, expected, atol=1e-5)
    written = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert any("trainable_tokens_delta" in name for name in written)
    trained = sum(weight.nbytes for weight in tuned.parameters() if weight.requires_grad)
    assert embedding_bytes(tuned) >= before.nbytes, "PEFT saves what has grown as a whole"
    assert sum(tensor.nbytes for tensor in written.values()) == pytest.approx(trained + embedding_bytes(tuned), rel=0.01)


def test_nothing_grows_where_nothing_was_added():
    from transformers import AutoModelForCausalLM

    from lawft_trl.evaluation.added_rows import grow_embeddings
    from lawft_trl.training.punctuation_rows import with_trained_rows

    model = AutoModelForCausalLM.from_pretrained(TINY_MODEL)
    size = model.get_input_embeddings().weight.shape
    grow_embeddings(model, {})
    assert model.get_input_embeddings().weight.shape == size
    assert with_trained_rows({"r": 2}, model, {}) == {"r": 2}


@pytest.mark.parametrize("tied", [False, True])
def test_the_rows_are_in_trls_loss(tokenizer, tmp_path, tied):
    """TRL reads weight and bias of the output projection itself, past PEFT's wrapper."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from lawft_trl.evaluation.added_rows import grow_embeddings
    from lawft_trl.training.punctuation_rows import show_bias, with_trained_rows

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(TINY_MODEL, tie_word_embeddings=tied))
    added = add_punctuation(tokenizer)
    grow_embeddings(model, added)
    ids = encode(tokenizer, TEXT)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[]),
        train_dataset=Dataset.from_list([{"input_ids": ids, "completion_mask": [0] * 3 + [1] * (len(ids) - 3)}]),
        processing_class=tokenizer,
        peft_config=LoraConfig(**with_trained_rows({"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}, model, added)),
    )
    show_bias(trainer.model)
    trainer.compute_loss(trainer.model, trainer.data_collator([trainer.train_dataset[0]])).backward()
    rows = {name: weight for name, weight in trainer.model.named_parameters() if "trainable_tokens_delta" in name and weight.requires_grad}
    assert len(rows) == (1 if tied else 2)
    assert all((weight.grad.abs().sum(dim=1) > 0).all() for weight in rows.values())


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_rows_that_would_not_be_saved_are_refused(start):
    from lawft_trl.training.adapters import adapter_config

    with pytest.raises(InputError, match=f"init_lora_weights={start} cannot be saved with the rows of 2 added marks") as error:
        adapter_config(load_recipe(QUICKSTART, ["data.add_punctuation=true", f"lora.init_lora_weights={start}"]))
    assert error.value.problems == ["set data.add_punctuation=false, or lora.init_lora_weights=true"]


@pytest.mark.parametrize("kind", ["MULTI_GPU", "DEEPSPEED"])
def test_with_several_processes_each_has_the_grown_model_whole(tmp_path, monkeypatch, kind):
    """As TRL loads a model that it is given by name: without the map, which would leave a part of this one on the disk."""
    from accelerate.utils import DistributedType
    from trl import SFTConfig

    from lawft_trl.training.weights import model_to_train

    spread = {"device_map": "auto", "max_memory": {"cpu": "4MB"}}
    args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], model_init_kwargs=spread)
    monkeypatch.setattr(args.distributed_state, "distributed_type", DistributedType[kind])
    model = model_to_train(load_recipe(QUICKSTART, ["data.add_punctuation=true"]), args, None)
    assert not hasattr(model, "hf_device_map") and not any(weight.is_meta for weight in model.parameters())
