"""The client of e-Gov's law API against a real server on this machine that answers as the API does."""

import base64
import email.utils
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import date
from itertools import pairwise

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from local_server import serving

from lawft_trl.errors import InputError
from lawft_trl.statutes.egov_answers import not_in_force, read_answer
from lawft_trl.statutes.egov_api import EVERY, build_from_api, fetch_laws
from lawft_trl.statutes.passages import read_passages

DAY = date(2025, 4, 1)
QUICK = {"pause": 0.0, "backoff": 0.01}
LEASE, OLD, CIVIL, FUTURE = "403AC0000000090", "315AC0000000049", "129AC0000000089", "507AC0000000001"
TITLES = {LEASE: "借地借家法", OLD: "旧借家法", CIVIL: "民法", FUTURE: "新法"}
NUMBERS = {LEASE: "平成三年法律第九十号", OLD: "大正十年法律第五十号", CIVIL: "明治二十九年法律第八十九号", FUTURE: "令和七年法律第一号"}


def revision_info(law_id, **changed):
    enforced = "2026-04-01" if law_id == FUTURE else "2023-06-14"
    return {
        "law_revision_id": f"{law_id}_{enforced.replace('-', '')}_505AC0000000053",
        "law_title": TITLES[law_id],
        "abbrev": "貸借法,借借法" if law_id == LEASE else None,
        "amendment_enforcement_date": enforced,
        "repeal_status": "Repeal" if law_id == OLD else "None",
        "repeal_date": "1992-08-01" if law_id == OLD else None,
        "remain_in_force": False,
        "current_revision_status": "PreviousEnforced",
    } | changed


def law_xml(law_id):
    return (
        f'<Law Era="Heisei" Lang="ja" LawType="Act" Num="090" Year="03"><LawNum>{NUMBERS[law_id]}</LawNum><LawBody>'
        f"<LawTitle>{TITLES[law_id]}</LawTitle><MainProvision>"
        '<Article Num="1"><ArticleCaption>（趣旨）</ArticleCaption><ArticleTitle>第一条</ArticleTitle><Paragraph Num="1"><ParagraphNum/>'
        f"<ParagraphSentence><Sentence>{TITLES[law_id]}の趣旨を定める。</Sentence></ParagraphSentence></Paragraph></Article>"
        "</MainProvision></LawBody></Law>"
    )


def envelope(law_id, full_text=None, **changed):
    revision = "".join(f"<{key}>{'' if value is None else value}</{key}>" for key, value in revision_info(law_id, **changed).items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><law_data_response><attached_files_info/><law_info><law_id>{law_id}</law_id></law_info>'
        f"<revision_info>{revision}</revision_info><law_full_text>{full_text or law_xml(law_id)}</law_full_text></law_data_response>"
    ).encode()


def row(law_id):
    return {"law_info": {"law_id": law_id, "law_num": NUMBERS[law_id]}, "revision_info": revision_info(law_id), "current_revision_info": None}


def rows_page(rows, query):
    offset, limit = int(query["offset"]), int(query["limit"])
    following = offset + limit if offset + limit < len(rows) else None
    page = {"total_count": len(rows), "next_offset": following, "laws": rows[offset : offset + limit]}
    return 200, {"Content-Type": "application/json"}, json.dumps(page, ensure_ascii=False).encode()


def egov(path, query):
    """What the API answers for the four laws above; titles, abbreviations and numbers are found by a part of them."""
    if path == "/laws":
        found = [
            row(law_id)
            for law_id in TITLES
            if query.get("law_title", "") in TITLES[law_id] + "," + (revision_info(law_id)["abbrev"] or "")
            and query.get("law_num", "") in NUMBERS[law_id]
            and query.get("category_cd", "046") == "046"
        ]
        return rows_page(found, query)
    law_id = path.removeprefix("/law_data/")
    if law_id not in TITLES:
        return 404, {}, json.dumps({"code": "404001", "message": "指定のパラメータで取得できるデータは存在しません。"}).encode()
    return 200, {"Content-Type": "application/xml"}, envelope(law_id)


