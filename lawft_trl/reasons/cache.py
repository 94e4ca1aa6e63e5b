"""What a teacher has answered, one response a line, so that nothing is asked and paid for twice."""

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question put to a teacher once.

    Attributes:
        question: id of the question.
        model: the teacher's name.
        messages: the prompt.
        parameters: sampling parameters as they are sent, the seed among them.
        sample: how many times the question was asked before.
    """

    question: str
    model: str
    messages: Sequence[Mapping[str, str]]
    parameters: Mapping[str, Any]
    sample: int

    @property
    def key(self) -> str:
        """SHA-256 of everything that decides the answer."""
        asked = [self.model, list(self.messages), dict(self.parameters), self.sample]
        return hashlib.sha256(json.dumps(asked, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Response:
    """What came back.

    Attributes:
        text: the answer, `""` where there was none.
        finish_reason: `"stop"`, or `"length"` for an answer that was cut.
        prompt_tokens: as the teacher counts them; `None` where it does not.
        completion_tokens: likewise.
        teacher: the model's name as it calls itself.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    teacher: str


class ResponseCache:
    """The responses of `responses.jsonl`; get one from `open_cache`."""

    def __init__(self, responses: dict[str, Response], file: FileIO):
        self._responses = responses
        self._file = file

    def get(self, key: str) -> Response | None:
        """The response to the request with this key."""
        return self._responses.get(key)

    def add(self, request: Request, response: Response) -> None:
        """Keeps a response; it is in the file when this returns.

        Raises:
            InputError: when it cannot be written, e.g. on a full disk.
        """
        record = {
            "key": request.key,
            "question": request.question,
            "sample": request.sample,
            "model": request.model,
            "parameters": dict(request.parameters),
            "response": vars(response),
        }
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        try:
            written = self._file.write(line)
        except OSError as error:
            raise InputError(f"{self._file.name}: cannot be written: {error.strerror}") from error
        if written < len(line):  # a disk that fills up takes a part first
            raise InputError(f"{self._file.name}: cannot be written: the disk is full")
        self._responses[request.key] = response


@contextlib.contextmanager
def open_cache(folder: Path) -> Iterator[ResponseCache]:
    """The cache in a folder, made if it is not there.

    A last line without its end, left by a crash, is cut off; its question is asked again.

    Raises:
        InputError: when another process has it open, or for a line that is no response.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "responses.jsonl"
    with path.open("ab+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another lawft data reasons is using it; wait for it, or give another --cache") from None
        file.seek(0)
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        responses, problems = {}, []
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                record = json.loads(line)
                responses[record["key"]] = Response(**record["response"])
            except (ValueError, KeyError, TypeError) as error:
                problems.append(f"{path}:{number}: not a response: {error!r:.100}; delete the line and it is asked again")
        if problems:
            raise InputError(f"{path}: {len(problems)} damaged line(s)", problems)
        file.truncate(len(whole))
        yield ResponseCache(responses, file)
