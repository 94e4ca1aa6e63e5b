"""Why a model did not answer: one exception for each thing the user can do about it, in Japanese.

The text of a failure never holds a key, a message or what the server wrote: servers repeat both.
"""

import contextlib
import email.utils
import re
import time
from typing import Any

from lawft_trl.assistant.models import PARAMETERS, ModelEntry

_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_TOO_LONG = re.compile(r"context[ _](length|size|window)|exceed_context|maximum model length", re.IGNORECASE)
_MISSING = re.compile(r"model_not_found|server is pinned|model .{0,200}(does not exist|not found)", re.IGNORECASE | re.DOTALL)


class ModelError(Exception):
    """A request failed for good, that is after the client's own retries.

    Args:
        alias: the model's name in the models file.
        detail: more about it, in Japanese.
        status: HTTP status, `None` where no answer came.
        retry_after: seconds the server asked to wait.
        text: what had come of the answer; it is in no message.
    """

    says = "モデルから回答を得られませんでした。"

    def __init__(self, alias: str, detail: str = "", *, status: int | None = None, retry_after: float | None = None, text: str = ""):
        self.status, self.retry_after, self.text = status, retry_after, text
        super().__init__(f"モデル「{alias}」: {self.says}{detail}")


class AuthFailed(ModelError):
    """401: the key is wrong or missing."""

    says = "APIキーが受け付けられませんでした。"


class NotPermitted(ModelError):
    """403: the key is known and may not do this."""

    says = "このキーにはこのモデルを使う権限がありません。提供者の設定で権限を確認するか、別のモデルを選んでください。"


class QuotaExceeded(ModelError):
    """The credit is used up; waiting does not help."""

    says = "利用枠（残高）を使い切っています。提供者の支払い設定を確認するか、手元のモデルに切り替えてください。"


class RateLimited(ModelError):
    """429: too many requests in too short a time; waiting helps."""

    says = "要求が多すぎるため断られました。時間をおいてもう一度お試しください。"


class TimedOut(ModelError):
    """No answer within the time allowed."""

    says = "時間内に回答がありませんでした。サーバーの混雑を確認するか、入力を短くしてもう一度お試しください。"


class Unreachable(ModelError):
    """No connection, or one that broke."""

    says = "サーバーに接続できないか、接続が切れました。サーバーが動いているか、base_url が正しいかを確認してください。"


class Refused(ModelError):
    """400 and other 4xx: the request is one that this server does not take."""

    says = "サーバーが要求を受け付けませんでした。"


class TooLong(Refused):
    """The prompt is longer than the model's context or the conversation's budget."""

    says = "入力が長すぎます。文書を分けるか、短くしてください。"


class ModelMissing(ModelError):
    """404: no such model, or no such path."""

    says = "このモデルはサーバーにありません。モデル名と base_url（末尾の /v1 など）を確認してください。"


class ServerFailed(ModelError):
    """5xx, or an answer that is no chat completion."""

    says = "サーバー側で問題が起きました。時間をおいてもう一度お試しください。"


class CircuitOpen(ModelError):
    """Not sent: the last requests failed, and the server is left alone for a while."""

    says = "失敗が続いたため、しばらく送信を止めています。"


class UnreadableAnswer(ModelError):
    """The answer, and the one after a repair was asked for, do not fit the form; `text` is the last one."""

    says = "回答が決められた形式になっていませんでした。もう一度お試しいただくか、別のモデルを選んでください。"


def failure_of(error: Exception, entry: ModelEntry, *, text: str = "") -> ModelError:
    """The failure that an exception of the openai client means.

    Raise it outside the `except` block: an exception's context is shown with it, and may hold a key or a message.

    Args:
        error: an `openai.OpenAIError`, or the `ValueError` of an answer that is not what it should be.
        entry: the model that was asked.
        text: what had come of the answer.
    """
    import openai

    if isinstance(error, openai.APITimeoutError):
        return TimedOut(entry.alias, text=text)
    if isinstance(error, openai.APIConnectionError):
        return Unreachable(entry.alias, text=text)
    if isinstance(error, UnicodeError):
        return Refused(entry.alias, "送信できない文字（対になっていないサロゲート）が入力に含まれています。")
    if not isinstance(error, openai.APIError) or isinstance(error, openai.APIResponseValidationError):
        return ServerFailed(entry.alias, "応答がチャット補完の形ではありません。", text=text)
    code = str(error.code or "")
    status = getattr(error, "status_code", None) or (int(code) if re.fullmatch(r"[45]\d\d", code) else None)  # in a stream the code is all there is
    kind, detail = _kind(error, status), ""
    if kind is AuthFailed and entry.api_key_env:
        detail = f"環境変数 {entry.api_key_env} の値を確認してください。"
    elif kind is AuthFailed:
        detail = "モデルの api_key_env に、キーを入れた環境変数の名前を書いてください。"
    elif kind is ModelMissing and entry.shutdown_date:
        detail = f"（このモデルの提供終了日: {entry.shutdown_date}）"
    elif kind is Refused:
        detail = _why_refused(error, status)
    retry_after = _retry_after(error)
    if kind is RateLimited and retry_after:
        detail = f"（サーバーの指定: {retry_after:.0f}秒後）"
    return kind(entry.alias, detail, status=status, retry_after=retry_after, text=text)


def _kind(error: Any, status: int | None) -> type[ModelError]:
    codes = {str(error.code), str(error.type)}
    told = str(error.body)  # OpenAI's form, {"detail": …}, plain text or HTML
    if status == 402 or codes & _QUOTA:
        return QuotaExceeded
    by_status = {401: AuthFailed, 403: NotPermitted, 404: ModelMissing, 408: TimedOut, 410: ModelMissing, 413: TooLong, 429: RateLimited, 504: TimedOut}
    if status in by_status:
        return by_status[status]
    if status is None or status >= 500:
        return ServerFailed
    if _TOO_LONG.search(told):
        return TooLong
    return ModelMissing if _MISSING.search(told) else Refused


def _why_refused(error: Any, status: int | None) -> str:
    if status is not None and 300 <= status < 400:
        return "別のアドレスへの転送が返されました。base_url を転送先のアドレスに直してください。"
    parameter = "max_tokens" if error.param == "max_completion_tokens" else error.param
    if parameter in PARAMETERS:
        return f"パラメーター {parameter} が使えません。モデルの unsupported に {parameter} を加えると送られなくなります。"
    return f"（HTTP {status}）モデルの設定と入力を確認してください。"


def _retry_after(error: Any) -> float | None:
    """Seconds that the header Retry-After asks for, given in seconds or as a date."""
    response = getattr(error, "response", None)
    value = response.headers.get("retry-after") if response is not None else None
    if value is None:
        return None
    seconds = None
    with contextlib.suppress(ValueError):
        seconds = float(value)
    if seconds is None:
        with contextlib.suppress(ValueError, TypeError):
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    return seconds if seconds is not None and 0 < seconds < float("inf") else None
