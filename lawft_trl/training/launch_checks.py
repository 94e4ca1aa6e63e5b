"""Refuses, before anything is loaded, launches that cannot train or would train otherwise than they say.

`accelerate launch` tells its processes by environment variables what they are: `WORLD_SIZE` and `LOCAL_WORLD_SIZE` (only
where it starts several, or FSDP or DeepSpeed), `ACCELERATE_USE_FSDP` with `FSDP_*`, `ACCELERATE_USE_DEEPSPEED` with
`ACCELERATE_DEEPSPEED_*`, and `ACCELERATE_USE_CPU` (only where it starts one). See `accelerate/utils/launch.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe
from lawft_trl.recipe_adapters import changes_base

_DDP = "accelerate_configs/multi_gpu.yaml"


def visible_gpus() -> tuple[int, bool]:
    """How many accelerators this process sees, and whether each of them computes in bfloat16 by itself.

    transformers also takes cards that only emulate bfloat16, as those of the RTX 20 series and the T4 do, slowly.
    """
    import torch

    if not torch.cuda.is_available():
        return (torch.accelerator.device_count() if torch.accelerator.is_available() else 0), True
    count = torch.cuda.device_count()
    native = torch.version.hip is not None or all(torch.cuda.get_device_capability(index) >= (8, 0) for index in range(count))
    return count, native


def refuse_impossible(recipe: Recipe, environment: Mapping[str, str], *, gpus: int, bf16: bool = True) -> None:
    """Refuses pairs of recipe and launch that do not go together.

    Args:
        recipe: the resolved recipe.
        environment: the process's environment variables (`os.environ`).
        gpus: how many GPUs this process sees.
        bf16: whether they compute in bfloat16 by themselves.

    Raises:
        InputError: with every such pair: what was found, why it cannot work, what to type instead.
    """
    problems: list[str] = []
    for examine in (_placement, _machine, _fsdp, _deepspeed):
        examine(recipe, environment, problems.append)
    if not recipe.training("use_cpu"):
        _cards(recipe, environment, gpus, bf16, problems.append)
    if problems:
        raise InputError(f"{recipe.path}: {len(problems)} reason(s) not to launch it like this; nothing was started", problems)


def describe_placement(recipe: Recipe, environment: Mapping[str, str]) -> str:
    """One line on where the model is and who works on what, for the start of a training.

    Args:
        recipe: a recipe that `refuse_impossible` let pass.
        environment: the process's environment variables.
    """
    processes, model = _processes(environment), recipe.model
    rows = recipe.training("per_device_train_batch_size") * recipe.training("gradient_accumulation_steps")
    step = f"{processes * rows} rows a step"
    if _splits(model.device_map):
        budget = f", at most {', '.join(f'{device}: {size}' for device, size in model.max_memory.items())}" if model.max_memory else ""
        return (
            f"Placement: one process, the model's layers spread over the devices (device_map {model.device_map}{budget}), which work one "
            f"after the other; {step}. If one GPU holds the model, {_DDP} without device_map uses all GPUs at once."
        )
    if processes == 1:
        return f"Placement: one process, the whole model on one device; {step}."
    if _on(environment, "ACCELERATE_USE_FSDP"):
        return f"Placement: {processes} processes, each holding a slice of every layer (FSDP) and training its share of the rows; {step}."
    if _on(environment, "ACCELERATE_USE_DEEPSPEED"):
        kept = "a slice of every layer" if _zero_stage(environment) == 3 else "the whole model"
        return f"Placement: {processes} processes, each holding {kept} (DeepSpeed) and training its share of the rows; {step}."
    return f"Placement: {processes} processes, each holding the whole model and training its share of the rows (DDP); {step}."


def _placement(recipe: Recipe, environment: Mapping[str, str], report: Callable[[str], None]) -> None:
    """A device map is for one process; what splits a model over several is for the launcher's file to say."""
    processes = _processes(environment)
    for key in ("device_map", "max_memory"):
        value = recipe.values["model"].get(key)
        if processes > 1 and value is not None:
            report(
                f"model.{key} is {value!r} and {processes} processes were started: a device map spreads one model over the devices of one "
                f"process. Set model.{key}=null, or start one process: python lawft_trl/sft.py {recipe.path}"
            )
    for key, file in (("fsdp", "fsdp2.yaml"), ("deepspeed", "deepspeed_zero3.yaml")):
        if recipe.training(key):
            report(f"training.{key} is set: the launcher's file says this here. Remove it and use --config_file accelerate_configs/{file}")


