"""Getting lawqa_jp from its public repository, each file pinned by a commit and by the SHA-256 of its bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError
from lawft_trl.folders import write_text

REPOSITORY = "https://github.com/digital-go-jp/lawqa_jp"
BASE_URL = "https://raw.githubusercontent.com/digital-go-jp/lawqa_jp"

# Path in the repository -> (commit, SHA-256 of the bytes this project is developed with). The hash is what protects; the
# commit only says where to look, so a wrong one is an error and never other data.
FILES = {
    "data/selection.json": ("6165cc9748a1b1df8adc2c82c2f281deef59b9b1", "157a196ed236e745c8c133ab2eff83af8c839f4dbf1d02f21da453fa71f19d03"),
    "data/selection_randomized.json": ("6165cc9748a1b1df8adc2c82c2f281deef59b9b1", "3fde82e3eaf53ce026e90d31578c21b48f9b2098681ba5693745e87927c04efd"),
    "data/law_list.json": ("b0b0b17e4254f4c41083623663ba3d548f76236d", "124db05d5c48fa7f5add207d2f414685c175b525d5961bea1a61ba5714b2367f"),
}  # fmt: skip

LICENCE = f"""\
出典：デジタル庁「日本の法令に関する多肢選択式QAデータセット」（lawqa_jp、{REPOSITORY}）、
公共データ利用規約（第1.0版）（https://www.digital.go.jp/resources/open_data/public_data_license_v1.0）。
data/ のファイルは配布されたままのもので、加工していない。
"""


def download_lawqa(
    folder: Path | None = None, *, base_url: str = BASE_URL, files: Mapping[str, tuple[str, str]] = FILES, timeout: float = 30.0
) -> Path:
    """Sees to it that lawqa_jp lies in a folder, with its source and licence beside it, and returns the folder.

    A file that is there with the right hash is not asked for again; one with another hash is replaced.

    Args:
        folder: where to keep it; `None`: `lawft-trl/lawqa_jp` in the cache folder of the operating system.
        base_url: what stands before `/COMMIT/PATH`.
        files: path -> (commit, SHA-256).
        timeout: seconds that a connection may be silent.

    Raises:
        InputError: with every file that could not be had or is not the one expected; such a file is not kept.
    """
    import pooch
    import requests
    from tqdm.auto import tqdm

    folder = folder or Path(pooch.os_cache("lawft-trl")) / "lawqa_jp"
    fetcher = pooch.create(
        folder,
        base_url="",
        registry={name: f"sha256:{sha256}" for name, (_, sha256) in files.items()},
        urls={name: f"{base_url}/{commit}/{name}" for name, (commit, _) in files.items()},
    )
    problems = []
    for name in files:
        bar = tqdm(total=1, unit="B", unit_scale=True, delay=3, desc=name)  # pooch sets the total; without one a bar has no truth value
        download: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=timeout)
        try:
            fetcher.fetch(name, downloader=download)
        except requests.RequestException as error:
            problems.append(f"{name}: {error}")
        except ValueError:  # what pooch says here names a temporary file
            problems.append(f"{name}: what came from {fetcher.get_url(name)} has another SHA-256 than {files[name][1]}")
        except OSError as error:
            problems.append(f"{folder}: {error.strerror or error}")
        finally:
            bar.close()
    if problems:
        raise InputError(
            f"lawqa_jp could not be downloaded: {len(problems)} problem(s)",
            [*problems, f"get it by hand: git clone {REPOSITORY}, then give --from lawqa_jp or set LAWFT_LAWQA_DIR"],
        )
    write_text(folder / "ATTRIBUTION.txt", LICENCE)
    return folder
