"""Trains the bundled tiny model from scratch: a causal LM of a few megabytes on which a real LoRA run shows on a CPU.

A model of 1.4 million parameters does not learn to read a statute within minutes. What it can learn is the bare skill
under such a question: a value stands somewhere, four lettered values follow, which letter shows the same value? This
script teaches that in random tokens inside the chat template's frame, and stops before it carries over to the project's
prompts. Fine-tuning on questions then has a real step to make, and makes it quickly.

The weights never see a sentence of the sample set or of the project's prompts. Only the tokenizer's vocabulary is
counted over them, so that a prompt is about 130 tokens and a value such as 三十日 is one.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from make_sample_data import OUT as SAMPLE
from make_sample_data import VALUES
from tiny_models import byte_level_bpe, save
from torch.nn import functional
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from lawft_trl.data.chat import encode, prompt_text
from lawft_trl.data.prompts import build_messages
from lawft_trl.data.questions import LETTERS, ORDERS, Question, read_questions

OUT = Path(__file__).resolve().parents[1] / "lawft_trl" / "assets" / "tiny_model"
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VOCABULARY = 2048

# A numeral with its unit is one piece wherever it stands; kanji before it must not swallow it (毎年三回 is 毎年 + 三回).
# Letters stand alone as pieces, so `a` before a choice and `a` as the answer are the same token.
_NUMERAL = "[一二三四五六七八九十百千万]+"
_VALUE = f"百分の{_NUMERAL}|{_NUMERAL}(?:箇月|時間|日|年|円|人|回|歳|メートル|キログラム)"
PIECES = (
    rf"{_VALUE}|(?:(?!{_VALUE})[\p{{Han}}々])+|\p{{Hiragana}}+|[\p{{Katakana}}ー]+"
    r"|[A-Za-z]+|\d|\n+|[^\S\n]+|."
)

CHAT_TEMPLATE = """{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# (random tokens around the value at most, rows a batch, steps at most, accuracy at which the stage ends). The distance
# grows: started at the far end, or with the value always at one place, training stays at chance far longer. The last
# stage ends early on purpose: carried on, it solves the project's prompts without any fine-tuning.
STAGES = ((3, 64, 500, 0.985), (10, 64, 300, 0.985), (20, 64, 300, 0.5))

# The folder's own description.
README = """# Tiny model

A Qwen3 causal LM of {parameters:,} parameters with its own tokenizer, to try the whole way of this project on a CPU.
It is a test object: it knows no Japanese, no law and no facts, and answers nothing of use.

- **Made by** `python scripts/make_tiny_model.py --seed {seed}`: {steps} steps from random weights, {threads} CPU threads.
- **Taught:** inside the chat template's frame, a value among random tokens, four lettered values, which letter shows
  the same value? Nothing else. No sentence of the sample set or of the project's prompts was shown to the weights; the
  tokenizer's vocabulary (2,048 byte-level pieces) was counted over them, and holds every value as one token.
- **Can:** answer with a letter and end its turn; learn the sample set's prompt by LoRA within minutes.
- **Cannot:** write reasons, compare two articles, or read a value that is not one token.

On the sample set in the project's prompt with its article shown, before any fine-tuning: **{zero_shot}** of all
questions right (chance is 25 %).

What LoRA makes of it is measured by `bash scripts/quickstart.sh`.

Licence: Apache-2.0, like the rest of the project.
"""


def train_tokenizer(questions: list[Question]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so any text can be encoded; values and letters are given the weight to become whole tokens."""

    def texts() -> Iterator[str]:
        yield from [value for pool in VALUES.values() for value in pool] * 2000
        yield from ["system\nuser\nassistant\na b c d\n"] * 3000
        for question in questions:
            for answer in ("direct", "cot"):
                yield build_messages(question, answer=answer, statutes=question.statutes)[0]["content"]

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(texts(), pieces=PIECES, vocabulary=VOCABULARY, special=[PAD, START, END]),
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """An untrained model; embeddings are untied (tied ones did not learn) and large, so tokens are told apart early."""
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.5)
    torch.nn.init.normal_(model.lm_head.weight, std=0.02)
    return model


class Puzzles:
    """Draws batches of the bare skill as token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, generator: torch.Generator) -> None:
        self.generator = generator
        self.letters = torch.tensor([self._single(tokenizer, letter) for letter in LETTERS])
        self.pools = [torch.tensor([self._single(tokenizer, value) for value in pool]) for pool in VALUES.values()]
        self.pools += [torch.cat(self.pools)] * 5  # values of mixed kinds in three rows of ten
        reserved = {*self.letters.tolist(), *self.pools[-1].tolist(), *tokenizer.all_special_ids}
        self.fillers = torch.tensor([token for token in range(VOCABULARY) if token not in reserved])
        self.head = encode(tokenizer, f"{START}user\n")
        self.tail = encode(tokenizer, f"{END}\n{START}assistant\n")
        self.newline, self.space = encode(tokenizer, "\n"), encode(tokenizer, " ")
        self.end = [tokenizer.eos_token_id]

    @staticmethod
    def _single(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
        ids = encode(tokenizer, text)
        if len(ids) != 1:
            raise RuntimeError(f"{text!r} takes {len(ids)} tokens; the vocabulary must hold it as one")
        return ids[0]

    def _filler(self, rows: int, longest: int) -> torch.Tensor:
        length = int(torch.randint(longest + 1, (1,), generator=self.generator))
        return self.fillers[torch.randint(len(self.fillers), (rows, length), generator=self.generator)]

    def draw(self, rows: int, longest: int) -> tuple[torch.Tensor, list[int], torch.Tensor]:
        """`(ids, positions of the four choices, index of the gold choice)`; all rows of a batch have one length."""
        choices = torch.empty(rows, 4, dtype=torch.long)
        for row in range(rows):
            pool = self.pools[int(torch.randint(len(self.pools), (1,), generator=self.generator))]
            choices[row] = pool[torch.randperm(len(pool), generator=self.generator)[:4]]
        gold = torch.randint(4, (rows,), generator=self.generator)

        def fixed(ids: list[int]) -> torch.Tensor:
            return torch.tensor(ids).expand(rows, -1)

        value = choices[torch.arange(rows), gold, None]
        parts = [fixed(self.head), self._filler(rows, longest), value, self._filler(rows, longest)]
        positions = []
        for index in range(4):
            parts += [fixed([*self.newline, int(self.letters[index]), *self.space]), choices[:, index, None]]
            positions.append(sum(part.shape[1] for part in parts) - 1)
        parts += [fixed(self.newline), self._filler(rows, longest), fixed(self.tail)]
        parts += [self.letters[gold, None], fixed(self.end)]
        return torch.cat(parts, dim=1), positions, gold


def train(model: Qwen3ForCausalLM, puzzles: Puzzles) -> int:
    """Runs the stages; returns the number of steps.

    The answer alone leaves the model at chance for hundreds of steps, because finding the repeated value and naming
    its letter only pay off together. A probe on the second layer, thrown away afterwards, rewards the first half alone.
    """
    probe = torch.nn.Linear(model.config.hidden_size, 1)
    parameters = [*model.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.01)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 50))
    done = 0
    model.train()
    for number, (longest, rows, steps, enough) in enumerate(STAGES, start=1):
        smoothed = 0.0
        with tqdm(total=steps, desc=f"stage {number}/{len(STAGES)}") as bar:
            for _ in range(steps):
                loss, answer, accuracy = _losses(model, probe, *puzzles.draw(rows, longest))
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                warm_up.step()
                done += 1
                smoothed = 0.9 * smoothed + 0.1 * accuracy
                bar.set_postfix(loss=f"{answer:.3f}", accuracy=f"{smoothed:.3f}")
                bar.update()
                if smoothed > enough:
                    break
    return done


