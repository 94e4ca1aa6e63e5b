"""What the assistant says about itself: Article 72 of the Attorney Act, what an answer is not, and no prediction of outcomes."""

import re

# Shown before the first use; nothing is asked of a model before the user has agreed to it.
FIRST_USE = """\
ご利用の前にお読みください。

このアシスタントは、次の方が使うためのものです。
・弁護士
・弁護士の監督の下で働く企業法務の担当者
・法律やAIを学習・研究する方

弁護士法第72条は、弁護士でない者が、報酬を得る目的で、業として、訴訟事件その他一般の法律事件について鑑定その他の法律事務を取り扱うことを禁じています。このアシスタントを使って、他人の具体的な事件について報酬を得て法律上の判断を示すことはできません。他の人に提供する場合は、事前に弁護士に相談してください。

出力はAIが作るもので、誤りがあり得ます。法律上の助言ではなく、検討の材料です。論点、優先度、修正案は、必ず弁護士が確認してください。結果（勝敗や金額など）の予測はしません。"""
FIRST_USE_ACCEPT = "弁護士・弁護士の監督下の企業法務・学習研究のいずれかとして利用し、上の内容を理解しました。"

ANSWER = "この回答はAIが作った検討の材料で、法律上の助言ではありません（弁護士法第72条参照）。利用の前に、弁護士が確認してください。"
EXPORT = (
    "この文書はAIの出力を書き出したもので、弁護士による確認を経ていません。弁護士法第72条により、弁護士でない者が報酬を得る目的で業として法律事務を取り扱うことは禁じられています。"
    "弁護士、弁護士の監督の下にある企業法務担当者、または学習・研究のための資料としてのみ使ってください。"
)
CITATIONS = "「検証済」は、その法令名と条が手元の法令集にあることだけを示します。条文が主張を支えるか、現行の条文かは確認していません。「未検証」は、法令集で確かめられなかったものです。"
PRIORITY = "論点の優先度（要弁護士確認）"
DRAFT = "案"
DRAFT_NOTICE = "これは案です。弁護士の確認なしに使わないでください。"
RULE_BASED = "規則による確認（モデルの判断ではありません）"

PREDICTION_REMOVED = "（結果の予測にあたる文を除きました。）"
_PREDICTIONS = re.compile(
    r"勝訴|敗訴|勝てる|勝てます|負ける可能性|負けます|勝つ(?:可能性|見込み|確率|でしょう)|勝ち目"
    r"|(?:有罪|無罪|棄却|認容|却下)(?:に|と|判決)?(?:なる|される)?(?:で|の)?(?:でしょう|だろう|可能性|見込み|確率|はず|見通し|に違いな|と予想|と見込ま|と予測|と思われ|と考えられ)"
    r"|(?:請求|主張|訴え|損害賠償|慰謝料|賠償)[^。\n]{0,40}(?:認められ|認容され|通|棄却され|退けられ)[^。\n]{0,6}(?:でしょう|だろう|可能性が(?:高|低|大き)|見込み|確率|はずです|見通し|と予想|と見込ま|と予測)"
    r"|(?:裁判所は|裁判官は)[^。\n]{0,60}(?:でしょう|だろう|はずです|と予想され|と見込まれ)"
    r"|[0-9０-９]{1,3}\s*[%％](?:程度|以上|前後)?の(?:確率|可能性|見込み|勝率)|(?:確率|可能性|勝率)は?[^。\n]{0,8}[0-9０-９]{1,3}\s*[%％]"
)
_SENTENCE = re.compile(r"[^。！？\n]*(?:[。！？]|(?=\n)|\Z)")


def without_predictions(text: str) -> tuple[str, int]:
    """The text with every sentence that foretells an outcome (who wins, what is awarded) replaced by a note, and how many were."""
    count = 0

    def replaced(sentence: re.Match[str]) -> str:
        nonlocal count
        if not _PREDICTIONS.search(sentence[0]):
            return sentence[0]
        count += 1
        mark = re.match(r"[\s　]*(?:[-*・>#]+[ \t　]*|[0-9]+[.)][ \t]*)?", sentence[0])[0]
        return mark + PREDICTION_REMOVED

    return _SENTENCE.sub(replaced, text), count
