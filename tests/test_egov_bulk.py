"""A corpus from e-Gov's bulk zip and from single files: which revision, in which order, and what bad input does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from datetime import date
from pathlib import Path

import pytest

from lawft_trl.errors import InputError
from lawft_trl.statutes.egov_bulk import build_from_files, build_from_zip, xml_files
from lawft_trl.statutes.passages import Passage, read_passages, sort_key, write_corpus
from lawft_trl.statutes.search import build_index

TEA, CUP, POT = "403AC0000000090", "132AC0000000015", "506M60000040001"
DAY = date(2026, 4, 1)
HEADER = "法令種別,法令番号,法令名,法令名読み,旧法令名,公布日,改正法令名,改正法令番号,改正法令公布日,施行日,施行日備考,法令ID,本文URL,未施行"


def law(title: str, *articles: str) -> str:
    inner = "".join(
        f'<Article Num="{number}"><ArticleTitle>第{number}条</ArticleTitle><Paragraph Num="1"><ParagraphNum/>'
        f"<ParagraphSentence><Sentence>{text}</Sentence></ParagraphSentence></Paragraph></Article>"
        for number, text in enumerate(articles, start=1)
    )
    return f"<Law><LawNum>法律第一号</LawNum><LawBody><LawTitle>{title}</LawTitle><MainProvision>{inner}</MainProvision></LawBody></Law>"


LAWS = {
    f"{TEA}_20200401_000000000000000": law("茶業法", "古い本文。"),
    f"{TEA}_20260401_507AC0000000001": law("茶業法", "今の本文。", "次の条。"),
    f"{TEA}_20270401_508AC0000000002": law("茶業法", "未来の本文。"),
    f"{CUP}_20000101_000000000000000": law("湯呑法", "湯呑。"),
    f"{POT}_20280401_000000000000000": law("急須令", "まだない。"),
}


def law_list(revisions, *, marked: str = "") -> bytes:
    rows = [HEADER]
    for revision in revisions:
        law_id, rest = revision.split("_", 1)
        mark = "○" if revision == marked else ""
        rows.append(f"法律,第一号,茶業法,ちゃぎょうほう,,,,,,,,{law_id},https://laws.e-gov.go.jp/law/{law_id}/{rest},{mark}")
    return ("\ufeff" + "\r\n".join(rows) + "\r\n").encode()


def bulk(path: Path, laws: dict[str, str] | None = None, *, more: dict[str, bytes] | None = None) -> Path:
    """A zip as e-Gov makes it, the members in the order of the dictionary."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for revision, text in (LAWS if laws is None else laws).items():
            archive.writestr(f"{revision}/{revision}.xml", text)
        for name, data in (more or {}).items():
            archive.writestr(name, data)
    return path


def texts(corpus: Path) -> list[str]:
    return [passage.text for passage in read_passages(corpus)]


def leftovers(folder: Path, *known: str) -> set[str]:
    return {path.name for path in folder.iterdir()} - set(known)


def test_one_revision_of_each_law_is_taken(tmp_path):
    zip_path = bulk(tmp_path / "all_xml.zip", more={"all_law_list.csv": law_list(LAWS)})
    manifest = build_from_zip(zip_path, tmp_path / "corpus", as_of=DAY)
    passages = list(read_passages(tmp_path / "corpus"))
    assert [p.text for p in passages] == ["湯呑。", "今の本文。", "次の条。"], "the law with the lower id first"
    assert passages == sorted(passages, key=sort_key)
    assert passages[1].law_id == TEA and passages[1].revision == f"{TEA}_20260401_507AC0000000001"
    assert {p.as_of for p in passages} == {"2026-04-01"} == {manifest["as_of"]}
    counts = {"files": 5, "laws": 2, "passages": 3, "revisions_older": 1, "revisions_future": 2, "laws_future": 1, "skipped": []}
    assert {name: manifest[name] for name in counts} == counts
    assert manifest == json.loads((tmp_path / "corpus/manifest.json").read_text())
    assert "e-Gov法令検索" in (tmp_path / "corpus/ATTRIBUTION.txt").read_text()


@pytest.mark.parametrize(("day", "text"), [("2026-03-31", "古い本文。"), ("2026-04-01", "今の本文。"), ("2027-04-01", "未来の本文。")])
def test_the_day_decides_on_the_revision(tmp_path, day, text):
    build_from_zip(bulk(tmp_path / "z.zip"), tmp_path / "corpus", as_of=date.fromisoformat(day))
    assert texts(tmp_path / "corpus")[1] == text


