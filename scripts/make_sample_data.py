"""Writes the sample questions: four-choice questions on fictional statutes, each resting on exactly one article.

Real statutes would tempt a reader to take the sample for legal advice, and a model may know them by heart. Here every
fact is drawn by a seeded generator, so a question can only be answered by reading the article it comes with.
"""

import argparse
import dataclasses
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script also runs where the package is not installed

from lawft_trl.data.questions import LETTERS, Question, read_questions, write_questions

OUT = Path(__file__).resolve().parents[1] / "lawft_trl" / "assets" / "sample"


def _each(names: str, *, before: str = "", unit: str = "") -> list[str]:
    return [before + name + unit for name in names.split()]


# All values of a kind. Article and choices draw from the same pool, so no choice is more likely than another without
# the article. `make_tiny_model.py` reads this table too: its tokenizer gives every value a token of its own.
VALUES = {
    "日": _each("三 五 七 十 十四 二十 二十一 三十 四十 四十五 五十 六十 七十 八十 九十 百 百二十 百五十 百八十", unit="日"),
    "月": _each("一 二 三 四 五 六 七 八 九 十 十一 十二 十五 十八", unit="箇月"),
    "年": _each("一 二 三 四 五 六 七 八 九 十 十二 十五 二十 二十五 三十", unit="年"),
    "円": _each("三千 五千 八千 一万 二万 三万 四万 五万 六万 七万 八万 九万 十万 十五万 二十万 三十万 五十万", unit="円"),
    "人": _each("二 三 四 五 六 七 八 九 十 十二 十五 二十 三十", unit="人"),
    "距離": _each("十 二十 三十 四十 五十 六十 八十 百 百五十 二百 三百 五百 八百 千", unit="メートル"),
    "率": _each("一 二 三 四 五 六 七 八 九 十 十二 十五 二十 三十", before="百分の"),
    "回": _each("二 三 四 五 六 七 八 九 十 十二", unit="回"),
    "歳": _each("十六 十八 二十 二十二 二十五 二十八 三十 三十五 四十 四十五 五十", unit="歳"),
    "重量": _each("十 二十 三十 四十 五十 六十 八十 百 百五十 二百 三百 五百", unit="キログラム"),
    "時間": _each("一 二 三 四 五 六 八 十 十二 十八 二十四 三十六 四十八 七十二", unit="時間"),
    "官職": _each(
        "書記官 審査官 監督官 検査官 認証官 検定官 測量官 記録官 巡察官 裁定官 公証官 出納官 主任監督官 首席検査官 "
        "州務長官 管理長官 地方長官 評議会議長 監査委員長 調停委員長 総務院長 財務院長 保全局長 監理局長"
    ),
}

