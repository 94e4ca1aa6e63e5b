"""The model card, `README.md` of a run: what the adapter is, what it was made from, how to ask it, what was measured.

It takes the place of the card that TRL writes, which knows neither the data nor the prompt nor the results. Its first
block is metadata in the form of the Hugging Face hub.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lawft_trl.data.prompts import build_messages
from lawft_trl.data.questions import LETTERS, Question
from lawft_trl.errors import InputError
from lawft_trl.experiment_log import evaluation_folders, read_metrics, read_record
from lawft_trl.folders import write_text
from lawft_trl.provenance import base_licence, data_origins, is_hub_id

_UNKNOWN = "unknown (不明)"
_EXAMPLE = Question(
    id="example",
    law="",
    question="架空文書法の規定に照らし、届出の期限として正しいものはどれか。",
    choices=dict(zip(LETTERS, ("7日以内", "14日以内", "30日以内", "60日以内"), strict=True)),
    answer="b",
)
_EXAMPLE_STATUTE = "## 架空文書法\n### 第3条\n文書を作成した者は、作成の日から14日以内に届け出なければならない。"


def write_model_card(run: Path) -> None:
    """Writes `README.md` of a finished run anew, with what its evaluations have shown since.

    Args:
        run: the run's folder.

    Raises:
        InputError: when its `run.json` cannot be read; evaluations and data folders that cannot be are named in the card.
    """
    write_text(run / "README.md", render_model_card(run))


def render_model_card(run: Path, *, merged: bool = False) -> str:
    """The card's text.

    Args:
        run: a finished run's folder.
        merged: the card of the model that `lawft export --merge` makes of it, not of the adapter.

    Raises:
        InputError: when the run's `run.json` cannot be read.
    """
    record = read_record(run)
    recipe = record["identity"]["recipe"]
    licence, origins = base_licence(recipe["model"]), data_origins(record["identity"]["data"].get("train", []))
    evaluated = [(folder.name, _metrics_or_fault(folder)) for folder in evaluation_folders(run)]
    whole = merged or not recipe.get("lora")  # a model of its own, which needs no PEFT
    lines = [f"# {_line(run.resolve().name)}", "", *_marks(record), *_what_it_is(recipe, merged)]
    lines += _describe_base(recipe["model"], licence)
    lines += _describe_data(origins)
    lines += _describe_training(record)
    lines += _how_to_ask(recipe, whole)
    lines += _describe_results(evaluated, merged)
    lines += _limits(recipe, origins, licence)
    lines += _summary(recipe, origins, evaluated, whole)
    return f"---\n{_metadata(recipe, licence, origins, evaluated, whole)}\n---\n\n" + "\n".join(lines)


def _metadata(
    recipe: Mapping[str, Any],
    licence: Mapping[str, str],
    origins: Sequence[Mapping[str, Any]],
    evaluated: Sequence[tuple[str, Any]],
    whole: bool,
) -> str:
    """The block that the hub reads, in YAML. What is no id of the hub is not given as one."""
    from huggingface_hub import ModelCardData

    datasets = list(dict.fromkeys(origin["dataset"] for origin in origins if origin.get("dataset")))
    base = recipe["model"]["name_or_path"]
    on_hub = is_hub_id(base)
    data = ModelCardData(
        base_model=base if on_hub else None,
        base_model_relation=("finetune" if whole else "adapter") if on_hub else None,
        library_name="transformers" if whole else "peft",
        license=licence.get("license", "other"),
        license_name=licence.get("license_name"),
        license_link=licence.get("license_link"),
        language="ja",
        pipeline_tag="text-generation",
        datasets=[name for name in datasets if re.fullmatch(r"[\w.-]+/[\w.-]+", name)] or None,
        tags=["lawft-trl", "trl", "sft", *(["lora"] if recipe.get("lora") else []), "legal", "japanese", *(_tag(name) for name in datasets if "/" not in name)],
        metrics=["accuracy"] if any(_is_result(metrics) and metrics.get("answer") != "dialogue" for _, metrics in evaluated) else None,
    )
    return data.to_yaml()


def _marks(record: Mapping[str, Any]) -> list[str]:
    lines = []
    if record.get("rehearsal"):
        lines += ["> **REHEARSAL on the tiny bundled model: this is a test object and answers nothing of use.**", ""]
    overlap = record.get("overlap")
    if overlap and overlap != "none":
        lines += [f"> **Training and held-out rows: {_line(overlap)}.**", ""]
    return lines


def _what_it_is(recipe: Mapping[str, Any], merged: bool) -> list[str]:
    pattern = recipe["pattern"]
    forms = {"direct": "answers with the letter alone", "cot": "writes reasons and then the letter", "auto": "answers with the letter alone or after reasons, as it is asked"}
    shown = {"none": "No statutes stand in the prompt.", "retrieved": "The prompt shows statutes that a search found.", "gold": "The prompt shows the statutes that decide."}
    kind = "model with all weights trained" if not recipe.get("lora") else "model (base and LoRA adapter merged)" if merged else "LoRA adapter"
    purpose, form = "four-choice questions on Japanese law", forms.get(pattern.get("answer"), forms["direct"])
    if pattern.get("answer") == "dialogue":
        purpose, form = "dialogues in Japanese", "answers the last turn of a conversation, in the manner of the conversations it was trained on"
    return [
        f"A {kind} for {purpose}, trained with [TRL](https://github.com/huggingface/trl) by lawft-trl. "
        f"It {form}. {shown.get(pattern.get('statutes'), shown['none'])}",
        "",
        "**It is a research object, not legal advice. Check every answer against the law in force.**",
        "",
    ]


def _describe_base(model: Mapping[str, Any], licence: Mapping[str, str]) -> list[str]:
    lines = ["## Base model", "", f"- {_base_name(model)}, revision {_line(model.get('revision') or 'not pinned')}"]
    said = licence.get("license_name") or licence.get("license") or _UNKNOWN
    lines.append(f"- Licence: {_line(said)}" + (f", {_line(licence['license_link'])}" if "license_link" in licence else "") + f" ({licence['source']})")
    return [*lines, "- What the licence of the base asks of derived models holds for this one.", ""]


def _describe_data(origins: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["## Training data", ""]
    for origin in origins:
        files = ", ".join(_code(Path(file).name) for file in origin["files"])
        lines.append(f"- {files}: {_line(origin.get('dataset') or 'origin unknown (no manifest.json beside the rows)')}{_as_of(origin, '; law as of {}')}")
        lines.append(f"  - Attribution and licence: {_line(origin.get('attribution') or _UNKNOWN)}")
        if origin.get("changed"):
            lines.append(f"  - {_line(origin['changed'])}")
    return [*lines, ""] if origins else [*lines, "Not recorded.", ""]


def _describe_training(record: Mapping[str, Any]) -> list[str]:
    recipe = record["identity"]["recipe"]
    training, lora, quantization = recipe["training"], recipe.get("lora"), recipe.get("quantization")
    epochs, loss = record.get("epochs"), record.get("last_loss")
    lines = [
        f"- {'LoRA: ' + _settings(lora) if lora else 'All weights were trained.'}",
        f"- Base weights held in: {_settings(quantization) if quantization else 'no quantization, dtype ' + _line(recipe['model'].get('dtype', 'auto'))}",
        f"- Learning rate {training.get('learning_rate', 'default')}, {record.get('steps', '?')} steps"
        + (f" ({epochs:.2f} epochs)" if isinstance(epochs, int | float) else "")
        + f", {record.get('rows', '?')} rows, seed {training.get('seed', 42)}"
        + (f", last training loss {loss:.4f}" if isinstance(loss, int | float) else ""),
        "- Only the answer and the end-of-turn token are in the loss.",
    ]
    versions = (record.get("environment") or {}).get("versions") or {}
    if versions:
        lines.append("- " + ", ".join(f"{_line(name)} {_line(version)}" for name, version in versions.items()))
    return ["## Training", "", *lines, "", "Everything else is in `recipe.yaml` and `run.json` of the run.", ""]


def _how_to_ask(recipe: Mapping[str, Any], whole: bool) -> list[str]:
    pattern = recipe["pattern"]
    answer = "cot" if pattern.get("answer") == "cot" else "direct"
    statutes = () if pattern.get("statutes", "none") == "none" else (_EXAMPLE_STATUTE,)
    messages = build_messages(_EXAMPLE, answer=answer, statutes=statutes, system=pattern.get("system"))
    if pattern.get("answer") == "dialogue":
        messages = [*messages[:-1], {"role": "user", "content": "約束を守ることは、いつも正しいのでしょうか。"}]
    length = {"cot": 1024, "dialogue": 256}.get(pattern.get("answer"), 16)
    kwargs = "".join(f", {key}={value!r}" for key, value in (pattern.get("chat_template_kwargs") or {}).items())
    loader = "AutoModelForCausalLM" if whole else "AutoPeftModelForCausalLM"
    shown = [line for message in messages for line in (f"[{message['role']}]", message["content"], "")][:-1]
    return [
        "## How to ask",
        "",
        "It was trained and evaluated on this form of prompt; any other form is another model, untested. An example, made up:",
        "",
        "~~~~text",
        *shown,
        "~~~~",
        "",
        "~~~~python",
        f"from {'transformers' if whole else 'peft'} import {loader}",
        "from transformers import AutoTokenizer",
        "",
        f'model = {loader}.from_pretrained(FOLDER, dtype="auto")',
        "tokenizer = AutoTokenizer.from_pretrained(FOLDER)",
        'messages = [{"role": "user", "content": ...}]  # as above',
        f'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"{kwargs})',
        f"output = model.generate(**inputs, max_new_tokens={length}, do_sample=False, eos_token_id=tokenizer.eos_token_id)",
        "~~~~",
        "",
    ]


def _describe_results(evaluated: Sequence[tuple[str, Any]], merged: bool) -> list[str]:
    lines = ["## Results", ""]
    if merged and evaluated:
        lines += ["Measured with the adapter before it was merged; `export.json` says how far the merged model answers alike.", ""]
    for name, metrics in evaluated:
        lines += [f"### {_line(name)}", ""]
        if isinstance(metrics, InputError):
            lines += [f"**This evaluation cannot be read:** {_line(metrics)}", ""]
            continue
        if metrics.get("rehearsal"):
            lines += ["> **REHEARSAL: the figures mean nothing.**", ""]
        if metrics.get("contaminated"):
            lines += [f"> **{_line(metrics['contaminated'])}**", ""]
        if metrics.get("answer") == "dialogue":
            lines += _describe_style(metrics)
            continue
        asked = f"{metrics.get('asked')}; answer {metrics.get('answer')}, statutes {metrics.get('statutes')}, scorer {metrics.get('scorer')}"
        lines += [_line(asked), "", "| model | accuracy | 95 % interval |", "|---|---|---|"]
        for model, figures in metrics["models"].items():
            share = f"{100 * figures['accuracy']:.1f} % ({figures['correct']} of {figures['questions']})"
            lines.append(f"| {_line(model)} | {share} | {_interval(figures['interval'], '.1f')} |")
        lines.append("")
        paired = metrics.get("comparison")
        if paired is not None:
            verdict = _line(paired["verdict"]) if _is_result(metrics) else "none, see above"
            lines += [
                f"Tuned minus base: {100 * paired['difference']:+.1f} points, 95 % interval {_interval(paired['interval'], '+.1f')}, "
                f"p = {paired['p_value']:.2g}, paired by question. Verdict: **{verdict}**.",
                "",
            ]
    return lines if evaluated else [*lines, "Not evaluated yet.", ""]


def _describe_style(metrics: Mapping[str, Any]) -> list[str]:
    """The results of an evaluation of dialogues."""
    lines = [f"{_line(metrics.get('asked'))}; greedy replies, scored by {_line(metrics.get('patterns_from'))} from 0 to 1", ""]
    lines += ["| model | style | 95 % interval | same reply | only questions | distinct-2 |", "|---|---|---|---|---|---|"]
    for model, figures in metrics["models"].items():
        shares = [f"{100 * figures[key]:.0f} %" if isinstance(figures.get(key), int | float) else "-" for key in ("same_reply", "only_questions")]
        low, high = figures["interval"]
        distinct = f"{figures['distinct_2']:.2f}" if isinstance(figures.get("distinct_2"), int | float) else "-"
        lines.append(f"| {_line(model)} | {figures['style']:.3f} | [{low:.3f}, {high:.3f}] | {' | '.join(shares)} | {distinct} |")
    lines.append("")
    paired = metrics.get("comparison")
    if paired is not None:
        verdict = _line(paired["verdict"]) if _is_result(metrics) else "none, see above"
        low, high = paired["interval"]
        lines += [
            f"Tuned minus base: {paired['difference']:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}], p = {paired['p_value']:.2g}, paired by conversation. "
            f"Verdict: **{verdict}**. The score counts forms of speech; it says nothing of sense or truth.",
            "",
        ]
    lines += [f"- **{_line(found.get('name'))}**: {_line(found.get('says'))}" for found in metrics.get("diagnosis", []) if isinstance(found, dict)]
    return [*lines, ""] if metrics.get("diagnosis") else lines


def _limits(recipe: Mapping[str, Any], origins: Sequence[Mapping[str, Any]], licence: Mapping[str, str]) -> list[str]:
    dates = sorted({said for origin in origins if (said := _as_of(origin))}) or ([] if origins else [_UNKNOWN])
    of = "four-choice questions; nothing is known of other questions, laws or forms of answer"
    if recipe["pattern"].get("answer") == "dialogue":
        of = "dialogues; nothing is known of other topics, longer conversations or other users"
    lines = [
        "- Not legal advice; it may answer wrongly, and as surely as when it is right.",
        *([f"- Law as of {', '.join(dates)}: later amendments are not in it."] if dates else []),
        f"- Learned and measured on a small set of {of}.",
        "- The interval says how much chance there is in a figure, not how well it carries over to other work.",
    ]
    if "license" not in licence:
        lines.append("- The licence of the base was not found in its files: look it up before this model is passed on.")
    if not origins or any("attribution" not in origin for origin in origins):
        lines.append("- The origin of some training rows is not recorded: find out their licence before this model is passed on.")
    return ["## Limits", "", *lines, ""]


def _summary(
    recipe: Mapping[str, Any], origins: Sequence[Mapping[str, Any]], evaluated: Sequence[tuple[str, Any]], whole: bool
) -> list[str]:
    """The short summary in Japanese."""
    dates = "、".join(sorted({date for origin in origins for date in origin.get("law_as_of", []) if date})) or "不明"
    results = []
    for name, metrics in evaluated:
        if _is_result(metrics) and metrics.get("answer") == "dialogue":
            results += [f"{_line(name)}: {_line(model)} 文体スコア {figures['style']:.3f}" for model, figures in metrics["models"].items()]
        elif _is_result(metrics):
            results += [
                f"{_line(name)}: {_line(model)} {100 * figures['accuracy']:.1f} %（{figures['correct']}/{figures['questions']}、95 % 区間 {_interval(figures['interval'], '.1f')}）"
                for model, figures in metrics["models"].items()
            ]
    return [
        "## 概要（日本語）",
        "",
        f"- {_base_name(recipe['model'])} を{'日本語の対話' if recipe['pattern'].get('answer') == 'dialogue' else '日本法の四肢択一問題'}で追加学習した{'モデル' if whole else ' LoRA アダプター'}です。",
        *([f"- 学習データの法令基準日: {_line(dates)}。それより後の改正は反映されていません。"] if not origins or any(map(_as_of, origins)) else []),
        "- 評価: " + ("；".join(results) if results else "有効な評価結果はありません。"),
        "- 研究用であり、法的助言ではありません。回答は必ず現行の法令で確認してください。",
        "",
    ]


def _metrics_or_fault(folder: Path) -> dict[str, Any] | InputError:
    try:
        return read_metrics(folder)
    except InputError as error:
        return error


def _is_result(metrics: Any) -> bool:
    """Whether an evaluation says something about the model."""
    return isinstance(metrics, dict) and not metrics.get("rehearsal") and not metrics.get("contaminated")


def _base_name(model: Mapping[str, Any]) -> str:
    """The base's name on the hub; of a local folder the last part only, since cards are passed on."""
    name = model["name_or_path"]
    return _code(name) if is_hub_id(name) else f"{_code(Path(name).name)} (a local folder)"


def _as_of(origin: Mapping[str, Any], form: str = "{}") -> str:
    """The day of the law that data is of, in a form; empty for data that says it is of no law."""
    dates = origin.get("law_as_of", [""])
    return form.format(", ".join(_line(date) for date in dates if date) or "a day its source does not state") if dates else ""


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{_line(key)}={_line(value)}" for key, value in values.items())


def _tag(name: str) -> str:
    return re.sub(r"\s+", "-", name.strip())


def _line(value: Any) -> str:
    """A value as text on one line that opens neither HTML nor a column."""
    return " ".join(str(value).split()).replace("<", "&lt;").replace("|", "\\|")


def _code(value: Any) -> str:
    text = " ".join(str(value).split())
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _interval(bounds: Sequence[float], form: str) -> str:
    return f"[{', '.join(format(100 * bound, form) for bound in bounds)}]"