def test_of_two_revisions_of_one_day_the_later_amending_law_wins(tmp_path):
    laws = {f"{TEA}_20260401_{by}": law("茶業法", by) for by in ("507AC0000000009", "508AC0000000001", "506AC0000000100")}
    build_from_zip(bulk(tmp_path / "z.zip", laws), tmp_path / "corpus", as_of=DAY)
    assert texts(tmp_path / "corpus") == ["508AC0000000001"]


def test_the_order_in_the_zip_changes_nothing(tmp_path):
    orders = (LAWS, dict(reversed(LAWS.items())), dict(sorted(LAWS.items(), key=lambda pair: pair[1])))
    written = set()
    for number, laws in enumerate(orders):
        (tmp_path / str(number)).mkdir()
        build_from_zip(bulk(tmp_path / str(number) / "all_xml.zip", laws), tmp_path / str(number) / "corpus", as_of=DAY)
        written.add((tmp_path / str(number) / "corpus/passages.jsonl").read_bytes())
    assert len(written) == 1


def test_what_the_list_says_otherwise_is_noted(tmp_path):
    missing = "999AC0000000001_20200101_000000000000000"
    listed = law_list([*LAWS, missing], marked=f"{TEA}_20260401_507AC0000000001")
    manifest = build_from_zip(bulk(tmp_path / "z.zip", more={"all_law_list.csv": listed}), tmp_path / "corpus", as_of=DAY)
    assert manifest["skipped"] == [f"{missing}: listed in all_law_list.csv, but not in the zip"]
    assert manifest["marked_not_in_force"] == 1
    future = law_list(LAWS, marked=f"{TEA}_20270401_508AC0000000002")
    manifest = build_from_zip(bulk(tmp_path / "z.zip", more={"all_law_list.csv": future}), tmp_path / "c1", as_of=DAY)
    assert (manifest["skipped"], manifest["marked_not_in_force"]) == ([], 0)
    shift_jis = "法令".encode("cp932")
    manifest = build_from_zip(bulk(tmp_path / "z.zip", more={"all_law_list.csv": shift_jis}), tmp_path / "c2", as_of=DAY)
    assert len(manifest["skipped"]) == 1 and "all_law_list.csv: cannot be read and was not compared" in manifest["skipped"][0]


BOMB = "<!DOCTYPE Law [<!ENTITY a '" + "茶" * 100 + "'><!ENTITY b '" + "&a;" * 100 + "'><!ENTITY c '" + "&b;" * 100 + "'>]><Law>&c;</Law>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "declares a DTD or entities"),
        ("<Law><LawNum>", "not XML that can be read"),
        (law("茶業法", "茶" * 3_000_000), "unpacks to 9,000,"),
    ],
)
def test_a_bad_file_is_skipped_with_its_reason(tmp_path, text, reason):
    bad = f"{TEA}_20260401_507AC0000000001"
    start = time.monotonic()
    manifest = build_from_zip(bulk(tmp_path / "z.zip", LAWS | {bad: text}), tmp_path / "corpus", as_of=DAY)
    assert texts(tmp_path / "corpus") == ["湯呑。"], "and no older revision in its place"
    (line,) = manifest["skipped"]
    assert f"{bad}/{bad}.xml: " in line and reason in line
    assert time.monotonic() - start < 5


