"""Reads what W&B wrote offline: a file of protobuf records in LevelDB's log format."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_HEADER, _BLOCK = 7, 32768  # of the file, and of each record; how far apart blocks begin


def _records(data: bytes) -> list[bytes]:
    """The whole records; one that was not finished, in the file of a killed process, is left out."""
    found, part, place = [], b"", _HEADER
    while place + _HEADER <= len(data):
        room = _BLOCK - place % _BLOCK
        if room < _HEADER:  # too little for a record: the block is filled up
            place += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        part += data[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (1, 4) and place <= len(data):  # whole, or the last part
            found.append(part)
        part = b"" if kind in (1, 4) else part
    return found


def read_wandb(file: Path) -> SimpleNamespace:
    """`run` (id, group, name, tags), `config`, `history` (a mapping for each log call), `summary`."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # `finish` does not wait for the last of the file: once the service has stopped, all of it is there
    run, config, history, summary = None, {}, [], {}
    for data in _records(file.read_bytes()):
        record = Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            config |= _values(run.config.update)
        elif kind == "config":
            config |= _values(record.config.update)
        elif kind == "history":
            history.append(_values(record.history.item))
        elif kind == "summary":
            summary |= _values(record.summary.update)
    return SimpleNamespace(id=run.run_id, group=run.run_group, name=run.display_name, tags=list(run.tags), config=config, history=history, summary=summary)


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
