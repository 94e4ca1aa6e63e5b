"""Launching on several devices: accelerate's files, a cluster's script, what is refused beforehand, models spread over devices."""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import QUICKSTART, ROOT, TINY_MODEL, adapter, rows_file

from lawft_trl.errors import InputError
from lawft_trl.recipe import load_recipe
from lawft_trl.training.launch_checks import describe_placement, refuse_impossible

FILES = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
REAL = ROOT / "recipes" / "direct_norag.yaml"  # 4-bit, bfloat16, a paged optimizer, evaluated by letters
SLURM = ROOT / "scripts" / "slurm_sft.sbatch"
NF4_SPLIT = [
    "quantization.load_in_4bit=true",
    "quantization.bnb_4bit_quant_type=nf4",
    "quantization.bnb_4bit_use_double_quant=true",
    "quantization.bnb_4bit_compute_dtype=bfloat16",
    "quantization.bnb_4bit_quant_storage=bfloat16",
    "model.dtype=bfloat16",
]


# The files, read by accelerate itself


def launched(file: Path, *options: str) -> argparse.Namespace:
    """What `accelerate launch` makes of a file: its checked arguments."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    arguments = launch_command_parser().parse_args(["--config_file", str(file), *options, "train.py"])
    return _validate_launch_command(arguments)[0]


def test_the_files_are_those_that_are_promised():
    names = {"cpu", "single_gpu", "multi_gpu", "multi_node", "fsdp2", "deepspeed_zero2", "deepspeed_zero3"}
    assert {file.stem for file in FILES} == names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_reads_the_file_and_knows_its_keys(file):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config = load_config_from_file(str(file))  # raises for unknown keys, but not for those in sections
    assert config.mixed_precision == "no", "precision is the recipe's"
    options = {action.dest for action in launch_command_parser()._actions}
    assert set(config.fsdp_config) | set(config.deepspeed_config) <= options
    header = file.read_text(encoding="utf-8").split("compute_environment")[0]
    assert header.startswith("#") and ("Not run" in header or "Run by" in header), "says whether and where it was run"


def test_the_fsdp_file_asks_for_what_an_adapter_needs(monkeypatch):
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    environment = prepare_multi_gpu_env(launched(ROOT / "accelerate_configs" / "fsdp2.yaml", "--main_process_port", "0"))
    for name, value in environment.items():
        if name.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(name, value)
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward and plugin.cpu_ram_efficient_loading
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy" and plugin.transformer_cls_names_to_wrap is None
    assert not plugin.activation_checkpointing
    assert refused(STORED, environment | DDP) == []
    assert "must be stored" in " ".join(refused(PLAIN, environment | DDP)), "the checks read what accelerate writes"


@pytest.mark.parametrize("stage", [2, 3])
def test_the_deepspeed_files_ask_for_their_stage(stage):
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    arguments = launched(ROOT / "accelerate_configs" / f"deepspeed_zero{stage}.yaml", "--main_process_port", "0")
    arguments.deepspeed_fields_from_accelerate_config = ""  # accelerate's `launch_command` fills it in
    _, environment = prepare_deepspeed_cmd_env(arguments)
    assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == str(stage)
    assert environment.get("ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL") == ("true" if stage == 3 else None)
    assert bool(refused(PLAIN, environment | DDP)) == (stage == 3), "the checks read what accelerate writes"


def test_several_machines_must_be_told_how_many():
    with pytest.raises(ValueError, match="num_processes"):
        launched(ROOT / "accelerate_configs" / "multi_node.yaml")


# Runs on the CPU


@pytest.fixture(scope="session")
def few_rows(sample_data, tmp_path_factory) -> list[str]:
    """Overrides for three steps on a few rows, which are quickly encoded."""
    folder = tmp_path_factory.mktemp("few")
    for split in ("train", "dev", "test"):
        lines = rows_file(sample_data, split).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{split}.jsonl").write_text("".join(lines[:48]), encoding="utf-8")
    return [
        *(f"data.{split}={folder}/{split}.jsonl" for split in ("train", "dev", "test")),
        "data.shared_prefix=false",
        "lora.lora_dropout=0.0",
        "training.max_steps=3",
        "training.logging_steps=1",
        "training.per_device_train_batch_size=4",
    ]


def losses(run: Path) -> list[float]:
    history = (run / "training_metrics.csv").read_text(encoding="utf-8").splitlines()
    column = history[0].split(",").index("loss")
    return [float(line.split(",")[column]) for line in history[1:] if line.split(",")[column]]


def launch(*arguments: object, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "accelerate.commands.launch", *map(str, arguments)]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen) -> str:
    output = process.communicate(timeout=400)[0]
    assert process.returncode == 0, output[-6000:]
    return output


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_machines_train_one_adapter(few_rows, tmp_path):
    """Two launchers as on two machines, each with one process, that find each other by address and port."""
    run, port = tmp_path / "run", free_port()
    machines = [
        launch(
            *("--config_file", ROOT / "accelerate_configs" / "multi_node.yaml", "--num_machines", 2, "--num_processes", 2),
            *("--machine_rank", rank, "--main_process_ip", "127.0.0.1", "--main_process_port", port),
            *(ROOT / "lawft_trl" / "sft.py", QUICKSTART, *few_rows, f"training.output_dir={run}"),
        )
        for rank in range(2)
    ]
    outputs = [finished(machine) for machine in machines]
    assert [output.count("Adapter:") for output in outputs] == [1, 0], "the first process of the first machine alone speaks"
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["identity"]["processes"] == 2
    assert len(losses(run)) == 3


# accelerate splits models (FSDP) on GPUs only. Its own code then runs on CPUs all the same, so one line stands in for the GPUs:
# two CPU processes call themselves what two GPU processes would.
STAND_IN = """
import json, os, sys
from pathlib import Path

