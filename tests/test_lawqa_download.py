"""lawqa_jp from a real server on this machine: only the expected bytes come in, and every fault is named with its mend."""

import hashlib

import pytest
from local_server import serving

from lawft_trl.data.lawqa_download import FILES, download_lawqa
from lawft_trl.errors import InputError
from lawft_trl.text_files import file_sha256

CONTENT = {"data/selection.json": b'{"samples": []}\n', "data/law_list.json": b"[]\n"}


def pinned(content=CONTENT):
    return {name: (f"commit{number}", hashlib.sha256(body).hexdigest()) for number, (name, body) in enumerate(content.items())}


def repository(content=CONTENT):
    paths = {f"/{commit}/{name}": content[name] for name, (commit, _) in pinned().items() if name in content}
    return serving(lambda path, _: (200, {}, paths[path]) if path in paths else (404, {}, b"404: Not Found"))


def test_the_files_come_once_and_the_licence_stands_beside_them(tmp_path):
    with repository() as server:
        folder = download_lawqa(tmp_path / "lawqa", base_url=server.url, files=pinned())
        assert folder == tmp_path / "lawqa"
        assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
        assert [request.path for request in server.requests] == ["/commit0/data/selection.json", "/commit1/data/law_list.json"]
        download_lawqa(tmp_path / "lawqa", base_url=server.url, files=pinned())
        assert len(server.requests) == 2, "what is there is not asked for again"
    attribution = (folder / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    assert "デジタル庁" in attribution and "公共データ利用規約（第1.0版）" in attribution and "https://" in attribution


def test_other_bytes_are_refused_and_not_kept(tmp_path):
    changed = CONTENT | {"data/selection.json": b'{"samples": ["changed"]}\n'}
    with repository(changed) as server, pytest.raises(InputError) as caught:
        download_lawqa(tmp_path / "lawqa", base_url=server.url, files=pinned())
    first, mend = caught.value.problems
    assert first.startswith(f"data/selection.json: what came from {server.url}/commit0/data/selection.json has another SHA-256 than")
    assert pinned()["data/selection.json"][1] in first
    assert "git clone https://github.com/digital-go-jp/lawqa_jp" in mend and "--from" in mend and "LAWFT_LAWQA_DIR" in mend
    assert [path.name for path in (tmp_path / "lawqa").rglob("*") if path.is_file()] == ["law_list.json"]


def test_a_damaged_file_in_the_cache_is_replaced(tmp_path):
    with repository() as server:
        download_lawqa(tmp_path, base_url=server.url, files=pinned())
        (tmp_path / "data" / "law_list.json").write_text("damaged")
        download_lawqa(tmp_path, base_url=server.url, files=pinned())
        assert (tmp_path / "data" / "law_list.json").read_bytes() == CONTENT["data/law_list.json"]
        assert [request.path for request in server.requests[2:]] == ["/commit1/data/law_list.json"]


def test_all_missing_files_are_named_at_once(tmp_path):
    with repository({}) as server, pytest.raises(InputError) as caught:
        download_lawqa(tmp_path, base_url=server.url, files=pinned())
    assert "2 problem(s)" in str(caught.value)
    assert [problem.split(":")[0] for problem in caught.value.problems[:2]] == list(CONTENT)
    assert all("404" in problem for problem in caught.value.problems[:2])


def test_without_a_network_the_error_names_the_mend(tmp_path):
    with serving(lambda *_: (200, {}, b"")) as server:
        pass  # now nobody listens on this port
    with pytest.raises(InputError, match="git clone"):
        download_lawqa(tmp_path, base_url=server.url, files=pinned())


def test_a_silent_server_is_not_waited_for_forever(tmp_path):
    import threading

    ended = threading.Event()
    with serving(lambda *_: (ended.wait(10), (200, {}, b""))[1]) as server:
        with pytest.raises(InputError, match="timed out"):
            download_lawqa(tmp_path, base_url=server.url, files=pinned(), timeout=0.3)
        ended.set()


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with repository() as server, pytest.raises(InputError, match=str(tmp_path / "file")):
        download_lawqa(tmp_path / "file" / "lawqa", base_url=server.url, files=pinned())


def test_the_pins_are_those_of_the_real_files(lawqa_dir):
    for name, (commit, sha256) in FILES.items():
        assert file_sha256(lawqa_dir / name) == sha256, name
        assert len(commit) == 40 and int(commit, 16)
