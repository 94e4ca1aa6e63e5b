"""`lawft statutes`: every source becomes a corpus, what was left out is said, and bad input is named with its mend."""

import json
import zipfile
from datetime import date, timedelta
from functools import partial

import pytest
from conftest import run_lawft
from local_server import serving
from test_egov_api import CIVIL, LEASE, OLD, egov, law_xml

from lawft_trl.cli import main
from lawft_trl.data import lawqa_download
from lawft_trl.statutes.passages import read_manifest, read_passages

TEXT = "## 架空法\n### 第1条（目的）\n#### 第1項\nこの法律は、試験のためにある。\n#### 第2項\n前項の試験は、毎日行う。\n"


def run(capsys, *arguments) -> tuple[int, str, str]:
    """The exit code and what was printed to stdout and stderr; argparse's way out counts as one."""
    try:
        code = main(["statutes", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def law_zip(path, *revisions):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for revision in revisions:
            archive.writestr(f"{revision}/{revision}.xml", '<?xml version="1.0" encoding="UTF-8"?>' + law_xml(revision[:15]))
    return path


def test_files(tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text(TEXT, encoding="utf-8")
    (tmp_path / "texts" / "note.pdf").write_bytes(b"%PDF")
    plain = tmp_path / "plain.txt"
    plain.write_text("第一条　これは、別の規程である。\n", encoding="utf-8")
    out = tmp_path / "out"
    code, said, _ = run(capsys, "files", tmp_path / "texts", plain, "--law", "別規程", "--as-of", "2025-04-01", "--out", out)
    assert code == 0
    assert said.splitlines() == [
        "3 passages of 2 laws, law as of 2025-04-01",
        f"{out}: passages.jsonl, manifest.json, ATTRIBUTION.txt; next: lawft statutes index {out}",
    ]
    assert [(p.law, p.article, p.paragraph, p.as_of) for p in read_passages(out)] == [
        ("別規程", "1", "", "2025-04-01"),
        ("架空法", "1", "1", "2025-04-01"),
        ("架空法", "1", "2", "2025-04-01"),
    ]
    assert read_manifest(out)["files"] == ["a.md", "plain.txt"]
    assert read_manifest(out)["attribution"] == "From a.md, plain.txt."


def test_nothing_is_overwritten_without_force(tmp_path, capsys):
    file = tmp_path / "a.md"
    file.write_text(TEXT, encoding="utf-8")
    assert run(capsys, "files", file, "--out", tmp_path / "out")[0] == 0
    before = (tmp_path / "out" / "passages.jsonl").read_bytes()
    file.write_text(TEXT.replace("毎日", "毎週"), encoding="utf-8")
    code, _, error = run(capsys, "files", file, "--out", tmp_path / "out")
    assert code == 2 and "--force" in error
    assert (tmp_path / "out" / "passages.jsonl").read_bytes() == before
    assert run(capsys, "files", file, "--out", tmp_path / "out", "--force")[0] == 0
    assert "毎週" in (tmp_path / "out" / "passages.jsonl").read_text(encoding="utf-8")
    assert "law as of a day not stated" in run(capsys, "files", file, "--out", tmp_path / "out", "--force")[1]


def test_what_goes_with_a_replaced_corpus_is_said(tmp_path, capsys):
    (tmp_path / "a.md").write_text(TEXT, encoding="utf-8")
    make = ("files", tmp_path / "a.md", "--out", tmp_path / "out", "--force")
    assert "removes" not in run(capsys, *make)[1]
    assert run(capsys, "index", tmp_path / "out")[0] == 0
    assert f"{tmp_path / 'out'}: replacing the corpus removes index, to be made again afterwards" in run(capsys, *make)[1]
    assert not (tmp_path / "out" / "index").exists()


def test_a_zip_is_led_to_its_command(tmp_path, capsys):
    file = law_zip(tmp_path / "x.zip", f"{LEASE}_20200401_1")
    for source in ("files", "xml"):
        code, _, error = run(capsys, source, file, "--out", tmp_path / "out")
        assert code == 2 and f"lawft statutes zip {file} --as-of YYYY-MM-DD" in error and "iconv" not in error


def test_amending_provisions_are_taken_when_asked(tmp_path, capsys):
    provision = '<SupplProvision AmendLawNum="令和七年法律第二号"><Paragraph Num="1"><ParagraphSentence><Sentence>改正附則。</Sentence></ParagraphSentence></Paragraph></SupplProvision>'
    text = law_xml(LEASE).replace("</MainProvision>", f"</MainProvision>{provision}")
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"{LEASE}_20200401_1.xml", text)
    for arguments in (("xml", tmp_path / "a.xml"), ("zip", tmp_path / "a.zip", "--as-of", "2025-04-01")):
        for more, count in (((), 1), (("--amending",), 2)):
            assert run(capsys, *arguments, *more, "--out", tmp_path / "out", "--force")[1].startswith(f"{count} passages of 1 laws")


def test_missing_and_empty_inputs_are_named(tmp_path, capsys):
    code, _, error = run(capsys, "files", tmp_path / "missing.md", "--out", tmp_path / "out")
    assert code == 2 and f"{tmp_path / 'missing.md'}: no such file" in error
    (tmp_path / "empty").mkdir()
    code, _, error = run(capsys, "files", tmp_path / "empty", "--out", tmp_path / "out")
    assert code == 2 and f"{tmp_path / 'empty'}: no .md or .txt file in this folder" in error
    code, _, error = run(capsys, "zip", tmp_path / "all.zip", "--as-of", "2025-04-01")
    assert code == 2 and "no such file" in error
    assert not (tmp_path / "out").exists()


def test_xml_files(tmp_path, capsys):
    (tmp_path / f"{LEASE}_20230614_505AC0000000053.xml").write_text(law_xml(LEASE), encoding="utf-8")
    (tmp_path / "broken.xml").write_text("<Law>", encoding="utf-8")
    code, said, _ = run(capsys, "xml", tmp_path, "--as-of", "2025-04-01", "--out", tmp_path / "out")
    assert code == 0
    assert said.startswith("1 passages of 1 laws, law as of 2025-04-01\nskipped: 1:\n  - ") and "broken.xml" in said
    assert [passage.text for passage in read_passages(tmp_path / "out")] == ["借地借家法の趣旨を定める。"]


def test_the_bulk_zip_on_a_day(tmp_path, capsys):
    revisions = [f"{LEASE}_20200401_1", f"{LEASE}_20230614_2", f"{LEASE}_20260401_3", f"{CIVIL}_20300101_000000000000000", f"{OLD}_20260401_2"]
    file = law_zip(tmp_path / "some_laws.zip", *revisions)
    code, said, _ = run(capsys, "zip", file, "--as-of", "2025-04-01", "--out", tmp_path / "out")
    assert code == 0
    assert "left out: 1 earlier revisions, 3 revisions to come, 1 laws not yet in force" in said
    assert "WARNING: 1 laws are NOT in this corpus that may have been in force on 2025-04-01" in said and f"{OLD}_20260401_2" in said
    (passage,) = read_passages(tmp_path / "out")
    assert (passage.revision, passage.as_of) == (f"{LEASE}_20230614_2", "2025-04-01")
    assert run(capsys, "zip", file, "--out", tmp_path / "out")[0] == 2, "the zip needs a day"


def test_the_default_folder_is_named_after_the_source(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    law_zip(tmp_path / "some_laws.zip", f"{LEASE}_20200401_1")
    assert run(capsys, "zip", "some_laws.zip", "--as-of", "2025-04-01")[0] == 0
    assert read_manifest(tmp_path / "statutes" / "some_laws")["laws"] == 1


def test_fetch(tmp_path, capsys):
    with serving(egov) as server:
        arguments = ["fetch", "借地借家法", CIVIL, OLD, "--as-of", "2025-04-01", "--cache", tmp_path / "cache", "--api", server.url]
        code, said, _ = run(capsys, *arguments, "--out", tmp_path / "out")
        count = len(server.requests)
        assert run(capsys, *arguments, "--out", tmp_path / "again")[0] == 0
        assert len(server.requests) == count == 4
    assert code == 0
    assert said.startswith("2 passages of 2 laws, law as of 2025-04-01\nskipped: 1:\n  - 旧借家法")
    again, first = (tmp_path / name / "passages.jsonl" for name in ("again", "out"))
    assert again.read_bytes() == first.read_bytes()


def test_fetch_takes_the_law_of_today_in_japan_and_says_so(tmp_path, capsys):
    from lawft_trl.commands.statutes import _today

    with serving(egov) as server:
        code, said, _ = run(capsys, "fetch", CIVIL, "--cache", tmp_path / "c", "--api", server.url, "--out", tmp_path / "out")
    assert code == 0
    assert f"law as of {_today()}" in said
    assert server.requests[0].query["asof"] == _today().isoformat()
    assert abs(_today() - date.today()) <= timedelta(days=1)


def test_fetch_reports_every_law_that_is_missing(tmp_path, capsys):
    with serving(egov) as server:
        arguments = ["借地借家方", "999AC0000000001", "--cache", tmp_path / "c", "--api", server.url, "--out", tmp_path / "out"]
        code, _, error = run(capsys, "fetch", *arguments)
    assert code == 2
    assert f"near it: 借地借家法 ({LEASE})" in error and "404001" in error
    assert not (tmp_path / "out").exists()


def test_fetch_needs_a_law(capsys):
    code, _, error = run(capsys, "fetch")
    assert code == 2 and "which laws?" in error and "--category 046" in error


@pytest.mark.parametrize("day", ["2025/04/01", "20250401", "2025-4-1", "2025-02-30", "令和7年4月1日", "２０２５-04-01", "2025-W14-2", ""])
@pytest.mark.parametrize("source", ["fetch", "zip", "xml", "files"])
def test_a_day_has_one_form(source, day, capsys):
    code, _, error = run(capsys, source, "x", "--as-of", day)
    assert code == 2
    assert f"{day!r} is no date; write year, month and day as in 2025-04-01" in error


@pytest.mark.parametrize("source", ["fetch", "files", "xml"])
def test_a_day_to_come_is_refused_where_the_law_may_still_change(source, tmp_path, capsys):
    code, _, error = run(capsys, source, "x", "--as-of", "2999-01-01", "--out", tmp_path / "out")
    assert code == 2
    assert "--as-of 2999-01-01: that day is to come" in error and "or an earlier day" in error


def test_lawqa_from_a_folder(lawqa_dir, tmp_path, capsys):
    code, said, _ = run(capsys, "lawqa", "--from", lawqa_dir, "--out", tmp_path / "out")
    assert code == 0
    manifest = read_manifest(tmp_path / "out")
    assert said.startswith(f"{manifest['passages']:,} passages of {manifest['laws']:,} laws, law as of a day not stated\n")
    assert manifest["contexts"] == 140 and manifest["source"] == "selection.json"
    passages = list(read_passages(tmp_path / "out"))
    assert {p.law_id for p in passages if p.law == "借地借家法"} == {LEASE}, "ids come from law_list.json"
    questions = json.loads((lawqa_dir / "data" / "selection.json").read_text(encoding="utf-8"))["samples"]
    text = (tmp_path / "out" / "passages.jsonl").read_text(encoding="utf-8")
    assert not [q["ファイル名"] for q in questions if q["問題文"] in text or q["選択肢"] in text], "no question leaks into the corpus"


def test_lawqa_is_downloaded_where_no_folder_is_given(lawqa_dir, tmp_path, capsys, monkeypatch):
    """The real files under their real commits and hashes, from a server on this machine."""
    paths = {f"/{commit}/{name}": lawqa_dir / name for name, (commit, _) in lawqa_download.FILES.items()}
    monkeypatch.delenv("LAWFT_LAWQA_DIR")
    with serving(lambda path, _: (200, {}, paths[path].read_bytes())) as server:
        download = partial(lawqa_download.download_lawqa, tmp_path / "cache", base_url=server.url)
        monkeypatch.setattr(lawqa_download, "download_lawqa", download)
        assert run(capsys, "lawqa", "--out", tmp_path / "downloaded")[0] == 0
        assert len(server.requests) == len(paths)
    assert run(capsys, "lawqa", "--from", lawqa_dir, "--out", tmp_path / "given")[0] == 0
    downloaded, given = (tmp_path / name / "passages.jsonl" for name in ("downloaded", "given"))
    assert downloaded.read_bytes() == given.read_bytes()


def test_a_folder_without_lawqa_is_named(tmp_path, capsys):
    code, _, error = run(capsys, "lawqa", "--from", tmp_path, "--out", tmp_path / "out")
    assert code == 2 and "no selection.json" in error


def test_help_lists_the_sources():
    said = run_lawft("statutes", "--help", check=True).stdout
    for source in ("lawqa", "files", "xml", "zip", "fetch", "index", "search", "eval"):
        assert f"\n    {source} " in said, source
