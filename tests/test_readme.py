"""What README and the manual name exists: commands, files, recipes, links."""

import re

import pytest
from conftest import ROOT, run_lawft

from lawft_trl.recipe import load_recipe

PAGES = [ROOT / "README.md", ROOT / "README.ja.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINING = re.compile(r"accelerate launch (?:--\S+ \S+ )?lawft_trl/sft\.py (recipes/[a-z_]+\.yaml)((?:[ \n]+[a-z_]+\.[a-z_]+=\S+)*)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_training_commands_name_recipes_and_keys_that_exist(page):
    for recipe, overrides in TRAINING.findall(page.read_text(encoding="utf-8").replace("`", " ")):
        load_recipe(ROOT / recipe, overrides.split())


def test_both_readmes_have_the_same_commands():
    english, japanese = (re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.S) for page in PAGES[:2])
    assert len(english) == len(japanese) >= 2
    for one, other in zip(english, japanese, strict=True):
        strip = [re.sub(r"\s*#.*", "", block).replace("フォルダ", "FOLDER").split() for block in (one, other)]
        assert strip[0] == strip[1]


def test_scripts_and_accelerate_configs_named_in_the_readme_exist():
    for page in PAGES:
        for name in re.findall(r"(?:scripts|accelerate_configs)/[a-z_]+\.(?:sh|py|yaml)", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page.name}: {name}"


def test_the_failed_check_in_the_readme_is_what_is_printed(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"\$ lawft check mine\n(.*?)```", text, re.S)[1]
    (tmp_path / "recipes").mkdir()
    parent = (ROOT / "recipes" / "direct_norag.yaml").resolve()
    mine = f"extends: {parent}\ntraining:\n  learnig_rate: 2e-5\n  warmup_ratio: 0.03\n  lora_r: 16\n  bf16: yes\n  max_steps: 1.5\n"
    (tmp_path / "recipes" / "mine.yaml").write_text(mine, encoding="utf-8")
    result = run_lawft("check", "mine", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (2, shown)


def test_every_accelerate_config_is_one_that_accelerate_reads():
    from accelerate.commands.config.config_args import load_config_from_file

    configs = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
    assert len(configs) >= 3
    for path in configs:
        assert load_config_from_file(str(path)).num_processes != 0, "-1: given on the command line"