# family: (kind of its value, slots of an item, {article: questions divided by "|"}). `{v}` is the value, `{office}` the
# law's authority. An article is asked with the questions of its own wording only.
FAMILIES = {
    "届出": ("日", "who when what", {
        "{who}は、{when}ときは、その日から{v}以内に、{what}を{office}に届け出なければならない。":
            "{who}は、{when}ときは、その日から何日以内に{what}を{office}に届け出なければならないか。|{when}場合における{what}の届出の期限として、正しいものはどれか。|{who}が{what}を{office}に届け出なければならない期限は、{when}日から何日以内か。",
        "{when}ときは、{who}は、{v}以内に、{office}に対し、{what}を報告しなければならない。":
            "{when}ときは、{who}は、いつまでに{what}を報告しなければならないか。|{when}場合に、{who}が{what}を{office}に報告すべき期限はどれか。|{what}の報告は、{when}ときから何日以内にしなければならないか。",
    }),
    "保存": ("年", "who what start", {
        "{who}は、{what}を、{start}から{v}間保存しなければならない。":
            "{who}は、{what}を何年間保存しなければならないか。|{what}の保存期間として、正しいものはどれか。|{who}が{what}を廃棄することができるのは、{start}から何年を経過した後か。",
        "{what}は、{start}から{v}間、{who}が備え置くものとする。":
            "{who}が{what}を備え置くべき期間は、{start}から何年間か。|{what}は、どれだけの期間備え置くものとされているか。",
    }),
    "有効期間": ("年", "licence", {
        "{licence}の有効期間は、その交付の日から{v}とする。":
            "{licence}の有効期間は何年か。|{licence}は、交付の日からどれだけの期間効力を有するか。",
        "{licence}は、{v}ごとに更新を受けなければ、その効力を失う。":
            "{licence}は、何年ごとに更新を受けなければ効力を失うか。|{licence}の更新を受けるべき間隔として、正しいものはどれか。",
    }),
    "手数料": ("円", "licence", {
        "{licence}を受けようとする者は、手数料として{v}を{office}に納めなければならない。":
            "{licence}を受けようとする者が納めるべき手数料はいくらか。|{licence}に係る手数料の額として、正しいものはどれか。|{office}に{licence}を申請するには、いくらの手数料を要するか。",
    }),
    "権限": ("官職", "licence", {
        "{licence}は、{v}がこれを行う。":
            "{licence}を行うのはだれか。|{licence}を求める者は、だれに申請すべきか。",
        "{licence}の権限は、{v}に属し、他の者に委任することができない。":
            "{licence}の権限は、だれに属するか。|{licence}を行う権限を有する者として、正しいものはどれか。",
    }),
    "過料": ("円", "act", {
        "{act}者は、{v}以下の過料に処する。":
            "{act}者は、いくら以下の過料に処せられるか。|{act}者に対する過料の上限はいくらか。",
        "{act}者があるときは、{office}は、その者に対し、{v}以下の過料を科する。":
            "{act}者に科される過料の最高額はいくらか。|{act}場合の過料の上限額として、正しいものはどれか。",
    }),
    "人数": ("人", "where who", {
        "{where}には、{who}を{v}以上置かなければならない。":
            "{where}には、{who}を何人以上置かなければならないか。|{where}に置くべき{who}の最少の人数として、正しいものはどれか。",
        "{where}に置く{who}の数は、{v}を下ってはならない。":
            "{where}に置く{who}は、少なくとも何人でなければならないか。|{where}における{who}の数の下限はどれか。",
    }),
    "距離": ("距離", "what place", {
        "{what}は、{place}から{v}以上離れた場所に設けなければならない。":
            "{what}は、{place}から何メートル以上離れた場所に設けなければならないか。|{what}と{place}との間に保つべき距離の最低限度はどれか。",
        "{place}から{v}以内の区域には、{what}を設けてはならない。":
            "{what}を設けてはならないのは、{place}から何メートル以内の区域か。|{place}の周囲で{what}の設置が禁じられる範囲として、正しいものはどれか。",
    }),
    "割合": ("率", "what base", {
        "{what}の額は、{base}の{v}とする。":
            "{what}の額は、{base}のどれだけの割合とされているか。|{base}に対する{what}の割合として、正しいものはどれか。",
        "{what}は、{base}に{v}を乗じて得た額とする。":
            "{what}を算定するときに{base}に乗ずる割合はいくらか。|{what}の算定に用いる率として、正しいものはどれか。",
    }),
    "回数": ("回", "who work", {
        "{who}は、毎年{v}以上、{work}を行わなければならない。":
            "{who}は、毎年何回以上{work}を行わなければならないか。|{who}が行うべき{work}の年間の最少回数として、正しいものはどれか。|{work}は、毎年少なくとも何回行わなければならないか。",
    }),
    "停止": ("月", "who act business", {
        "{office}は、{who}が{act}ときは、{v}以内の期間を定めて、{business}の停止を命ずることができる。":
            "{who}が{act}とき、{office}は、何箇月以内の期間を定めて{business}の停止を命ずることができるか。|{act}{who}に対して命ずることができる{business}の停止の期間は、最長でどれだけか。",
        "{act}{who}は、{v}を超えない期間、{business}を停止しなければならない。":
            "{act}{who}が{business}を停止しなければならない期間の上限はどれか。|{act}{who}は、何箇月を超えない期間、{business}を停止しなければならないか。",
    }),
    "年齢": ("歳", "who", {
        "{v}に満たない者は、{who}となることができない。":
            "{who}となることができるのは、何歳以上の者か。|何歳に満たない者は、{who}となることができないか。",
        "{who}は、{v}以上の者のうちから選任しなければならない。":
            "{who}は、何歳以上の者のうちから選任しなければならないか。|{who}に選任される者の年齢の下限として、正しいものはどれか。",
    }),
    "重量": ("重量", "what act", {
        "{act}する{what}の重量は、{v}を超えてはならない。":
            "{act}する{what}の重量は、どれだけを超えてはならないか。|{act}することができる{what}の重量の上限として、正しいものはどれか。",
        "{v}を超える{what}は、これを{act}してはならない。":
            "何キログラムを超える{what}を{act}してはならないか。|{what}を{act}する場合の重量の限度はどれか。",
    }),
    "時間": ("時間", "who when act", {
        "{who}は、{when}ときは、{v}以内に{act}なければならない。":
            "{who}は、{when}ときは、何時間以内に{act}なければならないか。|{when}場合に、{who}が{act}なければならない時間の限度はどれか。",
    }),
}

