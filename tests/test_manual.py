"""The commands of the manual and of the assistant's pages are commands of this program."""

import re
import shlex

import pytest
from conftest import ROOT

from lawft_trl.cli import _parser

PAGES = ["manual.ja.md", "assistant_page.md"]
COMMAND = re.compile(r"(?:^|\$\(|^[ \t]*)lawft [^\n`]*", re.MULTILINE)


def commands(page: str) -> list[str]:
    """Every `lawft …` line of the shell blocks, with what stands for something replaced by a word."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL) + re.findall(r"(?:^    lawft [^\n]*\n)+", text, re.MULTILINE)
    found = [match[0].strip().removeprefix("$(").rstrip(")") for block in blocks for match in COMMAND.finditer(block)]
    return [re.sub(r'"?\$\w+"?', "word", command) for command in found]


@pytest.mark.parametrize("page", PAGES)
def test_there_are_commands(page):
    assert len(commands(page)) >= 3


@pytest.mark.parametrize("command", [command for page in PAGES for command in commands(page)])
def test_a_command_is_one(command):
    _parser().parse_args(shlex.split(command, comments=True)[1:])
