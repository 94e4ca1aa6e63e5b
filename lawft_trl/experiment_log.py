"""`experiment.md`: what a run was, how it went and what came of it, in Japanese, rewritten whenever there is more to say.

It is made from what the run and its evaluations leave on disk, so a damaged evaluation is a line in it, not an error. Its
last section belongs to its reader and is kept as it is.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.folders import write_text
from lawft_trl.recipe import Recipe
from lawft_trl.recipe_sections import section_fields
from lawft_trl.text_files import file_sha256

_BEGIN = "<!-- この印から「ここまで」の印まで、自由に書いてください。lawft はここを書き換えません。 -->"
_END = "<!-- ここまで -->"
_UNMARKED = "（区切りの印が見つからなかったため、書き直す前の experiment.md の全文を以下に残しました。）"
_NOT_RECORDED = "記録なし"
_VERDICTS = {"better": "改善 (better)", "worse": "悪化 (worse)", "no evidence": "差があるとは言えない (no evidence)"}


def write_experiment(run: Path) -> None:
    """Writes `experiment.md` of a finished run anew, all but what a person wrote into its last section.

    Args:
        run: the run's folder.

    Raises:
        InputError: when its `run.json` cannot be read; evaluations that cannot be are named in the file instead.
    """
    record = read_record(run)
    evaluated: list[tuple[str, dict[str, Any] | InputError]] = []
    for folder in evaluation_folders(run):
        try:
            evaluated.append((folder.name, read_metrics(folder)))
        except InputError as error:
            evaluated.append((folder.name, error))
    lines = [*_describe_run(run, record), *_describe_training(record), *_describe_results(evaluated), *_suggest(run, record, evaluated)]
    # No value of the run may look like the marks, else the person's part would seem to begin there.
    text = "\n".join(lines).replace("<!--", "&lt;!--")
    file = run / "experiment.md"
    write_text(file, f"{text}\n\n{_BEGIN}\n{_read_notes(file)}\n{_END}\n")


def read_record(run: Path) -> dict[str, Any]:
    """`run.json` of a finished run, without loading its recipe, which today's libraries may no longer know.

    Raises:
        InputError: when it is missing, damaged or of a run that was not finished.
    """
    record = _read_object(run / "run.json")
    if record.get("status") != "finished":
        raise InputError(f"{run}: this run was not finished; repeat its command with --resume")
    identity = record.get("identity")
    recipe = identity.get("recipe") if isinstance(identity, dict) else None
    missing = [name for name in ("pattern", "model", "training") if not isinstance(recipe, dict) or not isinstance(recipe.get(name), dict)]
    if missing or not isinstance(identity.get("data"), dict):
        raise InputError(f"{run / 'run.json'}: `identity` does not hold the recipe and the data of a run; the file is damaged")
    return record


def evaluation_folders(run: Path) -> list[Path]:
    """The run's evaluations, by name."""
    return sorted(file.parent for file in run.glob("eval/*/metrics.json") if not file.parent.name.startswith("."))


def read_metrics(folder: Path) -> dict[str, Any]:
    """`metrics.json` of an evaluation, after finding that it holds the figures that are shown of it.

    Raises:
        InputError: naming what is missing.
    """
    metrics = _read_object(folder / "metrics.json")
    models, paired = metrics.get("models"), metrics.get("comparison")
    figures = ("replies", "style") if metrics.get("answer") == "dialogue" else ("questions", "correct", "accuracy")
    problems = []
    if not isinstance(models, dict) or not models:
        problems.append("models: expected the figures of one model or more")
    else:
        for name, model in models.items():
            problems += [f"models.{name}.{key}: expected {kind}" for key, kind in _faults(model, figures)]
    if paired is not None:
        problems += [f"comparison.{key}: expected {kind}" for key, kind in _faults(paired, ("difference", "p_value"))]
        if not isinstance(paired, dict) or not isinstance(paired.get("verdict"), str):
            problems.append("comparison.verdict: expected a text")
    problems += [f"{key}: expected a list" for key in ("warnings", "diagnosis") if not isinstance(metrics.get(key, []), list)]
    if problems:
        raise InputError(f"{folder / 'metrics.json'}: damaged, or of another version; evaluate again with --force", problems)
    return metrics


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{file}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{file}: expected a JSON object, found {type(value).__name__}")
    return value


def _faults(figures: Any, numbers: Sequence[str]) -> list[tuple[str, str]]:
    """The keys that do not hold a number, and `interval` where it does not hold two; with what is expected."""
    held = figures if isinstance(figures, dict) else {}
    interval = held.get("interval")
    faults = [(key, "a number") for key in numbers if not isinstance(held.get(key), int | float)]
    if not isinstance(interval, list) or len(interval) != 2 or not all(isinstance(bound, int | float) for bound in interval):
        faults.append(("interval", "two numbers"))
    return faults