# Items of a family are divided by "|", the slots of an item by "/". Every item of 許可 becomes three articles.
LAWS = {
    "架空空中庭園法": {
        "office": "庭園管理庁",
        "届出": "庭園主/庭園の浮力が弱まった/浮力の測定結果|係留業者/係留索を取り替えた/新しい係留索の強度|庭師長/希少な植物が枯れた/枯れた植物の名称|庭園主/庭園を他人に譲り渡した/譲受人の氏名",
        "保存": "庭園主/散水日誌/最後の記載の日|係留業者/係留索の点検票/点検を終えた日",
        "許可": "空中庭園の開設の許可|係留業の登録|夜間開園の承認",
        "過料": "許可を受けないで庭園の高度を変えた|係留索をみだりに切り離した|散水日誌に虚偽の記載をした",
        "人数": "公開中の空中庭園/監視員|係留塔/索具技師",
        "距離": "係留塔/学校の敷地|庭園の給水槽/花火の打上場",
        "割合": "高度負担金/前年度の入園料の収入額|植栽補助金/苗木の購入に要した費用",
        "回数": "庭園主/浮力の検査|係留業者/係留索の張力の測定",
        "停止": "係留業者/点検票を改ざんした/係留の業務|庭園主/定員を超えて人を乗せた/庭園の公開",
        "年齢": "庭師長|索具技師",
        "重量": "庭石/空中庭園に搬入",
        "時間": "庭園主/係留索が切れた/入園者を避難させ|監視員/強風の警報が出された/庭園の門を閉じ",
    },
    "架空潮汐井戸法": {
        "office": "井戸管理庁",
        "届出": "井戸守/井戸の水位が基準を下回った/水位の記録|掘削業者/掘削中に空洞を見つけた/空洞の位置|井戸の所有者/井戸のふたを改造した/改造の図面|塩水商/塩水の貯蔵所を移した/移転先の所在地",
        "保存": "井戸守/潮位の観測簿/観測簿を閉じた日|掘削業者/地層の標本/掘削を終えた日",
        "許可": "潮汐井戸の掘削の許可|塩水商の免許|井戸の深さの変更の認可",
        "過料": "満潮の間に井戸のふたを開けた|井戸に真水を流し込んだ|井戸守の立入検査を拒んだ",
        "人数": "大型の潮汐井戸/井戸守|塩水の貯蔵所/見張番",
        "距離": "潮汐井戸/灯台の基礎|塩水の貯蔵所/果樹園",
        "割合": "くみ上げ料/塩水の売上高|海岸復旧の分担金/掘削工事の請負代金",
        "回数": "井戸守/井戸の内壁の清掃|塩水商/計量器の点検",
        "停止": "塩水商/濃度を偽って塩水を売った/塩水の販売|掘削業者/届け出ないで深さを変えた/掘削の業務",
        "年齢": "井戸守|掘削の責任者",
        "重量": "塩水のたる/桟橋で運搬",
        "時間": "井戸守/津波の予報が発せられた/すべての井戸のふたを閉じ|掘削業者/坑内に出水があった/坑内の作業員を退避させ",
    },
    "架空灯籠航路法": {
        "office": "航路安全庁",
        "届出": "灯籠船の船主/船体の色を塗り替えた/塗替え後の色|水先人/航路で漂流物を発見した/漂流物の種類|灯籠職人/工房を閉鎖した/閉鎖の理由|港の管理者/桟橋の長さを変えた/変更後の長さ",
        "保存": "船主/航海日誌/航海を終えた日|港の管理者/灯籠船の入港記録/記録を作成した日",
        "許可": "灯籠航路の開設の免許|灯籠職人の登録|夜間航行の許可",
        "過料": "灯籠を消したまま夜の航路を進んだ|水先人の指示に背いて追い越しをした|航路の標識を移動させた",
        "人数": "旅客を乗せる灯籠船/点灯手|航路の見張所/信号員",
        "距離": "灯籠の標識/漁具の置場|灯油の保管庫/乗客の待合所",
        "割合": "航路使用料/乗船券の売上額|標識維持の負担金/積荷の評価額",
        "回数": "船主/灯籠の明るさの検査|港の管理者/航路の深さの測量",
        "停止": "船主/最大の速力を超えて航行した/灯籠船の運航|灯籠職人/検査に合格しない灯籠を売った/灯籠の製造",
        "年齢": "水先人|点灯手",
        "重量": "灯籠/船首に設置",
        "時間": "船主/灯籠船が座礁した/航路から船体を取り除か|信号員/航路に濃霧が生じた/霧笛の吹鳴を始め",
    },
    "架空巻物書庫法": {
        "office": "書庫保全庁",
        "届出": "書庫長/所蔵する巻物が破損した/破損の程度|写字生/写本を完成させた/写本の題名|巻物の寄託者/住所を変更した/新しい住所|書庫長/書庫の開館日を変更した/変更後の開館日",
        "保存": "書庫長/閲覧の申込書/閲覧の日|修復師/修復前の写真/修復を完了した日",
        "許可": "巻物書庫の設置の認可|修復師の免許|巻物の館外への持出しの許可",
        "過料": "巻物に書き込みをした|閲覧室で灯火を用いた|許可を受けないで写本を売った",
        "人数": "大規模な巻物書庫/司書|修復室/修復師",
        "距離": "巻物書庫/火気を扱う工場|書庫の換気口/交通量の多い道路",
        "割合": "寄託の保管料/巻物の鑑定価額|修復の助成金/修復に要する経費",
        "回数": "書庫長/巻物の虫干し|修復師/保存用の薬剤の検査",
        "停止": "修復師/原本の文字を書き換えた/修復の業務|書庫長/湿度の管理を怠った/書庫の公開",
        "年齢": "書庫長|写字生",
        "重量": "巻物の箱/書架の上段に収納",
        "時間": "書庫長/書庫に雨水が入った/巻物を乾いた部屋に移さ|司書/巻物の紛失に気付いた/書庫の出口を閉鎖し",
    },
    "架空養蜂区域法": {
        "office": "養蜂監理庁",
        "届出": "養蜂家/巣箱を区域の外へ移した/移動先の地番|蜜の検査人/蜜に異物を認めた/異物の分析表|養蜂家/女王蜂を入れ替えた/新しい女王蜂の系統|花畑の所有者/作付けする花を変えた/作付けの計画",
        "保存": "養蜂家/巣箱の台帳/巣箱を廃棄した日|蜜商/蜜の仕入帳/帳簿を締め切った日",
        "許可": "養蜂区域の指定|蜜商の免許|女王蜂の輸入の承認",
        "過料": "区域の境界の標識を壊した|開花の時期に農薬をまいた|検査を受けていない蜜を市場に出した",
        "人数": "共同の養蜂場/衛生係|蜜の検査所/検査人",
        "距離": "巣箱/公道|農薬の倉庫/花畑",
        "割合": "蜜源の利用料/蜜の出荷額|巣箱更新の補助金/巣箱の製作費",
        "回数": "養蜂家/巣箱の消毒|蜜商/蜜の糖度の検査",
        "停止": "蜜商/産地を偽って表示した/蜜の販売|養蜂家/病気の群れを隠した/養蜂の事業",
        "年齢": "蜜の検査人|養蜂組合の理事",
        "重量": "巣箱/荷車に積載",
        "時間": "養蜂家/群れの逃去に気付いた/隣接する養蜂家に知らせ|衛生係/病気の群れを見付けた/巣箱を隔離し",
    },
    "架空雪蔵営業法": {
        "office": "雪蔵監督庁",
        "届出": "雪蔵の営業者/蔵の室温が基準を超えた/室温の推移|雪の採取者/採取場を拡張した/拡張した区画|営業者/営業を相続により承継した/承継の事実|氷室番/貯蔵した雪に汚れを見付けた/汚れの範囲",
        "保存": "営業者/室温の記録紙/記録した日|雪の採取者/採取した雪の試料/採取の日",
        "許可": "雪蔵の営業の許可|雪の採取権の登録|食用の雪の販売の承認",
        "過料": "雪蔵の扉を開けたまま立ち去った|採取を禁じられた斜面から雪を持ち去った|古い雪を新雪と偽って売った",
        "人数": "営業中の雪蔵/氷室番|雪の採取場/安全係",
        "距離": "雪蔵/温泉の源泉|採取場の監視小屋/雪崩の危険区域",
        "割合": "雪資源の利用料/雪の販売額|断熱工事の助成金/断熱材の購入額",
        "回数": "営業者/断熱壁の点検|雪の採取者/斜面の積雪の調査",
        "停止": "営業者/室温の記録を捨てた/雪蔵の営業|雪の採取者/境界を越えて雪を採った/雪の採取",
        "年齢": "氷室番|採取場の安全係",
        "重量": "雪の塊/そりで搬送",
        "時間": "営業者/蔵の冷気が失われた/食用の雪を廃棄し|安全係/斜面に亀裂を認めた/採取場を立入禁止とし",
    },
    "架空時計塔管理法": {
        "office": "時刻統制庁",
        "届出": "塔の管理者/大時計の針が止まった/停止した時刻|鐘つき番/鐘の音色が変わった/音の調査の結果|時計師/歯車を交換した/交換した歯車の番号|塔の所有者/塔に看板を取り付けた/看板の寸法",
        "保存": "塔の管理者/時刻の修正簿/修正をした日|時計師/歯車の設計図/据付けの日",
        "許可": "時計塔の建設の許可|時計師の登録|臨時の打鐘の承認",
        "過料": "大時計の針を故意に遅らせた|定められた時刻のほかに鐘を鳴らした|塔の避雷針を取り外した",
        "人数": "公共の時計塔/鐘つき番|時計師の工房/見習いの指導員",
        "距離": "時計塔/病院の病棟|塔の拡声器/住宅の窓",
        "割合": "時刻の利用料/塔の広告の収入額|鐘の改鋳の分担金/改鋳の見積額",
        "回数": "塔の管理者/振り子の調整|時計師/歯車への注油",
        "停止": "時計師/規格に合わない部品を用いた/修理の業務|塔の管理者/時刻の誤りを放置した/塔の見学の受入れ",
        "年齢": "鐘つき番|塔の管理者",
        "重量": "鐘/塔の最上階に設置",
        "時間": "塔の管理者/大時計に遅れが生じた/正しい時刻に直さ|鐘つき番/落雷があった/塔の内部を点検し",
    },
}

