"""Names, companies, addresses and numbers in contracts and letters, by the words that stand around them."""

import re
from collections.abc import Iterator

from lawft_trl.doctor.personal import find_personal

KINDS = ("氏名", "会社名", "住所", "郵便番号", "口座番号", "生年月日", "メール", "電話番号", "個人番号", "法人番号", "カード番号")
_OF_DOCTOR = {
    "mail address": "メール",
    "phone number": "電話番号",
    "postal address": "住所",
    "My Number": "個人番号",
    "corporate number": "法人番号",
    "card number": "カード番号",
}
_S = r"[ \t　]*"
_COLON = rf"{_S}[:：]{_S}"
_FULL = r"(?:[一-龥々ヶ]{1,4}[ 　]?[一-龥々]{1,4}|[一-龥々ヶ]{1,4}[ 　]?[ぁ-ん]{2,4}|[一-龥々ヶ]{1,4}[ 　]?[ァ-ヶー]{2,5}|[ァ-ヶー]{2,10}[ 　・][ァ-ヶー]{2,10}|[A-Z][a-z]+ [A-Z][a-z]+)"
_PREFECTURE = r"(?:北海道|東京都|大阪府|京都府|(?:青森|岩手|宮城|秋田|山形|福島|茨城|栃木|群馬|埼玉|千葉|神奈川|新潟|富山|石川|福井|山梨|長野|岐阜|静岡|愛知|三重|滋賀|兵庫|奈良|和歌山|鳥取|島根|岡山|広島|山口|徳島|香川|愛媛|高知|福岡|佐賀|長崎|熊本|大分|宮崎|鹿児島|沖縄)県)"
_TITLE = r"代表取締役(?:社長|会長)?|代表社員|代表理事|代表者|取締役|監査役|執行役員|支配人|理事長|弁護士|司法書士|税理士|公認会計士|営業部長|部長|課長|係長|所長|支店長|店長|代理人|連帯保証人|保証人"
_LABEL = r"氏[ 　]?名|名[ 　]前|お名前|ご氏名|署名|担当者?名?|連絡先担当|責任者|相続人|被相続人|申立人|相手方|原告|被告|申請者|応募者|従業員名|患者名|契約者名?|買主|売主|貸主|借主|賃貸人|賃借人|委託者|受託者|債権者|債務者|被害者|加害者|依頼者|相談者|本人|被?通知人|差出人|受取人|立会人|証人|後見人|使用者|労働者|譲渡人|譲受人|発注者|受注者"
# The most frequent family names: with a given name after them they need no label.
_FAMILY = (
    "佐藤|鈴木|高橋|田中|伊藤|渡辺|渡邊|渡邉|山本|中村|小林|加藤|吉田|山田|佐々木|山口|松本|井上|木村|斎藤|齋藤|斉藤|清水|"
    "山崎|池田|橋本|阿部|石川|山下|中島|石井|小川|前田|岡田|長谷川|藤田|後藤|近藤|村上|遠藤|青木|坂本|福田|太田|西村|藤井|"
    "金子|岡本|藤原|三浦|中野|中川|原田|松田|竹内|小野|田村|中山|和田|石田|森田|上田|内田|柴田|酒井|宮崎|横山|高木|安藤|"
    "宮本|大野|小島|谷口|工藤|今井|高田|増田|丸山|杉山|村田|大塚|小山|藤本|平野|新井|河野|武田|上野|松井|千葉|菅原|岩崎|"
    "久保|木下|佐野|野口|松尾|菊地|菊池|野村|市川|古川|大西|島田|水野|桜井|高野|吉川|山内|西田|飯田|西川|小松|北村|安田|"
    "五十嵐|川口|平田|中田|久保田|服部|川崎|岩田|土屋|福島|本田|樋口|秋山|田口|永井|中西|吉村|川上|石原|大橋|松岡|馬場|浜田|"
    "森本|星野|矢野|浅野|大久保|吉岡|小池|野田|荒木|松浦|熊谷|平井|杉本|高山|大石|望月|中嶋|永田|白石|小沢|大沢|本間|片山|"
    "児玉|須藤|福井|松村|広瀬|菅野|関口|桑原|富田|石橋|小田|内藤|宮田|栗原|西山|森下|尾崎|大川|沢田|岡崎|北川|牧野|松永|"
    "早川|吉野|神田|渡部|高島|篠原|今村|村山|鎌田|松下|奥村|榎本|黒田|萩原|徳永|成田|柳沢|堀内|平山|川村|三宅|小西|天野|"
    "宮下|安達|小泉|田島|片岡|大森|飯塚|佐久間|岩本|小野寺|大谷|田辺|平川|江口|長田|長野|石塚|上原|坂口|坂井|川島|川端|古賀|"
    "大城|比嘉|金城|宮城|新垣|西尾|西野|戸田|土井|津田|角田|浅井|柳田|根本|黒川|荒井|細川|横田|笠原|寺田"
)
_FAMILY_OF_ONE = "林|森|原|関|東|辻|堀|泉|星|岸|堤|谷|畑|南"  # 原則 and 森林 begin with them: only before a space
_FORM = r"(?:株式会社|有限会社|合同会社|合資会社|合名会社|一般社団法人|一般財団法人|公益社団法人|公益財団法人|医療法人(?:社団)?|学校法人|社会福祉法人|特定非営利活動法人|NPO法人|税理士法人|弁護士法人|監査法人|\(株\)|（株）|㈱|\(有\)|（有）|㈲)"
# A family and a given name with a space between them, in characters that names have.
_SPACED = r"(?:[一-龥々ヶ]{2,3}[ 　][一-龥々]{1,3}|[一-龥々ヶ]{1,4}[ 　](?:[ぁ-ん]{2,4}|[ぁ-ん]{1,2}[一-龥]|[ァ-ヶー]{2,4})(?![ぁ-ん]))"
_NAMES = [
    re.compile(rf"(?:{_LABEL}|甲|乙|丙|丁|{_TITLE}){_COLON}(?:(?:{_TITLE}){_S})?(?P<it>{_FULL})(?![一-龥ぁ-ん])"),
    re.compile(rf"^{_S}[（(]?[甲乙丙丁][)）]?[ 　]+(?:(?:{_TITLE}){_S})?(?P<it>{_FULL}){_S}(?:印|㊞|$)", re.MULTILINE),
    re.compile(rf"(?:{_TITLE}|氏[ 　]?名|署名)[ 　]+(?P<it>{_FULL})(?![一-龥ぁ-ん])"),
    re.compile(r"(?:代表取締役(?:社長|会長)?|代表社員|代表理事|弁護士|司法書士|税理士|連帯保証人)(?P<it>[一-龥々]{3,6})(?=[（(、。,\nはがをにとのへ]|$)"),
    re.compile(rf"^{_S}(?:{_LABEL}){_S}[ 　]+(?:(?:{_TITLE}){_S})?(?P<it>{_FULL})(?=[\s　]|$)", re.MULTILINE),
    re.compile(rf"(?<![一-龥々])(?P<it>(?:{_FAMILY})[ 　]?[一-龥々]{{1,3}}|(?:{_FAMILY})[ 　]?[ぁ-ん]{{2,3}}(?=[\s　（(、。,印㊞]|$)|(?:{_FAMILY_OF_ONE})[ 　][一-龥々]{{1,3}})(?![一-龥々])", re.MULTILINE),
    re.compile(rf"(?<![一-龥々])(?P<it>{_SPACED})(?![一-龥々ァ-ヶー])"),
    re.compile(rf"(?:{_LABEL}|{_TITLE})(?P<it>{_SPACED}|[一-龥々]{{1,4}}[ 　][一-龥々]{{1,3}})(?![一-龥々])"),
    re.compile(r"(?:の|は、?)(?P<it>[一-龥々]{2,5})(?:と申します|でございます)"),
    re.compile(rf"{_FORM}[^\s、。のは]{{2,16}}(?:の|　| )(?P<it>[一-龥々]{{2,5}})です"),
    re.compile(r"(?:夫|妻|父|母|子|長男|次男|長女|次女|兄|弟|姉|妹|上司|同僚|部下|友人|知人|隣人|代表)[（(](?P<it>[一-龥々]{1,5}|[ァ-ヶー]{2,8})[）)]"),
    re.compile(rf"(?P<it>{_FULL}|[一-龥々]{{1,5}})[（(](?:[0-9０-９]{{1,3}}歳|〒|住所)"),
    re.compile(rf"(?<![一-龥々])(?P<it>[一-龥々]{{1,5}})[（(](?={_PREFECTURE})"),
    re.compile(r"(?<![一-龥々])(?P<it>[一-龥々]{2,6})(?:部長|課長|社長|係長|次長|所長|会長|専務|常務|先生|教授|弁護士|司法書士|税理士|会計士|裁判官|検事|医師)"),
    re.compile(r"(?P<it>[A-Z][a-z]+ [A-Z][a-z]+)(?= \((?:the |hereinafter)|, an individual)|(?:Mr|Ms|Mrs|Dr)\. ?(?P<that>[A-Z][a-z]+(?: [A-Z][a-z]+)?)"),
    re.compile(rf"(?<![一-龥々ァ-ヶー])(?P<it>{_FULL})[ 　]*[（(](?:以下)?、?(?:単に)?[「『]?(?:[甲乙丙丁]|本人|被用者|労働者|借主|貸主|売主|買主|委託者|受託者|賃借人|賃貸人)[」』]?(?:という|とする)?。?[)）]"),
    re.compile(r"(?<![一-龥々])(?P<it>[一-龥々]{2,6}|[一-龥々]{1,4}[ 　][一-龥々ぁ-ん]{1,5})(?:氏(?![名族])|様|さん|殿)(?![々一-龥])"),
    re.compile(rf"(?:私|わたし|わたくし)(?:は|、|の名前は){_S}(?P<it>{_FULL})(?:と(?:申します|いいます|言います)|です)"),
    re.compile(rf"(?P<it>{_FULL}){_S}(?:印|㊞){_S}$", re.MULTILINE),
    re.compile(rf"(?P<it>{_FULL})[（(](?:昭和|平成|令和|大正|西暦)?[0-9０-９元]{{1,4}}年[0-9０-９]{{1,2}}月[0-9０-９]{{1,2}}日生"),
]
# Words that the patterns would take for names: 原告, 契約者様, 仕様, 営業部長. Names of two characters may end in 上, 内 or 部.
_NO_NAME = re.compile(
    r".*(?:者|員|主|社|会|課|係|役|官|株|書|物|条|項|号|的|権|約|告|宅|名)|.{2,}(?:先|方|人|部|長|金|法|上|下|内|外|間|市|区|県|府|都)"
    r"|お客|皆|仕|同|多|模|王|神|仏|各位|貴|両|某|諸|一|外|何|下記|上記|後記|前記|不明|未定|空欄|必須|任意|変更|確認|以下|債権|債務|会社"
    r"|.*(?:支店|本店|銀行|金庫|預金|普通|当座|契約|期間|所在|地番|地目|宅地|午[前後]|別紙|条項|業務|委託|合意|目的|金額|合計|以上|印鑑|総会|会議|法人|番号|月額|税込|税別|消費税|単価|数量|備考|記載).*|.*(?:[者人主義座長]|相手方|貸方|借方|先方)[ 　].*|[一-龥々]{2,3}[ 　](?:は|が|を|に|の|と|で|も|へ|や|より|から|まで|及|又).*"
    r"|(?:別途|別紙|営業|人事|総務|法務|経理|担当|顧問|本部|技術|管理|代理|当番|主任|記名|押印|捺印|当社|弊社|自署).*"
)
_PLACE_NAME = re.compile(rf"(?:{_FAMILY})(?:[一-龥]?[県市区町村郡駅線川島港]|地[方裁]|支[店社]|方面|家庭?裁?|簡裁)[一-龥]*")
_WORD = r"[一-龥々ァ-ヶーA-Za-zＡ-Ｚａ-ｚ0-9０-９・＆&\-]"
_COMPANIES = [
    re.compile(rf"(?P<it>{_FORM}{_S}{_WORD}{{2,24}}?)(?=代表|取締役|[（(、。,，「」\s　のはがをにへとでもや]|御中|及び|並びに|又は|$)", re.MULTILINE),
    re.compile(rf"(?P<it>{_FORM}[ぁ-ん一-龥々ァ-ヶーA-Za-z]{{2,20}})(?=[（(](?:以下|甲|乙)|{_S}御中|{_S}代表)"),
    re.compile(rf"(?P<it>{_FORM}(?!は|が|を|に|で|と|も|や|の|へ|から|まで|より|その|又|若|たる|及び|ごと|みな|しか|だけ|など)[ぁ-ん]{{2,8}}[一-龥々ァ-ヶー]{{1,10}})"),
    re.compile(rf"(?<=[者主人方])(?P<it>[ぁ-ん]{{3,8}}[一-龥々ァ-ヶー]{{1,10}}{_FORM})(?![一-龥々])"),
    re.compile(rf"(?:(?<=から)|(?<=及び)|(?<=又は)|(?<=[はがをにへと、。「（(\s　])|^)(?P<it>[ぁ-ん]{{2,6}}[一-龥々ァ-ヶー]{{0,10}}{_FORM})(?![一-龥々])", re.MULTILINE),
    re.compile(rf"^{_S}(?:[（(]?[甲乙丙丁][)）]?[ 　:：]+)?(?P<it>{_FORM}[ 　]?(?!は|が|を|に|で|と|も|や|の|へ|から|まで|より|その|又|若|たる|及び|ごと|みな|しか|だけ|など)[ぁ-ん一-龥々ァ-ヶーA-Za-z0-9・＆&]{{2,20}}){_S}$", re.MULTILINE),
    re.compile(rf"(?:商[ 　]?号|会社名|法人名|社名|名称|勤務先|屋号){_COLON}(?P<it>[^\s　、。,（(]{{2,30}})"),
    re.compile(rf"(?<![一-龥々ァ-ヶーA-Za-zＡ-Ｚａ-ｚ])(?P<it>{_WORD}{{2,24}}{_FORM})(?![一-龥々])"),
    re.compile(rf"(?:[甲乙丙]|[はがとをに、「]|及び){_S}(?P<it>[ァ-ヶーA-Za-z一-龥々]{{2,16}}{_FORM})"),
    re.compile(r"(?P<it>\b[A-Z][A-Za-z&]*(?: [A-Z][A-Za-z&]*){0,4},? (?:Inc\.|Ltd\.|LLC|K\.K\.|Corporation|Corp\.|Co\., Ltd\.))"),
]
_NO_COMPANY = re.compile(
    rf"{_FORM}(?:設立|法|制度|代表|取締役|監査|発行|株主|会社|等|以外|支配|若しく|及|又|名|形態|化|間|全般).*"
    r"|(?:.*(?:当該|発行|存続|消滅|新設|分割|承継|特例|親|子|公開|取得|制限|対象|移転|交換|種類|設置|非公開|大|他|各|特定|設立時|日本の|典型的な|小規模|同族|一人|上場)|本|同|一般|この|その)(?:株式|有限|合同|合資|合名)会社"
    r"|(?:未定|未記入|未設定|不明|なし|無し|該当なし|同上|空欄|省略|(?:上|下|前|後|別)(?:記|紙|掲))(?:のとおり|に記載.*|参照)?"
)
_N = r"[0-9０-９一二三四五六七八九十]{1,4}"
_H = "[-‐‑‒–—―−ーｰ－の]"
_SAPPORO = rf"[北南]{_N}条[東西]{_N}(?:丁目(?:{_S}{_N}(?:番地?(?:{_S}{_N}号?)?|(?:{_H}{_N}){{0,2}}))?|(?:{_H}{_N}){{1,2}})"
_HOUSE = rf"(?:{_SAPPORO}|{_N}丁目(?:{_S}{_N}番(?:地)?(?:{_S}{_N}号?)?|{_S}{_N}(?:{_H}{_N}){{0,2}})?|{_N}番地?(?:の?{_N})?(?:{_S}{_N}号)?|[0-9０-９]{{1,4}}(?:{_H}[0-9０-９]{{1,4}}){{1,3}})"
_BUILDING = rf"(?:(?:{_S}[一-龥々ァ-ヶーA-Za-zＡ-Ｚ・]{{1,20}}(?:ビル(?:ディング)?|マンション|ハイツ|コーポ|荘|タワー|アパート|レジデンス|館)[一-龥々ァ-ヶー]{{0,4}})?(?:{_S}[0-9０-９A-Z]{{1,5}}(?:階|号室|号|F))?)"
_PLACE = r"[一-龥々ヶぁ-んァ-ヶー]"
_ADDRESSES = [
    re.compile(rf"(?P<it>{_PREFECTURE}{_S}{_PLACE}{{1,12}}?[市区町村郡]{_S}{_PLACE}{{0,24}}?{_S}{_HOUSE}{_BUILDING})"),
    re.compile(rf"(?P<it>(?:(?<![一-龥々])[一-龥々]{{1,6}}|さいたま|つくば(?:みらい)?|いわき|うるま|ひたちなか|みどり|あきる野|あま|いなべ|つがる|むつ)[市区]{_PLACE}{{1,16}}?{_S}{_HOUSE}{_BUILDING})"),
    re.compile(rf"(?:住[ 　]?所|所在地|本店所在地|本[ 　]?店|居[ 　]?所|本籍|送付先|届出先|勤務地){_COLON}(?:〒?[0-9０-９]{{3}}[-－ー][0-9０-９]{{4}}{_S})?(?P<it>[^\s、。,（(〒][^\n、。,（(]{{3,50}})"),
]
_POSTAL = re.compile(rf"〒{_S}(?P<it>[0-9０-９]{{3}}[-‐－−ー]?[0-9０-９]{{4}})(?![0-9０-９])|郵便番号{_S}[:：]?{_S}(?P<that>[0-9０-９]{{3}}[-‐－−ー]?[0-9０-９]{{4}})")
_ACCOUNT = re.compile(rf"(?:口座番号|口座|普通(?:預金)?|当座(?:預金)?|貯蓄(?:預金)?|定期(?:預金)?){_S}(?:口座)?(?:番号)?{_S}(?:No\.?|[:：])?{_S}(?P<it>[0-9０-９]{{6,8}}|[0-9０-９]{{3,5}}[-－][0-9０-９]{{6,8}})(?![0-9０-９円])")
_HOLDER = re.compile(rf"(?:口座名義人?|名義人?|名義){_S}[:：]?{_S}(?P<it>[ァ-ヶー（）()]{{2,12}}[ 　][ァ-ヶー]{{2,12}}|{_FULL})(?![一-龥ぁ-ん])")
_KANA = r"(?:[ァ-ヶー]{2,10}[ 　・][ァ-ヶー]{2,10}|[ｦ-ﾟ]{2,12} [ｦ-ﾟ]{2,12}|[ァ-ヶ]{1,3}[)）][ァ-ヶー]{2,20}|[ｦ-ﾟ]{1,4}\)[ｦ-ﾟ]{2,24})"
_AFTER_ACCOUNT = re.compile(rf"(?:口座|普通|当座|貯蓄|定期)[^\n0-9０-９]{{0,10}}(?:[0-9０-９]{{3,5}}[-－])?[0-9０-９]{{6,8}}[ 　、,/／]{{1,3}}(?P<it>{_KANA})(?![ァ-ヶーｦ-ﾟ])")
_DAY = r"(?:(?:明治|大正|昭和|平成|令和|西暦)?[ 　]?[0-9０-９元一二三四五六七八九十〇]{1,4}年[ 　]?[0-9０-９一二三四五六七八九十]{1,2}月[ 　]?[0-9０-９一二三四五六七八九十]{1,3}日|[0-9]{4}[/.\-][0-9]{1,2}[/.\-][0-9]{1,2}|[SHTR][0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2})"
_BIRTH = [re.compile(rf"(?:生年月日|誕生日|出生日?){_S}[:：]?{_S}(?P<it>{_DAY})"), re.compile(rf"(?P<it>{_DAY})[ 　]?(?:生まれ|生(?![一-龥]))")]
_LATIN = "A-Za-z0-9Ａ-Ｚａ-ｚ０-９"
_MAIL = re.compile(rf"(?P<it>(?<![{_LATIN}._%+．＿－-])[{_LATIN}._%+．＿－-]{{1,64}}[@＠][{_LATIN}－-]{{1,63}}(?:[.．][{_LATIN}－-]{{1,63}})+)")
_PLAIN_PHONE = re.compile(r"(?P<it>(?<![0-9０-９])[0０][0-9０-９]{1,4}[-‐－−ー(（][0-9０-９]{1,4}[-‐－−ー)）][0-9０-９]{3,4}(?![0-9０-９]))")
_LABELLED = {
    "個人番号": re.compile(rf"(?:個人番号|マイナンバー){_S}[:：]?{_S}(?P<it>[0-9０-９]{{4}}[-－ 　]?[0-9０-９]{{4}}[-－ 　]?[0-9０-９]{{4}})(?![0-9０-９])"),
    "法人番号": re.compile(rf"(?:法人番号|登録番号){_S}[:：]?{_S}T?(?P<it>[0-9０-９][-－ ]?[0-9０-９]{{4}}[-－ ]?[0-9０-９]{{4}}[-－ ]?[0-9０-９]{{4}})(?![0-9０-９])"),
    "カード番号": re.compile(rf"(?:カード番号){_S}[:：]?{_S}(?P<it>[0-9０-９]{{4}}(?:[-－ ]?[0-9０-９]{{4}}){{2}}[-－ ]?[0-9０-９]{{2,4}})"),
}