def test_damaged_and_encrypted_members_are_skipped(tmp_path):
    path = bulk(tmp_path / "z.zip")
    with zipfile.ZipFile(path) as archive:
        infos = {info.filename.split("_")[0] + info.filename[16:20]: info for info in archive.infolist()}
    data = bytearray(path.read_bytes())
    damaged = infos[TEA + "2026"]
    start = damaged.header_offset + 30 + len(damaged.filename)
    data[start + damaged.compress_size // 2] ^= 0xFF
    encrypted = infos[CUP + "2000"]
    in_directory = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02"))
    while data[in_directory + 46 : in_directory + 46 + len(encrypted.filename)] != encrypted.filename.encode():
        in_directory = data.index(b"PK\x01\x02", in_directory + 1)
    data[in_directory + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="no passage was found") as error:
        build_from_zip(path, tmp_path / "corpus", as_of=DAY)
    assert sorted(problem.split(": ", 2)[1] for problem in error.value.problems) == ["cannot be unpacked", "encrypted"]
    assert not leftovers(tmp_path, "z.zip")


def test_files_by_other_names_are_skipped_or_ignored(tmp_path):
    more = {"readme.xml": b"<x/>", f"{TEA}_20260401_507AC0000000001/pict/1.jpg": b"jpg", "notes.txt": b""}
    manifest = build_from_zip(bulk(tmp_path / "z.zip", more=more), tmp_path / "corpus", as_of=DAY)
    assert len(manifest["skipped"]) == 1 and manifest["skipped"][0].startswith("readme.xml: not named by a revision id")


def test_a_law_of_which_nothing_is_left_is_named(tmp_path):
    gone = "105DF0000000337_20200101_000000000000000"
    manifest = build_from_zip(bulk(tmp_path / "all_xml.zip", LAWS | {gone: law("旧茶法", "削除")}), tmp_path / "corpus", as_of=DAY)
    assert manifest["laws_without_text"] == [f"all_xml.zip/{gone}/{gone}.xml"]
    assert manifest["laws"] == 2


def test_what_is_no_bulk_zip_is_refused(tmp_path):
    (tmp_path / "page.zip").write_bytes(b"<html>503</html>")
    (tmp_path / "empty.zip").write_bytes(b"")
    whole = bulk(tmp_path / "whole.zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    bulk(tmp_path / "nothing.zip", {})
    bulk(tmp_path / "later.zip", {f"{POT}_20280401_000000000000000": law("急須令", "まだない。")})
    known = {path.name for path in tmp_path.iterdir()}
    for name, said in {
        "page.zip": "not a zip, or one that was not downloaded to its end .16 bytes",
        "empty.zip": "not a zip",
        "half.zip": "not a zip",
        "nothing.zip": "no XML file of a law in it",
        "later.zip": "no law in it is in force on 2026-04-01: 1 come into force later",
        "missing.zip": "no such file",
    }.items():
        with pytest.raises(InputError, match=rf"{name}: {said}"):
            build_from_zip(tmp_path / name, tmp_path / "corpus", as_of=DAY)
    with pytest.raises(InputError, match="this is a folder"):
        build_from_zip(tmp_path, tmp_path / "corpus", as_of=DAY)
    assert not leftovers(tmp_path, *known)


def test_single_files_are_read_whatever_their_names(tmp_path):
    for revision, text in LAWS.items():
        (tmp_path / "laws" / revision).mkdir(parents=True)
        (tmp_path / "laws" / revision / ("law.xml" if revision.startswith(CUP) else f"{revision}.xml")).write_text(text)
    (tmp_path / "own.xml").write_text(law("私の規程", "私の本文。"))
    (tmp_path / "broken.xml").write_text("<Law>")
    paths = [tmp_path / "own.xml", tmp_path / "laws", tmp_path / "broken.xml"]
    manifest = build_from_files(paths, tmp_path / "corpus", as_of=DAY)
    passages = list(read_passages(tmp_path / "corpus"))
    assert [(p.law_id, p.text) for p in passages] == [(CUP, "湯呑。"), (TEA, "今の本文。"), (TEA, "次の条。"), ("法律第一号", "私の本文。")]
    assert (manifest["files"], manifest["revisions_older"], manifest["revisions_future"], manifest["laws_future"]) == (7, 1, 2, 1)
    assert len(manifest["skipped"]) == 1 and manifest["skipped"][0].startswith("broken.xml: not XML")
    build_from_files(paths[::-1], tmp_path / "again", as_of=DAY)
    assert (tmp_path / "again/passages.jsonl").read_bytes() == (tmp_path / "corpus/passages.jsonl").read_bytes()
    with pytest.raises(InputError, match="laws in more than one revision: say which day") as error:
        build_from_files(paths, tmp_path / "c2")
    assert len(error.value.problems) == 1 and error.value.problems[0].startswith(TEA)
    assert build_from_files(paths[:1], tmp_path / "c3")["as_of"] == "" == next(read_passages(tmp_path / "c3")).as_of


def test_all_wrong_names_are_told_at_once(tmp_path):
    (tmp_path / "hollow").mkdir()
    bulk(tmp_path / "z.zip")
    with pytest.raises(InputError) as error:
        xml_files([tmp_path / "hollow", tmp_path / "z.zip", tmp_path / "none.xml"])
    assert [problem.split(": ", 1)[1].split(",")[0].split(" (")[0] for problem in error.value.problems] == [
        "no *.xml in this folder", "a zip", "no such file",
    ]  # fmt: skip


# Build a corpus in a process of its own, telling when the first law has been written.
BUILD = """
import sys, time
from datetime import date
from pathlib import Path
from lawft_trl.errors import InputError
from lawft_trl.statutes import egov_bulk
if "slowly" in sys.argv:
    read = egov_bulk._read_member
    def slowly(archive, info):
        print("reading", flush=True)
        time.sleep(0.2)
        return read(archive, info)
    egov_bulk._read_member = slowly
try:
    egov_bulk.build_from_zip(Path(sys.argv[1]), Path(sys.argv[2]), as_of=date(2026, 4, 1), force=True)
except InputError as error:
    print(error)
    sys.exit(2)
"""


def many(count: int) -> dict[str, str]:
    return {f"{number:03}AC0000000001_20200101_000000000000000": law(f"法{number}", *[f"本文{number}。" * 200] * 5) for number in range(count)}


def test_control_c_leaves_the_old_corpus_and_nothing_else(tmp_path):
    build_from_zip(bulk(tmp_path / "old.zip"), tmp_path / "corpus", as_of=DAY)
    before = texts(tmp_path / "corpus")
    command = [sys.executable, "-c", BUILD, bulk(tmp_path / "z.zip", many(50)), tmp_path / "corpus", "slowly"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == process.stdout.readline() == "reading\n"
    assert any(name.endswith(".unfinished") for name in leftovers(tmp_path)), "it was at work"
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert not leftovers(tmp_path, "old.zip", "z.zip", "corpus")
    assert texts(tmp_path / "corpus") == before


def test_a_full_disk_is_told_and_leaves_nothing(small_disk, tmp_path):
    zip_path = bulk(tmp_path / "z.zip", many(300))
    with pytest.raises(InputError, match="no space left on the disk of .*; nothing was written there"):
        build_from_zip(zip_path, small_disk / "corpus", as_of=DAY)
    assert not leftovers(small_disk)


@pytest.mark.parametrize("engine", ["bm25s", "tantivy"])
def test_a_full_disk_leaves_a_corpus_without_half_an_index(small_disk, engine):
    text = "".join(f"{word}の届出は、{number}日以内に行う。" for number, word in enumerate(map(chr, range(0x4E00, 0x4E00 + 12_000))))
    passages = [Passage(law_id="1", law="甲法", article=str(n), text=text[40 * n : 40 * n + 400]) for n in range(300)]
    write_corpus(passages, small_disk / "corpus", as_of="", attribution="x", sources={})
    room = shutil.disk_usage(small_disk).free
    (small_disk / "rest").write_bytes(b"x" * (room - 50_000))
    with pytest.raises(InputError, match="no space left on the disk"):
        build_index(small_disk / "corpus", engine=engine)
    assert {path.name for path in (small_disk / "corpus").iterdir()} == {"passages.jsonl", "manifest.json", "ATTRIBUTION.txt"}


def test_a_limit_on_file_size_leaves_nothing(tmp_path):
    """A stand-in where no disk can be mounted: writing fails in the middle of a file, with another error."""
    limited = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    command = [sys.executable, "-c", limited + BUILD, bulk(tmp_path / "z.zip", many(100)), tmp_path / "corpus"]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ)
    assert result.returncode == 1 and "File too large" in result.stderr
    assert not leftovers(tmp_path, "z.zip")


def test_one_law_in_two_files_is_refused(tmp_path):
    for name in ("old.xml", "new.xml"):
        (tmp_path / name).write_text(law("茶業法", f"{name}の本文。"))
    with pytest.raises(InputError, match="one law in two files") as error:
        build_from_files([tmp_path / "old.xml", tmp_path / "new.xml"], tmp_path / "corpus", as_of=DAY)
    assert error.value.problems == [f"茶業法 (法律第一号): {tmp_path / 'new.xml'} and {tmp_path / 'old.xml'}; keep one"]
    assert not leftovers(tmp_path, "old.xml", "new.xml")


def test_an_amended_law_that_begins_after_the_day_is_missing_not_new(tmp_path):
    laws = LAWS | {f"{POT}_20270101_508M60000040001": law("急須令", "改正後。")}
    del laws[f"{POT}_20280401_000000000000000"]
    manifest = build_from_zip(bulk(tmp_path / "z.zip", laws), tmp_path / "corpus", as_of=DAY)
    assert (manifest["laws_future"], manifest["laws_text_missing"]) == (0, [f"{POT}_20270101_508M60000040001"])


def test_a_zip_of_a_later_format_is_refused(tmp_path):
    path = bulk(tmp_path / "z.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 99  # "version needed to extract" of the first entry
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"z\.zip: cannot be read: zip file version 9\.9"):
        build_from_zip(path, tmp_path / "corpus", as_of=DAY)