README = """# Sample questions

`questions.jsonl`: {questions} four-choice questions in Japanese on {articles} articles of {laws} fictional laws.

- **Fictional.** No law, office, title or figure exists; nothing here is legal information.
- **Generated.** `python scripts/make_sample_data.py --seed {seed}` writes this folder byte for byte. Sentences are put
  together from hand-written parts; values and gold letters are drawn at random.
- One article holds one value; its two questions are worded differently and have other distractors.
- Every article also stands in the former law (旧…) with another value: a question can be answered by reading its
  statute, not by remembering one like it. The questions of both versions share a `group`.
- Distractors come from the pool the value comes from: without the article nothing is better than 25 %.
- Gold letters: {letters}.

Licence: Apache-2.0, like the rest of the project.
"""


def law_articles(law: str, rng: random.Random) -> list[tuple[str, dict[str, str]]]:
    """`(family, slots)` of every article of a law, in random order so that neighbours differ in kind."""
    parts = LAWS[law]
    articles = []
    for family, (_, slots, _) in FAMILIES.items():
        items = parts["許可" if slots == "licence" else family].split("|")
        for item in items:
            values = dict(zip(slots.split(), item.split("/"), strict=True))
            articles.append((family, {**values, "office": parts["office"]}))
    rng.shuffle(articles)
    return articles


