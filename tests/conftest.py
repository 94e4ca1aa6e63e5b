"""Fixtures: the bundled tiny model, the sample rows, real lawqa_jp where LAWFT_LAWQA_DIR names it."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).parents[1]

# Nothing here may reach for the network. More threads than cores make a small model many times slower.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "WANDB_MODE": "offline", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("OMP_NUM_THREADS", "2")

TINY_MODEL = ROOT / "lawft_trl" / "assets" / "tiny_model"
CPU = ("--config_file", ROOT / "accelerate_configs" / "cpu.yaml")
TWO = ("--config_file", ROOT / "accelerate_configs" / "multi_gpu.yaml")  # on the CPU: two gloo processes
QUICKSTART = ROOT / "recipes" / "tiny_direct_gold.yaml"
NF4 = [
    "quantization.load_in_4bit=true",
    "quantization.bnb_4bit_quant_type=nf4",
    "quantization.bnb_4bit_compute_dtype=float32",
    "quantization.bnb_4bit_use_double_quant=true",
]
SAMPLE = ROOT / "lawft_trl" / "assets" / "sample" / "questions.jsonl"


# Files whose tests take minutes, so that the workers end at the same time.
_LONGEST_FIRST = ["survival", "launcher", "evaluation", "monitoring", "patterns", "served", "hub_push", "dev_letters", "batches", "adapters", "harness_task", "derive", "export", "style_monitor", "stories", "estimate", "ladder", "doctor", "shared_prefix", "cli", "cross_validation", "metrics"]


def pytest_collection_modifyitems(items):
    rank = {f"test_{name}": place for place, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def folder_from(variable: str, what: str) -> Path:
    """The folder an environment variable names; the test is skipped, loudly, where it names none."""
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: {what} was NOT tested")
    return Path(os.environ[variable])


@pytest.fixture(scope="session")
def lawqa_dir() -> Path:
    return folder_from("LAWFT_LAWQA_DIR", "real lawqa_jp")


@pytest.fixture(scope="session")
def qwen2_tokenizer():
    from lawft_trl.data.chat import load_tokenizer

    return load_tokenizer(str(folder_from("LAWFT_QWEN2_TOKENIZER", "the real Qwen2 tokenizer")))


@pytest.fixture(scope="session")
def tiny_tokenizer():
    from lawft_trl.data.chat import load_tokenizer

    return load_tokenizer(str(TINY_MODEL))


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory) -> Path:
    """`lawft data sample`, built once; the folder that holds `direct_gold/train_*.jsonl` and the others."""
    out = tmp_path_factory.mktemp("data") / "sample"
    run_lawft("data", "sample", "--out", out, check=True)
    return out


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    """Forty questions of the sample, which are quickly encoded: 80 training rows, 12 test and 8 dev questions."""
    folder = tmp_path_factory.mktemp("small_data")
    chosen = SAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)[::23][:40]
    (folder / "small.jsonl").write_text("".join(chosen), encoding="utf-8")
    run_lawft("data", "questions", "small.jsonl", "--dev-share", "0.2", "--out", folder / "small", check=True, cwd=folder)
    return folder / "small"


def rows_file(folder: Path, split: str, pattern: str = "direct_gold") -> Path:
    """The one file of a split, whose name ends with the number of its questions."""
    (file,) = (folder / pattern).glob(f"{split}_*.jsonl")
    return file


def first_rows(file: Path, count: int, folder: Path) -> Path:
    """The first rows of a file, written below `folder` under the file's own name and its pattern's."""
    out = folder / file.parent.name / file.name
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:count]), encoding="utf-8")
    return out


def run_lawft(*arguments, check: bool = False, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """`lawft ARGUMENTS` as a user runs it."""
    return _run([sys.executable, "-m", "lawft_trl.cli", *arguments], check, cwd, environment)


def run_sft(*arguments, launcher: tuple = (), check: bool = False, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """The launcher: plain `python`, or `accelerate launch` with the options in `launcher`."""
    start = [sys.executable, "-m", "accelerate.commands.launch", *launcher] if launcher else [sys.executable]
    return _run([*start, ROOT / "lawft_trl" / "sft.py", *arguments], check, cwd, environment)


def sft_here(*arguments, check: bool = False, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """`run_sft` within this process, which has loaded the libraries: ten seconds less, where a process of its own proves nothing more."""
    from lawft_trl.sft import run_from_command_line

    return _run_here(run_from_command_line, [ROOT / "lawft_trl" / "sft.py", *arguments], check, cwd, environment)


def lawft_here(*arguments, check: bool = False, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """`run_lawft` within this process."""
    from lawft_trl.cli import main

    return _run_here(main, ["lawft", *arguments], check, cwd, environment)


def _run_here(entry: Callable[[], int], argv: list, check: bool, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    argv, out, err = list(map(str, argv)), io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        patch.object(sys, "argv", argv),
        patch.dict(os.environ, environment),  # also takes back what the entry sets there
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = entry()
        except SystemExit as end:  # how argparse ends
            code = end.code
    if check and code != 0:
        pytest.fail(f"{' '.join(argv)} ended with {code}:\n{out.getvalue()[-3000:]}\n{err.getvalue()[-6000:]}")
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def _run(command: list, check: bool, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    result = subprocess.run(
        list(map(str, command)), cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=600
    )
    if check and result.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))} ended with {result.returncode}:\n{result.stdout[-3000:]}\n{result.stderr[-6000:]}")
    return result


def settings(data: Path, out: Path, *more: str) -> list[str]:
    """Overrides for three steps of the quickstart's recipe."""
    files = [f"data.{split}={data}/direct_gold/{split}_*.jsonl" for split in ("train", "dev", "test")]
    return [*files, f"training.output_dir={out}", "training.max_steps=3", "training.logging_steps=1", *more]


@contextlib.contextmanager
def disk_of(place: Path, size: str) -> Iterator[Path]:
    """A file system of its own at `place`, e.g. of `"1m"`; only root may make one, others skip the test."""
    place.mkdir()
    result = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, text=True)
    if result.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: a full disk was NOT tested: {result.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of one megabyte."""
    with disk_of(tmp_path / "disk", "1m") as disk:
        yield disk


def adapter(run: Path) -> dict:
    """The saved adapter's weights."""
    from safetensors.torch import load_file

    return load_file(run / "adapter_model.safetensors")


@pytest.fixture(scope="session")
def trained(small_data, tmp_path_factory) -> Path:
    """One short run by `accelerate launch`."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    before = {path: path.read_bytes() for path in TINY_MODEL.iterdir()}
    result = run_sft(QUICKSTART, *settings(small_data, run), launcher=CPU, check=True)
    assert f"lawft eval {run}" in result.stdout
    assert "rows/s, peak memory" in result.stdout
    assert {path: path.read_bytes() for path in TINY_MODEL.iterdir()} == before, "the base model's files are not touched"
    return run
