"""What the makers of the two bundled tiny models share: the byte-level tokenizer, and the folder that `from_pretrained` reads."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast


def byte_level_bpe(texts: Iterable[str], *, pieces: str, vocabulary: int, special: Sequence[str]) -> Tokenizer:
    """Byte-level BPE, so any text can be encoded.

    Args:
        texts: what the vocabulary is counted over.
        pieces: regular expression of what no token goes beyond.
        vocabulary: how many tokens.
        special: special tokens, which get the first ids.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pieces), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path, readme: str) -> None:
    """Writes the folder as `from_pretrained` reads it, with its description."""
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # written for its owner alone
    tokenizer.save_pretrained(out)
    settings = out / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    # transformers 5 writes a class name that older releases and other tools do not know; all read this one.
    content["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (out / "README.md").write_text(readme, encoding="utf-8")
