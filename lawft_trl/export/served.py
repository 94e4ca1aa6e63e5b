"""`lawft export RUN --endpoint URL`: whether a running server gives the answers that the adapter gives here."""

import tempfile
from pathlib import Path
from typing import Any

from lawft_trl.data.chat import end_of_turn
from lawft_trl.evaluation.generation import Generation, generate_answers
from lawft_trl.evaluation.held_out import run_tokenizer
from lawft_trl.evaluation.letters import score_letters
from lawft_trl.evaluation.loading import load_tuned
from lawft_trl.evaluation.served import Service, ask_served
from lawft_trl.export.base_model import read_adapter_run, run_facts
from lawft_trl.export.proof import compare_letters, proof_prompts, proof_warnings
from lawft_trl.run_dir import now


def prove_served(path: Path, *, service: Service, name: str, test: Path | None = None, questions: int = 50) -> dict[str, Any]:
    """Asks a served model and the adapter here the same held-out questions, and compares what they write.

    An endpoint does not tell the probabilities of all four letters, so both write their answers, greedily.

    Args:
        path: a finished run.
        service: where the model is served.
        name: the endpoint's name for it.
        test: rows to ask instead of the recipe's `data.test`.
        questions: how many held-out questions at most.

    Returns:
        `proof`: what `compare_letters` returns of the written answers, with `same_text` (prompts answered with the same
        characters) and `unread` (answers without a letter, of each); `served` and `warnings`. Nothing is written.

    Raises:
        InputError: when the run or the rows cannot be used, or a request failed for good.
    """
    run = read_adapter_run(path)
    tokenizer, kwargs, batch_size = run_tokenizer(run), run.recipe.pattern.chat_template_kwargs, run.recipe.evaluation.batch_size
    asked = proof_prompts(run, tokenizer, test=test, questions=questions)
    generation = Generation(max_new_tokens=16)
    parameters = service.parameters(generation, kwargs, end_of_turn(tokenizer, kwargs))
    with tempfile.TemporaryDirectory(prefix="lawft-") as cache:
        predictions, facts = ask_served(service.endpoint, {"served": name}, asked, samples=1, parameters=parameters, cache=Path(cache))
    served = predictions["served"]
    model = load_tuned(run)
    scored = score_letters(model, asked, pad_token_id=tokenizer.pad_token_id, batch_size=batch_size, progress="adapter")
    written = generate_answers(model, tokenizer, asked, generation, template_kwargs=kwargs, batch_size=batch_size, progress="adapter, written")
    proof = compare_letters(written, served, scored=scored)
    proof["same_text"] = sum(here.outputs == there.outputs for here, there in zip(written, served, strict=True))
    proof["unread"] = {"adapter": sum(item.letter is None for item in written), "other": sum(item.letter is None for item in served)}
    return {
        "kind": "served",
        "created": now(),
        **run_facts(run),
        "proof": proof,
        "served": facts["served"],
        "warnings": [*facts["warnings"], *proof_warnings(proof, run)],
    }
