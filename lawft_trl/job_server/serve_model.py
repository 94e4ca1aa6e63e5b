"""`python -m lawft_trl.job_server.serve_model KIND SOURCE CHECKPOINT FOLDER PORT`: becomes `transformers serve` of one model.

KIND is `tuned` (SOURCE: a finished run) or `untuned` (SOURCE: a recipe); CHECKPOINT is a folder, or `-`.
"""

import os
import sys
from pathlib import Path

from lawft_trl.errors import InputError
from lawft_trl.export.serving import serving_command, serving_environment, tuned_folder, untuned_folder
from lawft_trl.quiet import quiet_libraries
from lawft_trl.recipe import load_recipe
from lawft_trl.run_dir import read_run


def main() -> int:
    """Makes the folder where it is not there yet, and gives the process to the server: nothing is left between the two."""
    kind, source, checkpoint, name, port = sys.argv[1:]
    folder = Path(name)
    quiet_libraries()
    try:
        recipe = read_run(Path(source)).recipe if kind == "tuned" else load_recipe(source)
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            if kind == "tuned":
                tuned_folder(Path(source), folder, None if checkpoint == "-" else Path(checkpoint))
            else:
                from lawft_trl.training.preflight import base_tokenizer

                untuned_folder(recipe, base_tokenizer(recipe), folder)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    command = serving_command(recipe, str(folder), int(port))
    os.execve(command[0], command, serving_environment())


if __name__ == "__main__":
    sys.exit(main())
