"""The few conjugations that the end of a rule needs: しなければならない, してはならない, することができる."""

# The vowel rows of the verbs whose stem ends in a consonant (五段): the negative stem's last kana -> the dictionary form's.
_A_TO_U = dict(zip("わかがさたなばまら", "うくぐすつぬぶむる", strict=True))
_U_TO_A = {u: a for a, u in _A_TO_U.items()}
_I_AND_E = "いきぎしじちにびみりえけげせぜてでねべめれ"  # before る: the stem ends in a vowel (一段), as in 受ける

# Where the て form leaves the verb open (行って is 行う, 取って is 取る), only verbs that are known are changed.
_KNOWN_TE = {"行": "う", "支払": "う", "扱": "う", "使": "う", "従": "う", "図": "る", "譲": "る", "用い": "る", "置": "く", "除": "く", "受け取": "る", "与え": "る"}
_KNOWN_RU = {"得": "得", "図": "図ら", "取": "取ら", "送": "送ら", "限": "限ら", "採": "採ら", "執": "執ら", "係": "係ら", "譲": "譲ら"}


def dictionary_from_negative(stem: str) -> str | None:
    """`"提出し"` (なければならない) -> `"提出する"`, `"支払わ"` -> `"支払う"`, `"受け"` -> `"受ける"`."""
    if not stem or stem.endswith(("で", "く")):
        return None  # 者でなければならない, なくなければ: no verb
    if stem.endswith("し"):
        return stem[:-1] + "する"
    if stem[-1] in _A_TO_U:
        return stem[:-1] + _A_TO_U[stem[-1]]
    if stem.endswith("じ"):
        return stem[:-1] + "ずる"
    return stem + "る" if stem[-1] in _I_AND_E or stem[-1] in "得" else None


def negative_from_dictionary(verb: str) -> str | None:
    """The stem before ない: `"請求する"` -> `"請求し"`, `"行う"` -> `"行わ"`, `"命ずる"` -> `"命じ"`."""
    if verb.endswith("する"):
        return verb[:-2] + "し"
    if verb.endswith("ずる"):
        return verb[:-2] + "じ"
    if verb.endswith("る"):
        known = next((negative for kanji, negative in _KNOWN_RU.items() if verb.endswith(kanji + "る")), None)
        if known:
            return verb[: -2] + known
        if verb.endswith(("とる", "よる", "ある", "なる")):
            return None if verb.endswith("ある") else verb[:-1] + "ら"
        return verb[:-1] if verb[-2:-1] and verb[-2] in _I_AND_E else None
    return verb[:-1] + _U_TO_A[verb[-1]] if verb and verb[-1] in _U_TO_A else None


def dictionary_from_te(form: str) -> str | None:
    """`"使用して"` -> `"使用する"`, `"受けて"` -> `"受ける"`, `"行つて"` -> `"行う"`; `None` where the form leaves it open."""
    if form.endswith("して"):
        return form[:-2] + "する"
    if form.endswith("じて"):
        return form[:-2] + "ずる"
    for kanji, ending in _KNOWN_TE.items():
        if form.endswith((f"{kanji}つて", f"{kanji}って")) and ending in "うる":
            return form[:-2] + ending
        if form.endswith(f"{kanji}いて") and ending == "く":
            return form[:-2] + ending
        if form.endswith(f"{kanji}て") and ending == "る":
            return form[:-1] + ending
    return form[:-1] + "る" if form.endswith("て") and form[-2:-1] in tuple("けせてねべめれえじみげ") else None


def te_from_dictionary(verb: str) -> str | None:
    """`"提出する"` -> `"提出して"`, `"受ける"` -> `"受けて"`; `None` for verbs whose て form differs by spelling (行つて, 行って)."""
    if verb.endswith("する"):
        return verb[:-2] + "して"
    if verb.endswith("ずる"):
        return verb[:-2] + "じて"
    return verb[:-1] + "て" if verb.endswith("る") and verb[-2:-1] and verb[-2] in _I_AND_E else None