def find_private(text: str) -> list[tuple[str, int, int]]:
    """`(kind, start, end)` of everything private, sorted, without overlaps: of two that overlap the longer stays."""
    found = [(_OF_DOCTOR[kind], start, end) for kind, start, end in find_personal(text)]
    found += list(_by_pattern(text))
    found.sort(key=lambda each: (each[1] - each[2], each[1]))
    kept: list[tuple[str, int, int]] = []
    for kind, start, end in found:
        if not any(start < other_end and other_start < end for _, other_start, other_end in kept):
            kept.append((kind, start, end))
    return sorted(kept, key=lambda each: each[1])


def _by_pattern(text: str) -> Iterator[tuple[str, int, int]]:
    names: set[str] = set()
    for kind, patterns, never in (("氏名", [*_NAMES, _HOLDER, _AFTER_ACCOUNT], _NO_NAME), ("会社名", _COMPANIES, _NO_COMPANY)):
        for match in (match for pattern in patterns for match in pattern.finditer(text)):
            group = "it" if match["it"] else "that"
            if not (never.fullmatch(match[group]) or _PLACE_NAME.fullmatch(match[group])):
                yield kind, *match.span(group)
                names |= {match[group]} if kind == "氏名" else set()
    for family in {re.match(r"(\S+?)[ 　]|(\S{2})(?=\S{2,3}\Z)|", name)[0].strip(" 　") for name in names} - {""}:
        yield from (("氏名", *match.span()) for match in re.finditer(rf"(?<![一-龥々]){family}(?![一-龥々])", text) if len(family) > 1)
    for kind, patterns in (
        ("住所", _ADDRESSES),
        ("口座番号", [_ACCOUNT]),
        ("生年月日", _BIRTH),
        ("メール", [_MAIL]),
        ("電話番号", [_PLAIN_PHONE]),
        *((kind, [pattern]) for kind, pattern in _LABELLED.items()),
    ):
        for pattern in patterns:
            yield from ((kind, *match.span("it")) for match in pattern.finditer(text))
    for match in _POSTAL.finditer(text):
        yield "郵便番号", *match.span("it" if match["it"] else "that")


def may_be_part(text: str, start: int, end: int) -> bool:
    """Whether a known value at a place is only a part of a longer word or number there: 森 in 森林, 1234567 in 12345678."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if (text[start].isdigit() and before.isdigit()) or (text[end - 1].isdigit() and after.isdigit()):
        return True
    return end - start <= 2 and bool(re.fullmatch(r"[一-龥々]", before) or (re.fullmatch(r"[一-龥々]", after) and after not in "氏様殿君印"))
