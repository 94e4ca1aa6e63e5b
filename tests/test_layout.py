"""The shape of the house: imports go down, nothing shadows a library, light parts stay light."""

import ast
import importlib.metadata
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "lawft_trl"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")
}

# Each part may import itself and the parts before it. `recipe` also covers its companions.
FLOORS = ["ground", "recipe", "statutes", "data", "doctor", "openai_jobs", "derive", "reasons", "run_dir", "evaluation", "export", "training", "assistant", "job_server", "sft", "commands", "cli"]
PARTS = {
    "lawft_trl": "ground",
    "lawft_trl.console": "ground",
    "lawft_trl.errors": "ground",
    "lawft_trl.folders": "ground",
    "lawft_trl.prices": "ground",
    "lawft_trl.quiet": "ground",
    "lawft_trl.text_files": "ground",
    "lawft_trl.library_fields": "recipe",
    "lawft_trl.recipe_adapters": "recipe",
    "lawft_trl.recipe_emphasis": "recipe",
    "lawft_trl.recipe_names": "recipe",
    "lawft_trl.recipe_rules": "recipe",
    "lawft_trl.recipe_sections": "recipe",
    "lawft_trl.recipe_style": "recipe",
    "lawft_trl.recipe": "recipe",
    "lawft_trl.recipe_views": "recipe",
    "lawft_trl.run_dir": "run_dir",
    "lawft_trl.experiment_log": "run_dir",
    "lawft_trl.model_card": "run_dir",
    "lawft_trl.provenance": "run_dir",
    "lawft_trl.sft": "sft",
    "lawft_trl.cli": "cli",
}
# Recipes and data know nothing of each other.
FORBIDDEN = {(mine, "recipe") for mine in ("statutes", "data", "doctor", "derive", "reasons")} | {("commands", "sft"), ("cli", "sft"), ("assistant", "training")}


def part_of(module: str) -> str:
    return PARTS.get(module) or module.split(".")[1]


def imported(path) -> set[str]:
    """The modules of ours that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports fail in a launcher that is run by its path"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name in MODULES and name != "lawft_trl"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module):
    mine = part_of(module)
    for other in imported(MODULES[module]):
        theirs = part_of(other)
        assert FLOORS.index(theirs) <= FLOORS.index(mine), f"{module} imports {other}"
        assert (mine, theirs) not in FORBIDDEN, f"{module} imports {other}"


def test_nobody_imports_the_entries():
    for path in MODULES.values():
        assert not imported(path) & {"lawft_trl.cli", "lawft_trl.sft"}, path


def test_there_are_no_circles():
    graph = {module: imported(path) - {module} for module, path in MODULES.items()}
    while graph:
        free = [module for module, needs in graph.items() if not needs & set(graph)]
        assert free, f"a circle among {sorted(graph)}"
        for module in free:
            del graph[module]


def test_no_module_shadows_a_library():
    """`accelerate launch lawft_trl/sft.py` puts this folder first on the path."""
    libraries = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    for path in PACKAGE.iterdir():
        assert path.stem not in libraries - {"lawft_trl", "__init__"} or path.stem.startswith("__"), path


def loaded_by(modules: list[str]) -> set[str]:
    """Top-level packages that a fresh Python holds after importing these modules, whoever imported them."""
    code = f"import sys\nfor name in {modules!r}: __import__(name)\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_light_modules_load_nothing_heavy():
    light = [m for m in MODULES if part_of(m) in ("ground", "recipe", "statutes", "data", "doctor", "derive", "reasons", "run_dir", "commands", "cli")]
    assert not loaded_by(light) & {"torch", "transformers", "trl", "peft", "datasets", "numpy", "scipy", "rich", "ruamel"}


def test_evaluation_loads_no_torch():
    assert not loaded_by([m for m in MODULES if part_of(m) == "evaluation"]) & {"torch", "transformers", "trl", "peft", "datasets"}


def test_the_launcher_waits_for_the_libraries_until_the_recipe_is_checked():
    assert not loaded_by(["lawft_trl.sft"]) & {"torch", "transformers", "trl", "peft", "datasets", "scipy", "wandb", "matplotlib"}


def test_the_launcher_is_short_and_defines_no_classes():
    tree = ast.parse((PACKAGE / "sft.py").read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    main = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    assert main.end_lineno - main.lineno < 100