def failing(times, status=500, headers=None, body=b"", then=egov):
    """Fails so many times on every path, and then answers."""
    seen = Counter()

    def answer(path, query):
        seen[path] += 1
        return (status, headers or {}, body) if seen[path] <= times else then(path, query)

    return answer


# --- what is asked, and how


def test_a_law_is_asked_for_as_the_api_documents_it(tmp_path):
    with serving(egov) as server:
        files, skipped = fetch_laws([LEASE], tmp_path / "cache", as_of=DAY, base_url=server.url, **QUICK)
    assert (files, skipped) == ([tmp_path / "cache" / f"{LEASE}.2025-04-01.xml"], [])
    assert files[0].read_bytes() == envelope(LEASE)
    (request,) = server.requests
    assert request.path == f"/law_data/{LEASE}"
    assert request.query == {
        "asof": "2025-04-01",
        "law_full_text_format": "xml",
        "response_format": "xml",
        "omit_amendment_suppl_provision": "true",
    }
    assert request.headers["User-Agent"].startswith("lawft-trl/")
    assert request.headers["Accept-Encoding"] == "gzip"


def test_a_second_run_sends_nothing(tmp_path):
    asked = {"laws": [LEASE, "民法", "大正十年法律第五十号"], "categories": ["046"]}
    with serving(egov) as server:
        first = fetch_laws(folder=tmp_path, as_of=DAY, base_url=server.url, **asked, **QUICK)
        count = len(server.requests)
        assert fetch_laws(folder=tmp_path, as_of=DAY, base_url=server.url, **asked, **QUICK) == first
        assert len(server.requests) == count
        fetch_laws(folder=tmp_path, as_of=date(2025, 4, 2), base_url=server.url, **asked, **QUICK)
        assert len(server.requests) == 2 * count, "another day is another law"


def test_one_connection_and_no_faster_than_allowed(tmp_path):
    with serving(failing(1)) as server:
        fetch_laws([LEASE, CIVIL, "旧借家法"], tmp_path, as_of=DAY, base_url=server.url, pause=0.15, backoff=0.01)
    times = [request.time for request in server.requests]
    assert len(times) == 8  # three texts and a look-up, each tried twice
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) > 0.13, "retries keep the distance too"
    assert len({request.connection for request in server.requests}) == 1


