"""What e-Gov's law API says of a law: the text in its envelope, and whether it is the law in force on a day."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from lawft_trl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One law as the API sent it.

    Attributes:
        law_id: e-Gov's law id.
        law: title.
        revision: e-Gov's revision id.
        not_in_force: why the text is not the law in force on the day that was asked for; `""` where it is.
        xml: the `Law` element.
    """

    law_id: str
    law: str
    revision: str
    not_in_force: str
    xml: bytes


def read_answer(text: str, *, where: str, as_of: date, law_id: str = "") -> Answer:
    """Reads an answer of `GET /law_data`, its full text as XML or, as some answers have it, in Base64.

    Args:
        text: the body.
        where: what it is called in errors.
        as_of: the day that was asked for.
        law_id: the law that was asked for; `""` to take what comes.

    Raises:
        InputError: for anything else, DTDs and entities among it.
    """
    from xml.etree.ElementTree import ParseError, tostring

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(text, forbid_dtd=True)
        full_text = root.find("law_full_text")
        if root.tag != "law_data_response" or full_text is None:
            raise InputError(f"{where}: expected a law_data_response with law_full_text, found <{root.tag}>")
        law = full_text.find("Law")
        if law is None:
            encoded = "".join((full_text.text or "").split())
            law = fromstring(base64.b64decode(encoded, validate=True), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: not the XML of a law ({error!r}); it begins with {text.strip()[:60]!r}") from None
    found_id = root.findtext("law_info/law_id") or ""
    if law.tag != "Law" or not found_id or found_id != (law_id or found_id):
        raise InputError(f"{where}: expected the Law {law_id}, found <{law.tag}> of law_id {found_id!r}")
    revision = {element.tag: element.text or "" for element in root.iterfind("revision_info/*")}
    return Answer(
        law_id=found_id,
        law=revision.get("law_title", ""),
        revision=revision.get("law_revision_id", ""),
        not_in_force=not_in_force(revision, as_of),
        xml=tostring(law, encoding="utf-8"),
    )


def not_in_force(revision: Mapping[str, Any], as_of: date) -> str:
    """Why a revision is not the law in force on a day, from e-Gov's `revision_info`; `""` where it is, or nothing says.

    `current_revision_status` is not asked: it tells how things stand today, and a revision that is `PreviousEnforced`
    today was the law on an earlier day. A repealed law that remains in force (なお効力を有する) is in force.
    """
    in_id = re.search(r"_(\d{4})(\d{2})(\d{2})_", revision.get("law_revision_id") or "")
    enforced = _day(revision.get("amendment_enforcement_date")) or _day("-".join(in_id.groups()) if in_id else "")
    if enforced and enforced > as_of:
        return f"not in force on {as_of}: it comes into force on {enforced}"
    status = revision.get("repeal_status") or "None"
    remains = str(revision.get("remain_in_force")).lower() == "true"
    repealed = _day(revision.get("repeal_date"))
    if status == "None" or remains or (repealed and repealed > as_of):
        return ""
    return f"not in force on {as_of}: {status}" + (f" on {repealed}" if repealed else "")


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        return None
