"""Four-order letter scoring beside lm-evaluation-harness: the same rows, model, tokenizer and machine, in one run.

    pip install 'lawft-trl[harness]'
    lawft data lawqa --from lawqa_jp
    python scripts/bench_eval.py data/lawqa_jp/direct_gold/test_*.jsonl --tokenizer Qwen/Qwen3-0.6B

The model is a small Qwen3 with random weights and the tokenizer's whole vocabulary: what is measured is the work, not the
answers. The harness scores the four letters as continuations of the very same prompt text. Both must choose the same letter
in every row; where they differ the script says so and ends with 1.
"""

import argparse
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script also runs where the package is not installed

from lawft_trl.data.chat import load_tokenizer, prompt_text
from lawft_trl.data.prompts import build_messages
from lawft_trl.data.questions import LETTERS
from lawft_trl.data.rows import read_rows, row_question
from lawft_trl.evaluation.asking import ask, unique_questions
from lawft_trl.evaluation.letters import score_letters
from lawft_trl.quiet import quiet_libraries

_KWARGS = {"enable_thinking": False}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="rows that lawft data wrote")
    parser.add_argument("--tokenizer", required=True, help="name or folder, with a chat template")
    parser.add_argument("--chat-template", type=Path, help="a .jinja file, where the tokenizer has none")
    parser.add_argument("-n", type=int, default=20, help="questions, each in four orders (default 20)")
    parser.add_argument("--hidden", type=int, default=256, help="hidden size of the random model (default 256)")
    parser.add_argument("--layers", type=int, default=4, help="its layers (default 4)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    quiet_libraries()
    tokenizer = load_tokenizer(options.tokenizer, template=options.chat_template)
    rows = unique_questions(read_rows(options.rows))[: options.n]
    asked = ask(rows, tokenizer, _KWARGS)
    model = _random_model(tokenizer, options.hidden, options.layers).to(options.device)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    score_letters(model, asked[:8], pad_token_id=pad, batch_size=options.batch_size, progress="warm-up")
    started = time.monotonic()
    ours = score_letters(model, asked, pad_token_id=pad, batch_size=options.batch_size, progress="lawft")
    seconds = time.monotonic() - started
    theirs, their_seconds = _harness(model, tokenizer, asked, options.batch_size, options.device)

    letters = [max(values, key=values.__getitem__) for values in theirs]
    same = sum(mine.letter == letter for mine, letter in zip(ours, letters, strict=True))
    # The harness counts white space at the prompt's end to the continuation, which adds the same to all four letters.
    pairs = [(_among_letters(mine.letter_logprobs), _among_letters(values)) for mine, values in zip(ours, theirs, strict=True)]
    gap = max(abs(mine[letter] - values[letter]) for mine, values in pairs for letter in LETTERS)
    print(f"{len(asked)} prompts of {len(rows)} questions, {sum(len(item.input_ids) for item in asked):,} tokens, vocabulary {len(tokenizer):,}")
    print(f"lawft                   {seconds:8.2f} s")
    print(f"lm-evaluation-harness   {their_seconds:8.2f} s   ({their_seconds / seconds:.1f} times as long)")
    print(f"same letter in {same} of {len(asked)} rows; largest difference of a log-probability among the four {gap:.1e}")
    return 0 if same == len(asked) else 1


def _among_letters(logprobs: dict[str, float]) -> dict[str, float]:
    total = math.log(sum(math.exp(value) for value in logprobs.values()))
    return {letter: value - total for letter, value in logprobs.items()}


def _random_model(tokenizer, hidden: int, layers: int):
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 128) * 128,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128),
        head_dim=64,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    return Qwen3ForCausalLM(config).eval()


def _harness(model, tokenizer, asked, batch_size: int, device: str) -> tuple[list[dict[str, float]], float]:
    """The harness's log-probabilities of the four letters after every prompt, and the seconds it took."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=device, max_length=8192)
    requests = []
    for item in asked:
        question = row_question(item.row)
        messages = build_messages(question.in_order(item.order), answer="direct", statutes=question.statutes, system=item.row.system)
        text = prompt_text(tokenizer, messages, _KWARGS)
        requests += [Instance(request_type="loglikelihood", doc={}, arguments=(text, letter), idx=0) for letter in LETTERS]
    started = time.monotonic()
    found = harness.loglikelihood(requests, disable_tqdm=True)
    seconds = time.monotonic() - started
    scores = [score for score, _ in found]
    return [dict(zip(LETTERS, scores[start : start + 4], strict=True)) for start in range(0, len(scores), 4)], seconds


if __name__ == "__main__":
    sys.exit(main())