def _read_notes(file: Path) -> str:
    """What a person wrote into an `experiment.md`; all of the file where the marks are gone.

    The first beginning and the last end are the file's own marks: text before the one holds none, and text behind the
    other is taken for the person's, too.
    """
    if not file.exists():
        return ""
    text = _decode(file.read_bytes())
    _, begin, rest = text.partition(_BEGIN)
    if not begin:
        return f"{_UNMARKED}\n\n{text}" if text.strip() else ""
    notes, end, behind = rest.rpartition(_END)
    if not end:
        return rest.removeprefix("\n")
    notes = notes.removeprefix("\n").removesuffix("\n")
    return f"{notes}\n{behind}" if behind.strip() else notes


def _decode(content: bytes) -> str:
    """The text of a file that any editor may have saved: UTF-8, else CP932, else what is no UTF-8 spelled out."""
    for encoding in ("utf-8-sig", "cp932"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            pass
    return content.decode("utf-8", errors="backslashreplace")


def _describe_run(run: Path, record: Mapping[str, Any]) -> list[str]:
    name, recipe = run.resolve().name, record["identity"]["recipe"]
    environment = record.get("environment") or {}
    commit, versions = environment.get("commit"), environment.get("versions") or {}
    model, quantization = recipe["model"], recipe.get("quantization")
    lines = [f"# 実験ログ: {_line(name)}", ""]
    lines += ["「所感・次のアクション」にある印から上は、学習や評価のたびに lawft が書き直します。", ""]
    if record.get("rehearsal"):
        lines += ["> **リハーサル（同梱の小さなモデル）です。数値に意味はありません。**", ""]
    lines += ["## 実験ID", "", f"- {_code(name)}（{recipe['pattern'].get('answer')} / 条文: {recipe['pattern'].get('statutes')}）", ""]
    lines += ["## 日時", "", f"- 開始: {_time(record.get('started'))}", f"- 終了: {_time(record.get('finished'))}", ""]
    lines += ["## GitのコミットID", ""]
    if commit:
        lines.append(f"- {_code(commit.get('id'))}" + ("（**未コミットの変更あり**）" if commit.get("uncommitted_changes") else ""))
    else:
        lines.append(f"- {_NOT_RECORDED}（Git リポジトリの外から実行）")
    lines += [f"- {', '.join(f'{library} {version}' for library, version in versions.items())}"] if versions else []
    lines += ["", "## 使用モデル名", "", f"- {_code(model.get('name_or_path'))}（revision: {_line(model.get('revision') or '指定なし')}）"]
    lines += [f"- 量子化: {_settings(quantization) if quantization else 'なし'}", ""]
    lines += ["## 使用した JSONL ファイル", "", *_table(("役割", "ファイル", "sha256（先頭12桁）", "行数"), _data_files(record["identity"]["data"])), ""]
    lines += [f"- 学習に使った行数: {record.get('rows', _NOT_RECORDED)}（レシピの pattern に合う行）"]
    overlap = record.get("overlap") or _NOT_RECORDED
    return [*lines, f"- 学習データと評価データの重なり: {'なし' if overlap == 'none' else _line(overlap)}", ""]


def _data_files(data: Mapping[str, Sequence[Mapping[str, str]]]) -> list[tuple[str, ...]]:
    return [
        (role, _code(entry["file"]), _code(entry["sha256"][:12]), _count_rows(Path(entry["file"]), entry["sha256"]))
        for role, entries in data.items()
        for entry in entries
    ]


def _count_rows(file: Path, sha256: str) -> str:
    """The rows of a file, if it is still the one that was trained on."""
    try:
        if file_sha256(file) != sha256:
            return "—（学習後に変更された）"
        with file.open("rb") as stream:
            return str(sum(bool(line.strip()) for line in stream))
    except OSError:
        return "—（ファイルがない）"


def _describe_training(record: Mapping[str, Any]) -> list[str]:
    recipe = record["identity"]["recipe"]
    values = Recipe(path=Path("recipe.yaml"), values=recipe, origins={})
    training = values.training
    batch, accumulated = training("per_device_train_batch_size"), training("gradient_accumulation_steps")
    processes = record["identity"].get("processes") or 1
    steps = training("max_steps")
    # TRL takes bfloat16 unless the recipe says otherwise
    bf16 = not training("fp16") if training("bf16") is None else training("bf16")
    rows = [
        *_adapter_rows(recipe.get("lora")),
        ("学習率", training("learning_rate")),
        ("スケジューラ / warmup_steps", f"{training('lr_scheduler_type')} / {training('warmup_steps')}"),
        ("学習の長さ", f"{steps} ステップ (max_steps)" if steps > 0 else f"{training('num_train_epochs')} エポック"),
        ("バッチ × 勾配累積 × プロセス", f"{batch} × {accumulated} × {processes} = {batch * accumulated * processes}（実効バッチサイズ）"),
        ("最大長 max_length", training("max_length") or "制限なし"),
        ("シード", training("seed")),
        ("計算精度 / 重みの型", f"{'bf16' if bf16 else 'fp16' if training('fp16') else 'fp32'} / {recipe['model'].get('dtype')}"),
    ]
    lines = ["## 主要ハイパーパラメータ", "", *_table(("項目", "値"), rows), "", "ほかの設定はすべて `recipe.yaml` にあります。", ""]
    return [*lines, "## 学習時間", "", *_training_figures(record), "", "学習コマンド:", "", *_command(record.get("command")), ""]


def _adapter_rows(section: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    """What is trained: an adapter and of which kind, or all weights."""
    if not section:
        return [("学習した重み", "すべて（全パラメータ）")]
    lora = {key: field.default for key, field in section_fields()["lora"].items()} | section
    kinds = {"use_dora": "DoRA", "use_rslora": "rsLoRA"}
    kind = [name for key, name in kinds.items() if lora[key]] + ([str(lora["init_lora_weights"])] if lora["init_lora_weights"] is not True else [])
    return [
        ("LoRA r / alpha / dropout", f"{lora['r']} / {lora['lora_alpha']} / {lora['lora_dropout']}"),
        ("LoRA の対象", lora["target_modules"] or "PEFT の既定"),
        *([("LoRA の種類", ", ".join(kind))] if kind else []),
    ]


def _training_figures(record: Mapping[str, Any]) -> list[str]:
    memory, hardware = record.get("peak_memory_gib") or {}, (record.get("environment") or {}).get("hardware") or {}
    gpus = ", ".join(hardware.get("gpus") or []) or "GPU なし"
    peak = ", ".join(f"{kind} {_number(value, '.2f')} GiB" for kind, value in memory.items())
    lines = [
        f"- 時間: {_number(record.get('minutes'), '.1f')} 分（途中の評価を含む）、{record.get('steps', _NOT_RECORDED)} ステップ（{_number(record.get('epochs'), '.2f')} エポック）{_kept(record)}",
        f"- 速度: {_number(record.get('rows_per_second'), '.1f')} 行/秒、最大メモリ: {peak or _NOT_RECORDED}",
        f"- ハードウェア: {_line(gpus)}、CPU {hardware.get('cpus', _NOT_RECORDED)} コア",
        f"- 損失: 最初 {_number(record.get('first_loss'), '.4f')}、最後 {_number(record.get('last_loss'), '.4f')}",
    ]
    resumed = record.get("resumed_from_step")
    return [*lines, f"- ステップ {resumed} から再開。時間と速度は再開後のもの"] if resumed else lines


def _describe_results(evaluated: Sequence[tuple[str, Mapping[str, Any] | InputError]]) -> list[str]:
    lines = ["## 学習後に実行した評価コマンドと結果", ""]
    for name, metrics in evaluated:
        lines += [f"### {_line(name)}", ""]
        if isinstance(metrics, InputError):
            lines += [f"> **評価結果を読めませんでした。** {_line(metrics)}", ""]
        else:
            lines += _describe_evaluation(name, metrics)
    return lines if evaluated else [*lines, "まだ評価していません。", ""]


def _describe_evaluation(name: str, metrics: Mapping[str, Any]) -> list[str]:
    paired = metrics.get("comparison")
    warnings = [warning for warning in [metrics.get("contaminated"), *metrics.get("warnings", [])] if warning]
    lines = [line for warning in warnings for line in (f"> **{_line(warning)}**", "")]
    lines += [*_command(metrics.get("command")), ""]
    lines += [f"- 評価データ: {_code(metrics.get('test_file'))}（sha256 {_code(str(metrics.get('test_sha256'))[:12])}）、{_line(metrics.get('asked'))}"]
    asked = f"回答形式 {metrics.get('answer')}、条文 {metrics.get('statutes')}、採点 {metrics.get('scorer')}"
    lines += [f"- 聞き方: {_line(asked)}", ""]
    if metrics.get("answer") == "dialogue":
        lines += _describe_style(metrics, paired)
    else:
        lines += _describe_accuracy(metrics, paired)
    return [*lines, f"- レポート: [eval/{_line(name)}/report.md](<eval/{_line(name)}/report.md>)", ""]


def _describe_accuracy(metrics: Mapping[str, Any], paired: Mapping[str, Any] | None) -> list[str]:
    rows = [
        (model, f"{100 * figures['accuracy']:.1f} % ({figures['correct']}/{figures['questions']})", _interval(figures["interval"]))
        for model, figures in metrics["models"].items()
    ]
    lines = [*_table(("モデル", "accuracy", "95 % 区間 (%)"), rows), ""]
    if paired is not None:
        lines += [
            f"- 差 (tuned - base): {100 * paired['difference']:+.1f} ポイント、95 % 区間 {_interval(paired['interval'], '+.1f')}、p = {paired['p_value']:.2g}",
            f"- 判定: {_judged(metrics, paired)}",
        ]
    return lines


def _describe_style(metrics: Mapping[str, Any], paired: Mapping[str, Any] | None) -> list[str]:
    """The same of an evaluation of dialogues; the style is a score from 0 to 1."""
    columns = {"same_reply": "同じ返答", "only_questions": "質問だけの返答", "distinct_2": "distinct-2", "perplexity": "base から見た perplexity"}
    rows = [
        (model, f"{figures['style']:.3f}", _scores(figures["interval"]), *(_number(figures.get(key), ".2f") for key in columns))
        for model, figures in metrics["models"].items()
    ]
    lines = [*_table(("モデル", "文体スコア (0–1)", "95 % 区間", *columns.values()), rows), ""]
    if paired is not None:
        lines += [
            f"- 差 (tuned - base): {paired['difference']:+.3f}、95 % 区間 {_scores(paired['interval'], '+.3f')}、p = {paired['p_value']:.2g}（会話単位の対応あり検定）",
            f"- 判定: {_judged(metrics, paired)}",
        ]
    return [*lines, *(f"- 注意（{_line(found.get('name'))}）: {_line(found.get('says'))}" for found in metrics.get("diagnosis", []) if isinstance(found, dict))]


def _scores(bounds: Sequence[float], form: str = ".3f") -> str:
    return f"[{', '.join(format(bound, form) for bound in bounds)}]"


def _kept(record: Mapping[str, Any]) -> str:
    """Which step's weights were kept, where they are not the last one's."""
    kept = record.get("kept_step")
    return f"。残したのは {kept} ステップ目" if kept and kept != record.get("steps") else ""


def _judged(metrics: Mapping[str, Any], paired: Mapping[str, Any]) -> str:
    verdict = _VERDICTS.get(paired["verdict"], _line(paired["verdict"]))
    if metrics.get("contaminated") or metrics.get("rehearsal"):
        return f"**判定なし**（数値だけなら {verdict}）"
    return f"**{verdict}**（{_line(paired.get('reason') or _NOT_RECORDED)}）"


def _suggest(run: Path, record: Mapping[str, Any], evaluated: Sequence[tuple[str, Mapping[str, Any] | InputError]]) -> list[str]:
    """The head of the last section: what the figures suggest to do next."""
    suggested = [
        _line(finding["try_next"])
        for _, metrics in evaluated
        if not isinstance(metrics, InputError)
        for finding in metrics.get("diagnosis", [])
        if isinstance(finding, dict) and finding.get("try_next")
    ]
    if not evaluated and not record.get("rehearsal"):
        suggested.append(f"評価していない: {_code(f'lawft eval {shlex.quote(str(run))}')}")
    if record.get("rehearsal"):
        suggested.append("リハーサルなので、同じコマンドを --rehearse なしで実行する")
    lines = ["## 所感・次のアクション", ""]
    return [*lines, "lawft からの提案:", "", *(f"- {text}" for text in dict.fromkeys(suggested))] if suggested else lines[:-1]


def _line(value: Any) -> str:
    """A value as text on one line."""
    return " ".join(str(value).split())


def _code(value: Any) -> str:
    """A value as code, which may hold backticks itself."""
    text = _line(value)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _command(arguments: Any) -> list[str]:
    """A recorded command line as an indented code block."""
    if not isinstance(arguments, list) or not arguments:
        return [f"    {_NOT_RECORDED}"]
    program = Path(str(arguments[0]))
    shown = [program.name if program.suffix != ".py" else str(program), *map(str, arguments[1:])]
    return [f"    {line}" for line in shlex.join(shown).splitlines()]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(_line(cell).replace("|", "\\|") for cell in row) + " |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{_line(key)}={_line(value)}" for key, value in values.items())


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else _NOT_RECORDED


def _interval(bounds: Sequence[float], form: str = ".1f") -> str:
    return f"[{', '.join(format(100 * bound, form) for bound in bounds)}]"


def _time(value: Any) -> str:
    """A recorded time, ISO 8601 with its zone, as people write it."""
    try:
        return datetime.fromisoformat(value).isoformat(sep=" ", timespec="seconds")
    except (TypeError, ValueError):
        return _NOT_RECORDED if value is None else _line(value)