def test_gzip_is_unpacked(tmp_path):
    def packed(path, query):
        status, headers, body = egov(path, query)
        return status, headers | {"Content-Encoding": "gzip"}, gzip.compress(body)

    with serving(packed) as server:
        (file,), _ = fetch_laws(["民法"], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert file.read_bytes() == envelope(CIVIL)


# --- names


@pytest.mark.parametrize("name", ["借地借家法", " 借地 借家法", "貸借法", "平成三年法律第九十号", LEASE, "４０３ＡＣ００００００００９０"])
def test_a_law_has_many_names(name, tmp_path):
    with serving(egov) as server:
        (file,), _ = fetch_laws([name], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert file.name == f"{LEASE}.2025-04-01.xml"


def test_a_part_of_a_title_is_not_a_title(tmp_path):
    with serving(egov) as server, pytest.raises(InputError) as caught:
        fetch_laws(["借家法", "借地借家方", "全く別のもの", CIVIL], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    part, typo, unknown = caught.value.problems
    assert part.startswith("借家法: no law on e-Gov has this id, number (in kanji) or exact title; near it: ")
    assert f"借地借家法 ({LEASE})" in part and f"旧借家法 ({OLD})" in part
    assert typo.endswith(f"near it: 借地借家法 ({LEASE})")
    assert unknown.endswith("look for its id at https://laws.e-gov.go.jp/")
    assert [path.name for path in tmp_path.glob("*.xml")] == [f"{CIVIL}.2025-04-01.xml"], "what is known was fetched"


def test_of_laws_with_one_title_the_one_in_force_is_taken(tmp_path, monkeypatch):
    monkeypatch.setitem(TITLES, OLD, "借地借家法")
    with serving(egov) as server:
        (file,), _ = fetch_laws(["借地借家法"], tmp_path / "1", as_of=DAY, base_url=server.url, **QUICK)
        assert file.name.startswith(LEASE)
        monkeypatch.setitem(TITLES, CIVIL, "借地借家法")
        with pytest.raises(InputError, match="2 laws are called this") as caught:
            fetch_laws(["借地借家法"], tmp_path / "2", as_of=DAY, base_url=server.url, **QUICK)
    assert LEASE in str(caught.value) and CIVIL in str(caught.value) and OLD not in str(caught.value)


def test_two_titles_too_long_for_a_file_name_are_two_look_ups(tmp_path):
    titles = ["あ" * 200 + "法", "あ" * 200 + "令"]
    with serving(egov) as server, pytest.raises(InputError):
        fetch_laws(titles, tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert {request.query["law_title"] for request in server.requests} >= set(titles)


# --- lists


def test_a_category_is_listed_page_by_page(tmp_path, monkeypatch):
    from lawft_trl.statutes import egov_api

    monkeypatch.setattr(egov_api, "_PAGE", 3)
    with serving(egov) as server:
        files, skipped = fetch_laws([], tmp_path, as_of=DAY, categories=["046"], base_url=server.url, **QUICK)
        pages = [request.query for request in server.requests if request.path == "/laws"]
    assert [file.name[:15] for file in files] == [LEASE, CIVIL]
    assert skipped == [
        f"旧借家法 ({OLD}): not in force on 2025-04-01: Repeal on 1992-08-01",
        f"新法 ({FUTURE}): not in force on 2025-04-01: it comes into force on 2026-04-01",
    ]
    assert [page["offset"] for page in pages] == ["0", "3"]
    assert all(page["category_cd"] == "046" and page["asof"] == "2025-04-01" and page["limit"] == "3" for page in pages)


def test_every_law_is_a_list_without_a_category(tmp_path):
    with serving(egov) as server:
        files, _ = fetch_laws([CIVIL], tmp_path, as_of=DAY, categories=[EVERY], base_url=server.url, **QUICK)
        assert "category_cd" not in server.requests[0].query
    assert sorted(file.name[:15] for file in files) == [CIVIL, LEASE], "a law named twice is fetched once"


def test_an_unknown_category_is_named(tmp_path):
    with serving(egov) as server, pytest.raises(InputError, match=r"category '46': no law has it; .*046 is 民事"):
        fetch_laws([], tmp_path, as_of=DAY, categories=["46"], base_url=server.url, **QUICK)


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"{}", b"[]", b'{"laws": [{}]}', b'{"laws": [], "next_offset": -5}', b'{"laws": null}', "民".encode("cp932")],
)
def test_a_list_that_is_none_is_refused_and_not_kept(body, tmp_path):
    with serving(lambda *_: (200, {}, body)) as server, pytest.raises(InputError, match=r"not a list of laws|not UTF-8"):
        fetch_laws([], tmp_path, as_of=DAY, categories=["046"], base_url=server.url, **QUICK)
    assert list(tmp_path.iterdir()) == []


# --- failures


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_trouble_is_tried_again(status, tmp_path):
    with serving(failing(2, status)) as server:
        fetch_laws([LEASE], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert len(server.requests) == 3


def test_waits_double(tmp_path):
    with serving(failing(3)) as server:
        fetch_laws([LEASE], tmp_path, as_of=DAY, base_url=server.url, pause=0.0, backoff=0.1)
    times = [request.time for request in server.requests]
    gaps = [after - before for before, after in pairwise(times)]
    for gap, expected in zip(gaps, (0.1, 0.2, 0.4), strict=True):
        assert gap >= expected
    assert times[-1] - times[0] < 5


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(form, tmp_path):
    """A date counts whole seconds: two from now is more than one away."""
    seen = []

    def answer(path, query):
        seen.append(time.monotonic())
        if len(seen) > 1:
            return egov(path, query)
        return 429, {"Retry-After": "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)}, b""

    with serving(answer) as server:
        fetch_laws([LEASE], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert 0.9 < seen[1] - seen[0] < 5


def test_a_server_that_asks_for_an_hour_is_left_alone(tmp_path):
    with serving(lambda *_: (503, {"Retry-After": "3600"}, b"maintenance")) as server, pytest.raises(InputError) as caught:
        fetch_laws([LEASE], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert len(server.requests) == 1
    assert "HTTP 503: maintenance; it asks to wait 3600 s" in str(caught.value)


def test_what_is_not_there_is_reported_with_the_words_of_the_api_and_not_tried_again(tmp_path):
    missing = ["999AC0000000001", "999AC0000000002"]
    with serving(egov) as server, pytest.raises(InputError) as caught:
        fetch_laws([missing[0], LEASE, missing[1]], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert len(server.requests) == 3
    assert caught.value.heading == f"{server.url}: 2 problem(s); 1 of 3 laws found are kept in {tmp_path} and not asked for again"
    for law_id, problem in zip(missing, caught.value.problems, strict=True):
        assert problem.startswith(f"{law_id}: HTTP 404: 404001 指定のパラメータで取得できるデータは存在しません。 ({server.url}/law_data/{law_id}?")


def test_five_tries_and_then_the_next_law(tmp_path):
    def answer(path, query):
        return (500, {}, json.dumps({"code": "500001", "message": "異常"}).encode()) if LEASE in path else egov(path, query)

    with serving(answer) as server, pytest.raises(InputError, match=r"HTTP 500: 500001 異常 \(5 tries\)"):
        fetch_laws([LEASE, CIVIL], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert Counter(request.path for request in server.requests) == {f"/law_data/{LEASE}": 5, f"/law_data/{CIVIL}": 1}
    assert [path.name for path in tmp_path.iterdir()] == [f"{CIVIL}.2025-04-01.xml"]


def test_a_server_that_is_down_is_given_up(tmp_path):
    many = [f"400AC00000000{number:02}" for number in range(20)]
    with serving(lambda *_: (502, {}, b"")) as server, pytest.raises(InputError) as caught:
        fetch_laws(many, tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert len(server.requests) == 15
    assert caught.value.problems[-1] == "stopped after 3 failures in a row; the rest was not asked for"


def test_nobody_listens(tmp_path):
    with serving(egov) as server:
        pass
    with pytest.raises(InputError, match="ConnectError"):
        fetch_laws([LEASE], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    with pytest.raises(InputError, match=r"no list of laws was to be had\n.*ConnectError"):
        fetch_laws(["民法"], tmp_path, as_of=DAY, base_url=server.url, **QUICK)


def test_a_silent_server_times_out_and_is_asked_again(tmp_path):
    ended, seen = threading.Event(), Counter()

    def answer(path, query):
        seen[path] += 1
        if seen[path] == 1:
            ended.wait(10)
        return egov(path, query)

    with serving(answer) as server:
        fetch_laws([LEASE], tmp_path, as_of=DAY, base_url=server.url, timeout=0.3, **QUICK)
        ended.set()
        assert len(server.requests) == 2


def test_a_broken_connection_is_tried_again(tmp_path):
    """The body ends before the length that was announced."""
    with serving(failing(1, 200, {"Content-Length": "1000", "Connection": "close"}, b"<law_data")) as server:
        (file,), _ = fetch_laws([LEASE], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert file.read_bytes() == envelope(LEASE)
    assert len(server.requests) == 2


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><law_data_response><law_full_text>&b;</law_full_text></law_data_response>'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<!DOCTYPE html><html><body>maintenance</body></html>", "DTDForbidden"),
        (BOMB, "DTDForbidden"),
        (b"<html><body>maintenance</body></html>", "found <html>"),
        (b"", "not the XML of a law"),
        (envelope(LEASE)[:-30], "not the XML of a law"),
        (envelope(CIVIL), f"expected the Law {LEASE}, found <Law> of law_id '{CIVIL}'"),
        (envelope(LEASE, full_text="これは本文でない"), "not the XML of a law"),
        (envelope(LEASE, full_text=base64.b64encode(b"<html/>").decode()), "found <html>"),
        (envelope(LEASE, full_text=base64.b64encode(BOMB).decode()), "EntitiesForbidden|DTDForbidden"),
        ("<law_data_response>民".encode("cp932"), "not UTF-8"),
    ],
)
def test_anything_but_a_law_is_refused_and_not_kept(body, said, tmp_path):
    with serving(lambda *_: (200, {}, body)) as server, pytest.raises(InputError, match=said):
        fetch_laws([LEASE], tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_a_cache_to_go_on_from(tmp_path):
    """In a process of its own, interrupted while the third law is under way."""
    reached, ended = threading.Event(), threading.Event()
    law_ids = [LEASE, OLD, CIVIL, FUTURE]

    def answer(path, query):
        if CIVIL in path and not ended.is_set():
            reached.set()
            ended.wait(20)
        return egov(path, query)

    code = (
        "import sys, datetime, pathlib; from lawft_trl.statutes.egov_api import fetch_laws\n"
        "fetch_laws(sys.argv[3:], pathlib.Path(sys.argv[2]), as_of=datetime.date(2025, 4, 1), base_url=sys.argv[1], pause=0.0)"
    )
    with serving(answer) as server:
        process = subprocess.Popen([sys.executable, "-c", code, server.url, str(tmp_path), *law_ids], cwd=ROOT, stderr=subprocess.PIPE)
        assert reached.wait(20)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        ended.set()
        assert b"KeyboardInterrupt" in errors
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{law_id}.2025-04-01.xml" for law_id in (LEASE, OLD))
        files, _ = fetch_laws(law_ids, tmp_path, as_of=DAY, base_url=server.url, **QUICK)
    assert [file.name[:15] for file in files] == law_ids
    assert Counter(request.path[-15:] for request in server.requests) == {LEASE: 1, OLD: 1, CIVIL: 2, FUTURE: 1}


def test_a_cache_that_cannot_be_written_stops_at_once_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands in for a full disk: the write fails half-way, in the same call."""
    code = (
        "import sys, datetime, pathlib, resource; from lawft_trl.statutes.egov_api import fetch_laws\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "fetch_laws(sys.argv[3:], pathlib.Path(sys.argv[2]), as_of=datetime.date(2025, 4, 1), base_url=sys.argv[1], pause=0.0)"
    )
    with serving(egov) as server:
        command = [sys.executable, "-c", code, server.url, str(tmp_path / "cache"), LEASE, CIVIL]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert len(server.requests) == 1
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=f"{tmp_path / 'file'}.*cannot be written"):
            fetch_laws([LEASE], tmp_path / "file", as_of=DAY, base_url=server.url, **QUICK)
    assert f"{LEASE}.2025-04-01.xml: cannot be written: File too large" in result.stderr and "--cache" in result.stderr
    assert list((tmp_path / "cache").iterdir()) == []


# --- what the answers mean


def test_base64_is_the_same_law():
    plain = read_answer(envelope(LEASE).decode(), where="x", as_of=DAY)
    encoded = base64.encodebytes(('<?xml version="1.0" encoding="UTF-8"?>' + law_xml(LEASE)).encode()).decode()
    assert read_answer(envelope(LEASE, full_text=encoded).decode(), where="x", as_of=DAY) == plain
    assert (plain.law_id, plain.law, plain.revision, plain.not_in_force) == (LEASE, "借地借家法", f"{LEASE}_20230614_505AC0000000053", "")
    assert plain.xml.decode() == law_xml(LEASE).replace("<ParagraphNum/>", "<ParagraphNum />")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"current_revision_status": "Repeal"}, ""),  # today's word, not the day's
        ({"amendment_enforcement_date": "2025-04-01"}, ""),
        ({"amendment_enforcement_date": "2025-04-02"}, "not in force on 2025-04-01: it comes into force on 2025-04-02"),
        ({"amendment_enforcement_date": None, "law_revision_id": f"{LEASE}_20990101_1"}, "not in force on 2025-04-01: it comes into force on 2099-01-01"),
        ({"amendment_enforcement_date": "未定", "law_revision_id": None}, ""),
        ({"repeal_status": "Repeal"}, "not in force on 2025-04-01: Repeal"),
        ({"repeal_status": "Expire", "repeal_date": "2025-04-01"}, "not in force on 2025-04-01: Expire on 2025-04-01"),
        ({"repeal_status": "Repeal", "repeal_date": "2025-04-02"}, ""),
        ({"repeal_status": "Repeal", "repeal_date": "2020-01-01", "remain_in_force": True}, ""),
        ({"repeal_status": None}, ""),
        ({"repeal_status": ""}, ""),
    ],
)
def test_in_force_on_the_day(changed, reason):
    assert not_in_force(revision_info(LEASE, **changed), DAY) == reason
    assert read_answer(envelope(LEASE, **changed).decode(), where="x", as_of=DAY).not_in_force == reason


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(revision_info(LEASE))), st.none() | st.booleans() | st.text(max_size=12)))
def test_odd_revision_info_never_breaks(info):
    if isinstance(info.get("law_revision_id"), bool):
        info["law_revision_id"] = None
    assert isinstance(not_in_force(info, DAY), str)


# --- the corpus


def test_a_corpus_from_the_api(tmp_path):
    with serving(egov) as server:
        manifest = build_from_api(
            ["民法", LEASE, OLD], tmp_path / "out", as_of=DAY, cache=tmp_path / "cache", base_url=server.url, **QUICK
        )
    passages = list(read_passages(tmp_path / "out"))
    assert [(passage.key, passage.text) for passage in passages] == [
        (f"{CIVIL}/main/1/{passages[0].paragraph}", "民法の趣旨を定める。"),
        (f"{LEASE}/main/1/{passages[1].paragraph}", "借地借家法の趣旨を定める。"),
    ]
    assert {(passage.as_of, passage.revision[15:]) for passage in passages} == {("2025-04-01", "_20230614_505AC0000000053")}
    assert (manifest["laws"], manifest["passages"], manifest["as_of"]) == (2, 2, "2025-04-01")
    assert manifest["asked"] == ["民法", LEASE, OLD]
    assert manifest["skipped"] == [f"旧借家法 ({OLD}): not in force on 2025-04-01: Repeal on 1992-08-01"]
    assert "e-Gov法令検索" in (tmp_path / "out" / "ATTRIBUTION.txt").read_text(encoding="utf-8")


def test_an_existing_corpus_is_refused_before_anything_is_asked(tmp_path):
    with serving(egov) as server:
        build_from_api([LEASE], tmp_path / "out", as_of=DAY, cache=tmp_path / "cache", base_url=server.url, **QUICK)
        with pytest.raises(InputError, match="--force"):
            build_from_api([CIVIL], tmp_path / "out", as_of=DAY, cache=tmp_path / "cache", base_url=server.url, **QUICK)
        assert len(server.requests) == 1
        build_from_api([CIVIL], tmp_path / "out", as_of=DAY, cache=tmp_path / "cache", force=True, base_url=server.url, **QUICK)
    assert [passage.law for passage in read_passages(tmp_path / "out")] == ["民法"]


def test_nothing_in_force_makes_no_corpus(tmp_path):
    with serving(egov) as server, pytest.raises(InputError, match="Repeal on 1992-08-01"):
        build_from_api([OLD], tmp_path / "out", as_of=DAY, cache=tmp_path / "cache", base_url=server.url, **QUICK)
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_in_the_cache_says_what_to_do(tmp_path):
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / f"{LEASE}.2025-04-01.xml"
    path.write_text("<law_data_resp")
    with serving(egov) as server, pytest.raises(InputError, match=r"delete it to fetch it again") as caught:
        build_from_api([LEASE], tmp_path / "out", as_of=DAY, cache=tmp_path / "cache", base_url=server.url, **QUICK)
    assert str(path) in str(caught.value)
    assert os.listdir(tmp_path) == ["cache"]


def test_a_kept_answer_or_list_that_is_damaged_is_named(tmp_path):
    with serving(egov) as server:
        options = {"as_of": DAY, "cache": tmp_path / "cache", "base_url": server.url, **QUICK}
        build_from_api(["借地借家法"], tmp_path / "out", **options)
        kept = [tmp_path / "cache" / f"{LEASE}.2025-04-01.xml", *(tmp_path / "cache").glob("laws-*.json")]
        assert len(kept) == 2
        for path in kept:
            whole = path.read_bytes()
            for damage in (b"\xff\xfe", b"{"):
                path.write_bytes(damage)
                with pytest.raises(InputError) as error:
                    build_from_api(["借地借家法"], tmp_path / "again", **options)
                assert str(path) in str(error.value) and "delete it to fetch it again" in str(error.value)
            path.write_bytes(whole)
