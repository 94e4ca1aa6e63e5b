"""`python -m lawft_trl.job_server.validate_rows RECIPE OUT`: what `lawft check` proves of a job's rows, as a JSON file.

A process of its own, so that the server holds no tokenizer, and what goes wrong with one ends this alone.
"""

import sys
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.folders import write_json
from lawft_trl.quiet import quiet_libraries
from lawft_trl.recipe import load_recipe


def proven(path: Path) -> dict[str, Any]:
    """Rows, tokens and supervised tokens of a job's recipe.

    Raises:
        InputError: as its training would.
    """
    from lawft_trl.training.check import check_recipe
    from lawft_trl.training.preflight import read_roles

    recipe = load_recipe(path)
    checked = check_recipe(recipe, read_roles(recipe))
    supervised = [len(item.input_ids) - item.prompt_length for item in checked.encoded]
    return {
        "rows": len(checked.encoded),
        "dev_rows": len(checked.rows["dev"]),
        "tokens": sum(len(item.input_ids) for item in checked.encoded),
        "longest": max(len(item.input_ids) for item in checked.encoded),
        "limit": recipe.max_length,
        "supervised": sum(supervised),
        "supervised_min": min(supervised),
        "supervised_max": max(supervised),
        "turn_end": checked.turn_end,
    }


def main() -> int:
    """Writes it; what is wrong goes to stderr, with exit code 2."""
    quiet_libraries()
    try:
        write_json(Path(sys.argv[2]), proven(Path(sys.argv[1])))
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