def _machine(recipe: Recipe, environment: Mapping[str, str], report: Callable[[str], None]) -> None:
    """The CPU in one place and GPUs in the other."""
    use_cpu = recipe.training("use_cpu")
    for variable, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if use_cpu and _on(environment, variable):
            report(
                f"training.use_cpu is true and the launcher's file asks for {name}: accelerate knows it on GPUs only and would train "
                "with plain DDP without a word. Use --config_file accelerate_configs/cpu.yaml, or set training.use_cpu=false"
            )
    if not use_cpu and _on(environment, "ACCELERATE_USE_CPU"):
        report(
            "the launcher's file says use_cpu: true and the recipe is for a GPU: use --config_file accelerate_configs/single_gpu.yaml, "
            "or set training.use_cpu=true training.bf16=false"
        )


def _cards(recipe: Recipe, environment: Mapping[str, str], gpus: int, bf16: bool, report: Callable[[str], None]) -> None:
    """As many processes as GPUs, no memory planned on others, and precision that the GPUs have."""
    local = int(environment.get("LOCAL_WORLD_SIZE", 1))
    if gpus > 1 and "LOCAL_RANK" not in environment and not _splits(recipe.model.device_map):
        report(
            f"{gpus} GPUs are visible to one process, which trains on one of them. For all of them: "
            f"accelerate launch --config_file {_DDP} --num_processes {gpus} lawft_trl/sft.py {recipe.path}; for one: put "
            "CUDA_VISIBLE_DEVICES=0 before the command; for a model that no single one holds: model.device_map=balanced"
        )
    if gpus and local > gpus:
        report(f"{local} processes were started on this machine and {gpus} GPU(s) are visible: give the launcher --num_processes {gpus}")
    named = [device for device in recipe.model.max_memory or {} if isinstance(device, int)]
    # accelerate only warns, and then plans layers onto GPUs that are not there.
    if gpus and _processes(environment) == 1 and _splits(recipe.model.device_map) and max(named, default=0) >= gpus:
        report(
            f"{len(named)} GPU(s) are named in model.max_memory ({', '.join(map(str, named))}) and {gpus} GPU(s) are visible, counted from 0: name "
            "these alone, as in model.max_memory='{0: 4GiB, cpu: 24GB}'; or, where one GPU holds the model, set model.device_map=null "
            "model.max_memory=null, as recipes/socratic_bf16.yaml does"
        )
    if bf16 or not gpus:
        return
    if recipe.training("bf16") or (recipe.training("bf16") is None and not recipe.training("fp16")):
        report(
            "training.bf16 is on and this GPU only emulates bfloat16, slowly (made before the RTX 30 series): "
            "set training.bf16=false training.fp16=true model.dtype=float16"
        )
    if recipe.values.get("quantization", {}).get("bnb_4bit_compute_dtype") == "bfloat16":
        report("quantization.bnb_4bit_compute_dtype is bfloat16, which this GPU only emulates: set it to float16")


def _fsdp(recipe: Recipe, environment: Mapping[str, str], report: Callable[[str], None]) -> None:
    if not _on(environment, "ACCELERATE_USE_FSDP"):
        return
    _split_quantized(recipe, "FSDP", report)
    _split_residual(recipe, "FSDP", report)
    _dev_letters(recipe, "FSDP", report)
    _dev_style(recipe, "FSDP", report)
    if environment.get("FSDP_STATE_DICT_TYPE", "SHARDED_STATE_DICT").upper() != "FULL_STATE_DICT":
        report("fsdp_state_dict_type is not FULL_STATE_DICT: the trainer would save no adapter. Set it in the launcher's file")
    if any(part in _optimizer(recipe) for part in ("paged_", "8bit", "bnb")):  # those of bitsandbytes
        report(f"training.optim is {_optimizer(recipe)}, which cannot update split weights: set training.optim=adamw_torch")
    if not _on(environment, "FSDP_ACTIVATION_CHECKPOINTING"):
        return
    if recipe.values.get("lora", {}).get("lora_dropout", 0):
        report(
            "fsdp_activation_checkpointing is true and lora.lora_dropout is above 0: accelerate recomputes layers with another dropout "
            "mask, and the gradients are wrong. Set it false in the launcher's file; training.gradient_checkpointing does the same rightly"
        )
    elif recipe.training("gradient_checkpointing"):
        report(
            "fsdp_activation_checkpointing and training.gradient_checkpointing are both on: set the former false in the launcher's "
            "file, or training.gradient_checkpointing=false"
        )


