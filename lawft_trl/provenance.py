"""Where a run comes from, as far as files say: the licence of its base model, and the origin of its training data."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def base_licence(model: Mapping[str, Any]) -> dict[str, str]:
    """`license`, `license_name` and `license_link` as the base's own card gives them, and `source`: where they are from.

    The card of a hub's model is read from the cache, or fetched; without a network its licence stays unknown.
    """
    card = _base_card(model)
    if card is None:
        return {"source": "the base has no card here"}
    import yaml
    from huggingface_hub.repocard import metadata_load

    try:
        metadata = metadata_load(card) or {}
    except (yaml.YAMLError, ValueError, OSError):  # a card of another form
        metadata = {}
    found = {key: metadata[key] for key in ("license", "license_name", "license_link") if isinstance(metadata.get(key), str)}
    return {**found, "source": "as its card says" if found else "its card names none"}


def data_origins(files: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """For every data folder the training files lie in: `files`, and what its manifest says (`dataset`, `attribution`,
    `law_as_of`, `[]` for data of no law); `changed` where its files are no longer those that were trained on."""
    origins: dict[Path | None, dict[str, Any]] = {}
    for entry in files:
        file = Path(entry["file"])
        manifest = next((folder / "manifest.json" for folder in file.resolve().parents[:3] if (folder / "manifest.json").is_file()), None)
        origin = origins.setdefault(manifest, {"files": []} | (_read_manifest(manifest) if manifest else {}))
        origin["files"].append(str(file))
        recorded = origin.get("sha256", set())
        if recorded and entry.get("sha256") not in recorded:
            origin["changed"] = "the data folder has been made again since the training: what is said of it here is of its present state"
    return list(origins.values())


def is_hub_id(name: str) -> bool:
    """Whether a model's name is one on the Hugging Face hub, and no local folder."""
    return not Path(name).exists() and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) is not None


def _base_card(model: Mapping[str, Any]) -> Path | None:
    name = model["name_or_path"]
    if Path(name).is_dir():
        file = Path(name) / "README.md"
        return file if file.is_file() else None
    if not is_hub_id(name):
        return None
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(name, "README.md", revision=model.get("revision"))
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(hf_hub_download(name, "README.md", revision=model.get("revision"), local_files_only=bool(model.get("local_files_only"))))
    except (OSError, ValueError):
        return None


def _read_manifest(file: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(manifest, dict):
        return {}
    found: dict[str, Any] = {key: manifest[key] for key in ("dataset", "attribution") if isinstance(manifest.get(key), str)}
    dates = manifest.get("law_as_of")
    found["law_as_of"] = [str(date) for date in dates] if isinstance(dates, list) else [str(dates or "")]
    folds = manifest.get("folds") if isinstance(manifest.get("folds"), dict) else {"": manifest}
    found["sha256"] = {entry.get("sha256") for fold in folds.values() for entry in (fold.get("files") or {}).values()}
    return found
