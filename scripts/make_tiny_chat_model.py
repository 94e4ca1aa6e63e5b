"""Trains the bundled tiny chat model: a Gemma-2 of a few megabytes that says plain Japanese sentences, and little else.

The style recipes need a model that writes. One of this size does not learn Japanese from eighty dialogues; it learns them by
heart, and answers anything with pieces of them, politely and without a question. That is enough of a base: what LoRA then
makes of it is heard in every reply. It has Gemma's architecture, special tokens and chat template, without a system role,
so that a rehearsal of a Gemma recipe meets what the real model would make it meet.

In dialogues the weights see the plain ones only. As running text without roles they also read, some eight times, the Socratic
dialogues that are trained on, as a real model has read all kinds of books: LoRA can change a manner, but teaches no words. Dialogues that
are held out of the shipped set are not read.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import torch
from tiny_models import byte_level_bpe, save
from tqdm import tqdm
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

from lawft_trl.data.dialogue_rows import build_dialogues

ASSETS = Path(__file__).resolve().parents[1] / "lawft_trl" / "assets"
OUT = ASSETS / "tiny_chat_model"
PAD, EOS, BOS, START, END = "<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"
VOCABULARY = 3072
# Marks stand alone, so that 。、！？ are single tokens as they are in Gemma's own vocabulary; other text splits by script.
PIECES = r"[。、！？「」]|[\p{Han}々]+|\p{Hiragana}+|[\p{Katakana}ー]+|[A-Za-z]+|\d|\n+|[^\S\n]+|."

# Gemma's: user and model by turns, no system role; `assistant` is another name of `model`.
CHAT_TEMPLATE = """{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {{- raise_exception('System role not supported') }}
    {%- endif %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\\n' }}
{%- endif %}
"""

README = """# Tiny chat model

A Gemma-2 causal LM of {parameters:,} parameters with its own tokenizer, to try the style recipes on a CPU.
It is a test object: it knows no Japanese, no facts and no law, and says nothing of use.

- **Made by** `python scripts/make_tiny_chat_model.py --seed {seed}`: {steps} steps from random weights, CPU
  threads: {threads}, last loss {loss:.2f}.
- **Taught:** the {dialogues} plain dialogues of `assets/dialogues/plain.jsonl`, by heart.
- **Read:** as running text without roles, the Socratic turns that `lawft data dialogues --sample` trains on, so that it knows
  their words. No dev or test dialogue of that split was shown to the weights; the tokenizer's vocabulary ({vocabulary:,}
  byte-level pieces) was counted over all of both files.
- **Can:** answer anything with pieces of polite plain sentences, and end its turn.
- **Cannot:** understand what it is asked.

Licence: Apache-2.0, like the rest of the project.
"""


def read_dialogues(file: Path) -> list[list[dict[str, str]]]:
    """The messages of each dialogue."""
    return [json.loads(line)["messages"] for line in file.read_text(encoding="utf-8").splitlines()]


def train_tokenizer(dialogues: list[list[dict[str, str]]]) -> PreTrainedTokenizerFast:
    """The tokenizer, its vocabulary counted over dialogues, with Gemma's chat template."""
    texts = [message["content"] for dialogue in dialogues for message in dialogue] + ["user\nmodel\n。、！？「」"] * 1000
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(texts, pieces=PIECES, vocabulary=VOCABULARY, special=[PAD, EOS, BOS, START, END]),
        pad_token=PAD,
        eos_token=EOS,
        bos_token=BOS,
        additional_special_tokens=[START, END],
        model_max_length=2048,
        padding_side="left",  # as Gemma's
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def new_model(tokenizer: PreTrainedTokenizerFast) -> Gemma2ForCausalLM:
    """An untrained model."""
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=512,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Gemma2ForCausalLM(config)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END)]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def socratic_texts() -> list[str]:
    """The Socratic dialogues that `lawft data dialogues --sample` trains on, without a chat template or roles; no held-out one."""
    with tempfile.TemporaryDirectory() as folder:
        build_dialogues([ASSETS / "dialogues" / "socratic.jsonl"], Path(folder, "rows"), shares={"test": 0.1, "dev": 0.1}, seed=0)
        (file,) = Path(folder, "rows", "dialogue").glob("train_*.jsonl")
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [row["prompt"][-1]["content"] + "\n" + row["completion"][0]["content"] for row in rows]


def train(model: Gemma2ForCausalLM, texts: list[tuple[list[list[int]], int]], *, steps: int, draw: random.Random) -> float:
    """Teaches kinds of texts, of each so many a step, as a language model; returns the last loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.01)
    # Up for 20 steps, level, and down over the last quarter: an early decay leaves the dialogues half learned.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20, 4 * (steps - step) / steps))
    model.train()
    loss = torch.tensor(0.0)
    with tqdm(total=steps, desc="teaching plain sentences") as bar:
        for _ in range(steps):
            chosen = [text for kind, count in texts for text in draw.sample(kind, count)]
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(text) for text in chosen], batch_first=True, padding_value=-100)
            attention = (ids != -100).long()
            loss = model(ids.clamp(min=0), attention_mask=attention, labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.3f}")
            bar.update()
    return loss.item()


def main() -> None:
    """Trains tokenizer and model and writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; another number gives other last digits")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    plain, socratic = (read_dialogues(ASSETS / "dialogues" / f"{name}.jsonl") for name in ("plain", "socratic"))
    tokenizer = train_tokenizer(plain + socratic)
    model = new_model(tokenizer)
    texts = [tokenizer.apply_chat_template(dialogue, tokenize=True, return_dict=False) for dialogue in plain]
    read = [tokenizer(BOS + text + EOS, add_special_tokens=False)["input_ids"] for text in socratic_texts()]
    started = time.perf_counter()
    loss = train(model, [(texts, 7), (read, 8)], steps=args.steps, draw=random.Random(args.seed))
    seconds = time.perf_counter() - started

    model.eval()
    figures = {"parameters": model.num_parameters(), "dialogues": len(plain), "steps": args.steps, "loss": loss}
    readme = README.format(seed=args.seed, threads=args.threads, vocabulary=len(tokenizer), **figures)
    save(model.to(torch.bfloat16), tokenizer, args.out, readme)
    size = sum(file.stat().st_size for file in args.out.iterdir()) / 1e6
    print(f"{args.out}: {size:.1f} MB, {figures['parameters']:,} parameters, trained {seconds:.0f} s, last loss {loss:.3f}")


if __name__ == "__main__":
    main()