def _deepspeed(recipe: Recipe, environment: Mapping[str, str], report: Callable[[str], None]) -> None:
    if not _on(environment, "ACCELERATE_USE_DEEPSPEED"):
        return
    _split_residual(recipe, "DeepSpeed", report)
    _dev_letters(recipe, "DeepSpeed", report)
    _dev_style(recipe, "DeepSpeed", report)
    if _optimizer(recipe).startswith("paged_"):
        report(
            f"training.optim is {_optimizer(recipe)}: DeepSpeed splits and offloads optimizer states itself, and paging under it is untried. "
            "Set training.optim=adamw_torch, and offload_optimizer_device: cpu in the launcher's file where memory is short"
        )
    if _zero_stage(environment) == 3:
        _split_quantized(recipe, "ZeRO-3", report)


def _split_quantized(recipe: Recipe, name: str, report: Callable[[str], None]) -> None:
    """What splits weights sees tensors of one floating type; packed 4-bit weights must be stored as one."""
    quantization = recipe.values.get("quantization", {})
    if quantization.get("load_in_8bit"):
        report(f"8-bit weights cannot be split by {name}: set quantization.load_in_4bit=true quantization.load_in_8bit=false, or use {_DDP}")
    if not quantization.get("load_in_4bit"):
        return
    storage, compute = quantization.get("bnb_4bit_quant_storage", "uint8"), quantization["bnb_4bit_compute_dtype"]
    dtype = recipe.model.dtype
    if storage != compute:
        report(
            f"4-bit weights under {name} must be stored as the type they compute in, {compute}, or they are not split; "
            f"found {storage}: set quantization.bnb_4bit_quant_storage={compute}"
        )
    if recipe.training("fp16"):
        report(f"training.fp16 keeps the adapter of a quantized base in float32, and {name} wants one type: set training.fp16=false, or use {_DDP}")
    if dtype not in ("auto", compute):
        report(f"4-bit weights under {name} need one type for all weights: model.dtype is {dtype}, set model.dtype={compute}")


def _split_residual(recipe: Recipe, name: str, report: Callable[[str], None]) -> None:
    """An adapter that takes a part out of the base is saved by subtracting whole matrices."""
    if changes_base(recipe.values.get("lora", {})):
        report(f"lora.init_lora_weights is {recipe.values['lora']['init_lora_weights']}, which was not proven under {name}: leave it out, or use {_DDP}")


def _dev_letters(recipe: Recipe, name: str, report: Callable[[str], None]) -> None:
    if recipe.training("eval_strategy") == "no" or not recipe.evaluation.dev_letters or recipe.pattern.answer in ("cot", "dialogue"):
        return
    metric = str(recipe.training("metric_for_best_model")).removeprefix("eval_")
    also = " training.metric_for_best_model=eval_loss" if metric.startswith("letter_") else ""
    report(
        f"evaluation.dev_letters needs the whole model in every process, and {name} splits it: "
        f"set evaluation.dev_letters=false{also}, or use --config_file {_DDP}"
    )


def _dev_style(recipe: Recipe, name: str, report: Callable[[str], None]) -> None:
    """Replies are written in every process on its own."""
    if recipe.training("eval_strategy") == "no" or recipe.evaluation.style is None:
        return
    metric = str(recipe.training("metric_for_best_model")).removeprefix("eval_")
    also = " training.metric_for_best_model=eval_loss" if metric.endswith("_style") else ""
    report(f"evaluation.style needs the whole model in every process, and {name} splits it: set evaluation.style=null{also}, or use --config_file {_DDP}")


def _optimizer(recipe: Recipe) -> str:
    """The optimizer's name; empty for the library's default, which is a plain AdamW."""
    return str(recipe.values["training"].get("optim", ""))


def _on(environment: Mapping[str, str], variable: str) -> bool:
    return environment.get(variable, "").lower() in ("1", "true", "yes", "on", "y", "t")


def _processes(environment: Mapping[str, str]) -> int:
    return int(environment.get("WORLD_SIZE", 1))


def _zero_stage(environment: Mapping[str, str]) -> int:
    return int(environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", 2))


def _splits(device_map: Any) -> bool:
    """Whether a device map spreads a model over several devices; a named strategy does."""
    if isinstance(device_map, dict):
        return len(set(map(str, device_map.values()))) > 1
    return device_map in ("auto", "balanced", "balanced_low_0", "sequential")