import trl
from accelerate import DistributedType, PartialState
from bitsandbytes.nn import Linear4bit
from torch.distributed.tensor import DTensor

begin = PartialState.__init__

def as_gpus(self, *arguments, **options):
    begin(self, *arguments, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU

PartialState.__init__ = as_gpus

class Told(trl.SFTTrainer):
    def train(self, *arguments, **options):
        result = super().train(*arguments, **options)
        parameters = list(self.model_wrapped.parameters())
        found = {
            "wrapper": [each.__name__ for each in type(self.model_wrapped).__mro__],
            "split": sum(isinstance(parameter, DTensor) for parameter in parameters),
            "parameters": len(parameters),
            "4-bit": sum(isinstance(module.weight, DTensor) for module in self.model_wrapped.modules() if isinstance(module, Linear4bit)),
        }
        if self.accelerator.is_main_process:
            Path(os.environ["TOLD"]).write_text(json.dumps(found))
        return result

trl.SFTTrainer = Told
import lawft_trl.training.launch_checks

lawft_trl.training.launch_checks.refuse_impossible = lambda *arguments, **options: None  # it refuses FSDP on CPUs, rightly
from lawft_trl.recipe import load_recipe
from lawft_trl.sft import main

for arguments in json.loads(sys.argv[1]):
    os.environ["TOLD"] = arguments.pop()
    main(load_recipe(*arguments))
"""


@pytest.mark.slow
def test_split_over_two_processes_the_same_is_learned_and_saved(few_rows, tmp_path, monkeypatch):
    """FSDP2 by the shipped file: float32 and 4-bit, against one process that accumulates twice."""
    from lawft_trl.sft import main

    kinds = {"float32": ["training.gradient_checkpointing=true"], "nf4": NF4_SPLIT}
    (tmp_path / "train.py").write_text(STAND_IN, encoding="utf-8")
    todo = [
        [str(QUICKSTART), [*few_rows, *more, f"training.output_dir={tmp_path}/{kind}_split"], f"{tmp_path}/{kind}.json"]
        for kind, more in kinds.items()
    ]
    config = ROOT / "accelerate_configs" / "fsdp2.yaml"
    # Both at once, as there are two trainings to wait for
    process = launch("--config_file", config, "--main_process_port", free_port(), tmp_path / "train.py", json.dumps(todo))
    monkeypatch.chdir(ROOT)
    for kind, more in kinds.items():
        out = [f"training.output_dir={tmp_path}/{kind}_whole", "training.gradient_accumulation_steps=2"]
        main(load_recipe(QUICKSTART, [*few_rows, *more, *out]))
    finished(process)
    for kind, close, near in (("float32", 1e-6, 1e-4), ("nf4", 1e-3, 2e-3)):  # one step of a bfloat16 weight of 0.1 is 5e-4
        told = json.loads((tmp_path / f"{kind}.json").read_text(encoding="utf-8"))
        assert "FSDPModule" in told["wrapper"] and "DistributedDataParallel" not in told["wrapper"]
        assert told["split"] == told["parameters"], "every weight is split"
        assert told["4-bit"] == (4 * 7 if kind == "nf4" else 0), "the 4-bit ones too"
        split, whole = tmp_path / f"{kind}_split", tmp_path / f"{kind}_whole"
        assert losses(split) == pytest.approx(losses(whole), abs=near)
        ours, theirs = adapter(split), adapter(whole)
        assert set(ours) == set(theirs)
        assert all((ours[name].float() - theirs[name].float()).abs().max() <= close for name in theirs)

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(TINY_MODEL), str(tmp_path / "float32_split"))
    saved = adapter(tmp_path / "float32_split")
    loaded = {name.replace(".default", ""): weight for name, weight in tuned.named_parameters() if "lora_" in name}
    assert set(loaded) == set(saved) and all(loaded[name].equal(saved[name]) for name in saved)


def test_without_a_gpu_accelerate_makes_ddp_of_fsdp(tmp_path):
    """Why `refuse_impossible` refuses FSDP on CPUs. If this fails, accelerate has learned it: let it through."""
    script = tmp_path / "wrap.py"
    script.write_text(
        "import torch\nfrom accelerate import Accelerator\naccelerator = Accelerator(cpu=True)\nmodel = torch.nn.Linear(4, 4)\n"
        "model = accelerator.prepare(model, torch.optim.SGD(model.parameters()))[0]\nprint(f'wrapped in {type(model).__name__}\\n', end='', flush=True)\n",
        encoding="utf-8",
    )
    output = finished(launch("--config_file", ROOT / "accelerate_configs" / "fsdp2.yaml", "--main_process_port", free_port(), script))
    assert output.count("DistributedDataParallel") == 2


def test_accelerates_own_checkpointing_draws_another_dropout_mask():
    """Why `refuse_impossible` refuses it with LoRA dropout. If this fails, accelerate has mended it: let it through."""
    from types import SimpleNamespace

    import torch
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_apply_ac
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    def gradients(kind: str) -> torch.Tensor:
        torch.manual_seed(0)
        config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", lora_dropout=0.5, init_lora_weights=False)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(TINY_MODEL), config).train()
        if kind == "recipe":
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable()
        if kind == "accelerate":
            plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap", activation_checkpointing=True)
            model = fsdp2_apply_ac(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)), model)
        torch.manual_seed(1)
        ids = torch.arange(5, 69).view(1, -1)
        model(input_ids=ids, labels=ids).loss.backward()
        return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])

    right = gradients("none")
    assert torch.allclose(gradients("recipe"), right, rtol=1e-4, atol=1e-6)
    assert (gradients("accelerate") - right).norm() > 0.1 * right.norm()


# What is refused, and what is not

DDP = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
FSDP = DDP | {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
ZERO2 = DDP | {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
ZERO3 = ZERO2 | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}
PLAIN = ["training.optim=adamw_torch", "evaluation.dev_letters=false", "training.metric_for_best_model=eval_loss"]
STORED = [*PLAIN, "quantization.bnb_4bit_quant_storage=bfloat16"]
EIGHT_BIT = ["quantization.load_in_4bit=false", "quantization.load_in_8bit=true"]
SPREAD = ["model.device_map=balanced", "model.max_memory={0: 4GiB, 1: 4GiB, cpu: 24GB}"]
ON_CPU = ["training.use_cpu=true", "training.bf16=false"]


def refused(overrides: list[str], environment: dict[str, str], gpus: int = 2, bf16: bool = True) -> list[str]:
    try:
        refuse_impossible(load_recipe(REAL, overrides), environment, gpus=gpus, bf16=bf16)
    except InputError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("overrides", "environment", "gpus", "expected"),
    [
        (PLAIN, FSDP, 2, "found uint8: set quantization.bnb_4bit_quant_storage=bfloat16"),
        ([*PLAIN, "quantization.bnb_4bit_quant_storage=float16"], FSDP, 2, "found float16"),
        ([*STORED, "model.dtype=float32"], FSDP, 2, "set model.dtype=bfloat16"),
        (PLAIN, ZERO3, 2, "under ZeRO-3 must be stored"),
        ([*STORED, "training.bf16=false", "training.fp16=true"], FSDP, 2, "and FSDP wants one type"),
        ([*PLAIN, *EIGHT_BIT], FSDP, 2, "8-bit weights cannot be split by FSDP"),
        ([*PLAIN, *EIGHT_BIT], ZERO3, 2, "8-bit weights cannot be split by ZeRO-3"),
        (STORED, FSDP | {"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}, 2, "would save no adapter"),
        (STORED, FSDP | {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, 2, "the gradients are wrong"),
        ([*STORED, "lora.lora_dropout=0"], FSDP | {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, 2, "are both on"),
        ([*STORED, "training.optim=paged_adamw_8bit"], FSDP, 2, "which cannot update split weights"),
        ([*PLAIN, "training.optim=paged_adamw_8bit"], ZERO2, 2, "training.optim=adamw_torch, and offload_optimizer_device"),
        ([*STORED, "evaluation.dev_letters=true"], FSDP, 2, "evaluation.dev_letters=false, or use"),
        (
            ["training.optim=adamw_torch"], ZERO2, 2,
            "evaluation.dev_letters=false training.metric_for_best_model=eval_loss, or use",
        ),
        (SPREAD, DDP, 2, "model.device_map is 'balanced' and 2 processes were started"),
        (["training.fsdp=full_shard"], DDP, 2, "--config_file accelerate_configs/fsdp2.yaml"),
        (["training.deepspeed=ds.json"], DDP, 2, "training.deepspeed is set"),
        ([], {}, 2, "accelerate launch --config_file accelerate_configs/multi_gpu.yaml --num_processes 2 lawft_trl/sft.py"),
        (["model.device_map={'': 0}"], {}, 2, "CUDA_VISIBLE_DEVICES=0"),
        ([], DDP, 1, "2 processes were started on this machine and 1 GPU(s)"),
        (SPREAD, {}, 1, "2 GPU(s) are named in model.max_memory (0, 1) and 1 GPU(s) are visible"),
        (ON_CPU, FSDP, 0, "would train with plain DDP without a word"),
        (ON_CPU, ZERO2, 0, "the launcher's file asks for DeepSpeed"),
        ([], {"ACCELERATE_USE_CPU": "True"}, 1, "accelerate_configs/single_gpu.yaml"),
    ],
)
def test_what_cannot_work_is_refused_in_words(overrides, environment, gpus, expected):
    assert expected in " | ".join(refused(overrides, environment, gpus))


@pytest.mark.parametrize(
    ("overrides", "environment", "gpus"),
    [
        ([], {}, 1),
        ([], {}, 0),  # `require_device` says what is to be said
        ([], {"ACCELERATE_USE_CPU": "False", "ACCELERATE_MIXED_PRECISION": "no"}, 1),
        ([], DDP, 2),
        (EIGHT_BIT, DDP, 2),
        (SPREAD, {}, 2),
        (["model.device_map=balanced", "model.max_memory={0: 4GiB, cpu: 24GB}"], {}, 1),
        (["model.device_map={'': 0}"], {}, 1),
        (STORED, FSDP, 2),
        (["quantization=null", *PLAIN], FSDP, 2),
        (["lora.lora_dropout=0", "training.gradient_checkpointing=false", *STORED], FSDP | {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, 2),
        (PLAIN, ZERO2, 2),
        (STORED, ZERO3, 2),
        ([*STORED, "evaluation.dev_letters=true", "training.eval_strategy=no", "training.load_best_model_at_end=false"], FSDP, 2),
        (["training.bf16=false", "training.fp16=true"], {}, 1),  # the adapter is kept in float32 then
        (ON_CPU, DDP, 0),
        (ON_CPU, {"ACCELERATE_USE_CPU": "True"}, 2),
    ],
)
def test_what_works_is_let_through(overrides, environment, gpus):
    assert refused(overrides, environment, gpus) == []


@pytest.mark.parametrize("environment", [{}, DDP, FSDP, ZERO2, ZERO3])
def test_a_recipe_that_leaves_all_to_the_defaults_is_understood(environment):
    """The quickstart's names no optimizer; only that it is for the CPU stands against FSDP and DeepSpeed."""
    refuse_impossible(load_recipe(QUICKSTART, ["training.use_cpu=false"]), environment, gpus=2 if environment else 1)
    assert "rows a step" in describe_placement(load_recipe(QUICKSTART), environment)


def test_a_gpu_that_only_emulates_bfloat16():
    text = " | ".join(refused([], {}, gpus=1, bf16=False))
    assert "set training.bf16=false training.fp16=true model.dtype=float16" in text and "bnb_4bit_compute_dtype" in text
    text = " | ".join(refused(["quantization=null"], {}, gpus=1, bf16=False))
    assert "training.bf16=false training.fp16=true" in text
    half = ["training.bf16=false", "training.fp16=true", "model.dtype=float16", "quantization=null"]
    assert refused(half, {}, gpus=1, bf16=False) == []


def test_all_reasons_are_told_at_once_and_nothing_about_the_others():
    problems = refused(["model.device_map=auto"], FSDP)
    assert [problem.split()[0] for problem in problems] == ["model.device_map", "4-bit", "evaluation.dev_letters", "training.optim"]


@pytest.mark.parametrize(
    ("overrides", "environment", "expected"),
    [
        ([], {}, "one process, the whole model on one device; 8 rows a step"),
        (["model.device_map={'': cpu}"], {}, "the whole model on one device"),
        ([], DDP, "2 processes, each holding the whole model and training its share of the rows (DDP); 16 rows a step"),
        (STORED, FSDP, "each holding a slice of every layer (FSDP)"),
        (PLAIN, ZERO2, "each holding the whole model (DeepSpeed)"),
        (STORED, ZERO3, "each holding a slice of every layer (DeepSpeed)"),
        (SPREAD, {}, "(device_map balanced, at most 0: 4GiB, 1: 4GiB, cpu: 24GB), which work one after the other; 8 rows a step"),
    ],
)
def test_one_line_says_where_the_model_is(overrides, environment, expected):
    line = describe_placement(load_recipe(REAL, overrides), environment)
    assert expected in line and "\n" not in line


# A model spread over devices


def test_a_device_map_and_its_memory_limits_reach_the_model(sample_data, tiny_tokenizer, tmp_path):
    """Loaded as TRL loads it, the tiny model is spread over memory and disk; its letters are those of the whole one."""
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import create_model_from_path

    from lawft_trl.data.rows import read_rows
    from lawft_trl.evaluation.asking import ask
    from lawft_trl.evaluation.letters import score_letters
    from lawft_trl.training.preflight import sft_config

    recipe = load_recipe(QUICKSTART, ["model.device_map=auto", "model.max_memory={cpu: 4MB}"])
    settings = sft_config(recipe, work=tmp_path, turn_end="<|im_end|>", report_to=[], run_name="spread").model_init_kwargs
    spread = create_model_from_path(str(TINY_MODEL), **settings).eval()
    assert set(spread.hf_device_map.values()) == {"cpu", "disk"} and spread.lm_head.weight.is_meta

    asked = ask(read_rows(rows_file(sample_data, "test"), system=None)[:3], tiny_tokenizer, {"enable_thinking": False})
    whole = AutoModelForCausalLM.from_pretrained(TINY_MODEL).eval()
    options = {"pad_token_id": tiny_tokenizer.pad_token_id, "batch_size": 4, "progress": "letters"}
    for ours, theirs in zip(score_letters(spread, asked, **options), score_letters(whole, asked, **options), strict=True):
        assert ours.letter_logprobs == pytest.approx(theirs.letter_logprobs, abs=1e-4)
    # Accelerate writes numbers of bytes into the limits it is given; a resumed run compares them with the recipe's
    assert recipe.values["model"]["max_memory"] == {"cpu": "4MB"}


# The cluster's script, with stand-ins for the programs of the cluster

SCONTROL = """#!/bin/bash
echo "$*" >> "$RECORD/scontrol"
if [[ $1 == show ]]; then printf 'gpu07\ngpu08\n'; fi
"""
SRUN = """#!/bin/bash
printf '%s\n' "$@" > "$RECORD/srun"
while [[ $1 == --* ]]; do shift; done
for SLURM_NODEID in 0 1; do
    export SLURM_NODEID
    "$@"
done
"""
ACCELERATE = """#!/bin/bash
printf '%s\n' "$@" > "$RECORD/machine$SLURM_NODEID"
"""
WAITING_SRUN = """#!/bin/bash
sleep 60 &
trap "kill $!; exit 143" TERM
touch "$RECORD/started"
wait
"""


def slurm_environment(tmp_path: Path, **programs: str) -> dict[str, str]:
    """A job's variables, and stand-ins on PATH that record how they were called."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, text in programs.items():
        (bin_folder / name).write_text(text, encoding="utf-8")
        (bin_folder / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_NODELIST": "gpu[07-08]"}
    folders = {"SLURM_SUBMIT_DIR": str(ROOT), "RECORD": str(tmp_path), "LAWFT_LOGS": str(tmp_path / "logs")}
    path = f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | job | folders | {"PATH": path}


def test_the_cluster_script_starts_one_launcher_per_machine(tmp_path):
    from accelerate.commands.launch import launch_command_parser

    environment = slurm_environment(tmp_path, srun=SRUN, scontrol=SCONTROL, accelerate=ACCELERATE)
    given = ["recipes/direct_norag.yaml", "training.output_dir=a folder/run", "--force"]
    result = subprocess.run(["bash", SLURM, *given], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    for machine in range(2):
        words = (tmp_path / f"machine{machine}").read_text(encoding="utf-8").splitlines()
        assert words[0] == "launch"
        told = launch_command_parser().parse_args(words[1:])
        assert (told.num_machines, told.num_processes, told.machine_rank) == (2, 8, machine)
        assert (told.main_process_ip, told.main_process_port) == ("gpu07", 20000 + 4711)
        assert (ROOT / told.config_file).is_file() and (ROOT / told.training_script).is_file()
        assert told.training_script_args == given
    assert (tmp_path / "logs").is_dir()
    assert f"--output={tmp_path}/logs/machine-%n.log" in (tmp_path / "srun").read_text(encoding="utf-8")
    assert "requeue" not in (tmp_path / "scontrol").read_text(encoding="utf-8")


@pytest.mark.parametrize("left", [True, False], ids=["something to go on with", "nothing yet"])
def test_a_job_that_comes_back_goes_on(tmp_path, left):
    environment = slurm_environment(tmp_path, srun=SRUN, scontrol=SCONTROL, accelerate=ACCELERATE)
    if left:
        (tmp_path / "run.unfinished").mkdir()
        (tmp_path / "run.unfinished" / "run.json").touch()
    command = ["bash", SLURM, "recipes/direct_norag.yaml", f"training.output_dir={tmp_path}/run"]
    result = subprocess.run(command, env=environment | {"SLURM_RESTART_COUNT": "1"}, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    for machine in range(2):
        assert ("--resume" in (tmp_path / f"machine{machine}").read_text(encoding="utf-8").splitlines()) == left


def test_before_its_time_is_up_the_job_stops_and_is_put_back(tmp_path):
    environment = slurm_environment(tmp_path, srun=WAITING_SRUN, scontrol=SCONTROL)
    job = subprocess.Popen(["bash", SLURM, "recipes/direct_norag.yaml"], env=environment)
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=30) == 143
    assert "requeue 4711" in (tmp_path / "scontrol").read_text(encoding="utf-8")


def test_the_cluster_script_says_how_it_is_called_and_is_clean(tmp_path):
    environment = slurm_environment(tmp_path, srun=SRUN, scontrol=SCONTROL)
    result = subprocess.run(["bash", SLURM], env=environment, capture_output=True, text=True, timeout=60)
    assert (result.returncode, "usage: sbatch" in result.stderr) == (2, True)
    subprocess.run(["bash", "-n", SLURM], check=True, timeout=60)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", SLURM], check=True, timeout=60)