def _losses(
    model: Qwen3ForCausalLM, probe: torch.nn.Linear, ids: torch.Tensor, positions: list[int], gold: torch.Tensor
) -> tuple[torch.Tensor, float, float]:
    """`(loss to descend, loss of the answer, accuracy of the letter)`."""
    states = model.model(ids, output_hidden_states=True)
    logits = model.lm_head(states.last_hidden_state)
    each = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    each = each.view(len(ids), -1)
    answer = each[:, -2:].mean()
    middle = functional.rms_norm(states.hidden_states[2][:, positions], (model.config.hidden_size,))
    repeated = functional.one_hot(gold, 4).float()
    found = functional.binary_cross_entropy_with_logits(probe(middle).squeeze(-1), repeated)
    accuracy = (logits[:, -3].argmax(-1) == ids[:, -2]).float().mean().item()
    return answer + 0.1 * each[:, :-2].mean() + found, answer.item(), accuracy


@torch.no_grad()
def zero_shot(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[Question]) -> float:
    """Share of the sample questions answered right in the project's full prompt, averaged by content over the orders."""
    model.eval()
    letters = [encode(tokenizer, letter)[0] for letter in LETTERS]
    right = 0
    for question in tqdm(questions, desc="zero-shot"):
        score = dict.fromkeys(LETTERS, 0.0)
        for order in ORDERS:
            messages = build_messages(question.in_order(order), answer="direct", statutes=question.statutes)
            ids = torch.tensor([encode(tokenizer, prompt_text(tokenizer, messages, {}))])
            shown = model(ids, logits_to_keep=1).logits[0, -1].log_softmax(-1)[letters]
            for choice, value in zip(order, shown.tolist(), strict=True):
                score[choice] += value
        right += max(score, key=score.__getitem__) == question.answer
    return right / len(questions)


def main() -> None:
    """Trains tokenizer and model, measures the model on the sample set, writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; another number gives other last digits")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    questions = read_questions(SAMPLE / "questions.jsonl")
    tokenizer = train_tokenizer(questions)
    model = new_model(tokenizer)
    puzzles = Puzzles(tokenizer, torch.Generator().manual_seed(args.seed))

    started = time.perf_counter()
    steps = train(model, puzzles)
    seconds = time.perf_counter() - started
    accuracy = zero_shot(model, tokenizer, questions)
    figures = {"steps": steps, "parameters": model.num_parameters(), "zero_shot": f"{accuracy:.1%}"}
    model.generation_config.max_new_tokens = 8  # an answer is a letter and the end of the turn
    save(model, tokenizer, args.out, README.format(seed=args.seed, threads=args.threads, **figures))
    size = sum(file.stat().st_size for file in args.out.iterdir()) / 1e6
    print(f"{args.out}: {size:.1f} MB", f"trained {seconds:.0f} s", *(f"{k} {v}" for k, v in figures.items()), sep=" · ")


if __name__ == "__main__":
    main()
