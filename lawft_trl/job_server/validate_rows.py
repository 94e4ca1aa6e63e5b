"""`python -m lawft_trl.job_server.validate_rows RECIPE PROCESSES`: what `lawft check` proves of a job's rows, as one line of JSON.

A process of its own, so that the server holds no tokenizer, and what goes wrong with one ends this alone.
"""

import json
import sys
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.quiet import quiet_libraries
from lawft_trl.recipe import load_recipe


def proven(path: Path, processes: int) -> dict[str, Any]:
    """Rows, tokens and supervised tokens of a job's recipe, and how many steps it will train.

    Raises:
        InputError: as its training would.
    """
    from lawft_trl.training.check import check_recipe, optimizer_steps
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
        "steps": optimizer_steps(recipe, len(checked.encoded), processes),
    }


def main() -> int:
    """Prints it; what is wrong goes to stderr, with exit code 2."""
    quiet_libraries()
    try:
        found = proven(Path(sys.argv[1]), int(sys.argv[2]))
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