def article_questions(law: str, number: int, family: str, slots: dict[str, str], rng: random.Random) -> list[Question]:
    """Two differently worded questions on one article and two on its former version; ids are given later."""
    values = rng.sample(VALUES[FAMILIES[family][0]], 2)
    group = f"{law}第{number}条"
    return [
        question
        for edition, value in zip((law, f"旧{law}"), values, strict=True)
        for question in _version_questions(edition, number, family, slots, value, group, rng)
    ]


def _version_questions(
    law: str, number: int, family: str, slots: dict[str, str], value: str, group: str, rng: random.Random
) -> list[Question]:
    kind, _, wordings = FAMILIES[family]
    article, asked = rng.choice(list(wordings.items()))
    passage = f"## {law}\n### 第{number}条\n{article.format(v=value, **slots)}"
    others = [other for other in VALUES[kind] if other != value]
    questions = []
    for wording in rng.sample(asked.split("|"), 2):
        shown = [value, *rng.sample(others, 3)]
        rng.shuffle(shown)
        questions.append(
            Question(
                id="-",
                law=law,
                question=wording.format(**slots),
                choices=dict(zip(LETTERS, shown, strict=True)),
                answer=LETTERS[shown.index(value)],
                statutes=(passage,),
                group=group,
            )
        )
    return questions


def make_questions(seed: int) -> list[Question]:
    """All sample questions, numbered law by law in the order of the articles."""
    rng = random.Random(seed)
    drawn = []
    for law in LAWS:
        number = 0
        for family, slots in law_articles(law, rng):
            number += rng.randint(1, 3)  # gaps, as if the other articles held no figure worth asking for
            drawn += article_questions(law, number, family, slots, rng)
    return [dataclasses.replace(question, id=f"sample-{count:04d}") for count, question in enumerate(drawn, start=1)]


def main() -> None:
    """Writes `questions.jsonl` and its README, then reads the questions back through the project's own checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args()

    questions = make_questions(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    write_questions(args.out / "questions.jsonl", questions)
    read_questions(args.out / "questions.jsonl")

    gold = [question.answer for question in questions]
    figures = {
        "questions": len(questions),
        "articles": len({question.statutes for question in questions}),
        "laws": 2 * len(LAWS),
        "letters": ", ".join(f"{letter} {gold.count(letter)}" for letter in LETTERS),
    }
    (args.out / "README.md").write_text(README.format(seed=args.seed, **figures), encoding="utf-8")
    print(f"{args.out}: " + " · ".join(f"{key} {value}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
