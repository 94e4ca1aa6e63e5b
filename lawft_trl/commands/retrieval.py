"""`lawft statutes index|search|eval`: make a corpus searchable, search it, measure the search."""

import argparse
import os
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError


def add(statutes_verbs: Any) -> None:
    """Declares the verbs under `lawft statutes`."""
    index = statutes_verbs.add_parser("index", help="make a corpus searchable: CORPUS/index/")
    index.add_argument("corpus", type=Path, help="a folder that lawft statutes made")
    index.add_argument("--engine", default="auto", choices=("auto", "bm25s", "tantivy"),
                       help="auto takes tantivy (pip install 'lawft-trl[scale]') above 500,000 passages")  # fmt: skip
    index.add_argument("--force", action="store_true", help="replace the index")
    index.set_defaults(run=_index)
    search = statutes_verbs.add_parser("search", help="find articles: by citation (金商法第5条), then by words")
    search.add_argument("corpus", type=Path)
    search.add_argument("query", help="a question, a citation, or both")
    search.add_argument("-k", type=int, default=3, help="how many articles (default 3)")
    search.add_argument("--hops", action="store_true", help="add articles that these refer to or that carry them out (政令で定める)")
    search.set_defaults(run=_search)
    measure = statutes_verbs.add_parser("eval", help="how often the search finds the articles that decide questions")
    measure.add_argument("corpus", type=Path)
    questions = measure.add_mutually_exclusive_group()
    questions.add_argument("--questions", type=Path, metavar="FILE", help="questions as JSONL, with `provisions` or `statutes`")
    folder = os.environ.get("LAWFT_LAWQA_DIR")
    questions.add_argument("--lawqa", type=Path, metavar="FOLDER", default=Path(folder) if folder else None,
                           help="a clone of lawqa_jp (default: $LAWFT_LAWQA_DIR)")  # fmt: skip
    measure.add_argument("--query", default="question+choices", choices=("question+choices", "question"), help="what is searched for")
    measure.add_argument("--hops", action="store_true", help="count what the found articles refer to as well")
    measure.add_argument("--out", type=Path, help="the folder to make (default: CORPUS/retrieval_eval)")
    measure.add_argument("--force", action="store_true", help="replace the folder")
    measure.set_defaults(run=_eval)


def _index(options: argparse.Namespace) -> None:
    from lawft_trl.statutes.search import build_index

    record = build_index(options.corpus, engine=options.engine, force=options.force)
    size = sum(path.stat().st_size for path in (options.corpus / "index").rglob("*") if path.is_file())
    print(f"{options.corpus / 'index'}: {record['passages']:,} passages, {record['articles']:,} articles, {record['laws']:,} laws; "
          f"{record['library']}, {size / 1e6:.1f} MB")  # fmt: skip


def _search(options: argparse.Namespace) -> None:
    from lawft_trl.statutes.search import open_index

    if options.k < 1:
        raise InputError(f"-k {options.k}: expected at least 1")
    hits = open_index(options.corpus).search(options.query, options.k, hops=int(options.hops))
    if not hits:
        print("nothing was found: no article is cited, and none of the words occur in the corpus")
    for hit in hits:
        as_of = f", law as of {hit.passages[0].as_of}" if hit.passages[0].as_of else ""
        print(f"--- {hit.rank}. {hit.article_key} ({hit.via}, score {hit.score:.2f}{as_of})\n{hit.text}\n")


def _eval(options: argparse.Namespace) -> None:
    from lawft_trl.data.lawqa import find_lawqa, read_lawqa
    from lawft_trl.data.questions import read_questions
    from lawft_trl.data.retrieval import evaluate_retrieval, retrieval_table, write_retrieval
    from lawft_trl.folders import refuse_existing
    from lawft_trl.statutes.passages import read_manifest
    from lawft_trl.statutes.search import open_index

    if not options.questions and not options.lawqa:
        raise InputError("lawft statutes eval: no questions", ["give --questions FILE or --lawqa FOLDER, or set LAWFT_LAWQA_DIR"])
    index = open_index(options.corpus)
    out = options.out or options.corpus / "retrieval_eval"
    refuse_existing(out, force=options.force, mark="retrieval.json", rename="--out")
    questions = read_questions(options.questions) if options.questions else read_lawqa(find_lawqa(options.lawqa))
    result = evaluate_retrieval(index, questions, query=options.query, hops=int(options.hops))
    write_retrieval(result, out, force=options.force)
    record = index.record
    as_of = read_manifest(options.corpus)["as_of"] or "not stated"
    print(f"{record['articles']:,} articles, {record['passages']:,} passages (law as of: {as_of}); {record['library']}, "
          f"k1 {record['k1']}, b {record['b']}; hops {result['hops']}")  # fmt: skip
    if result["without_gold"]:
        print(f"{result['without_gold']} question(s) name no deciding article and were left out")
    print(f"percent of {result['questions']} questions, articles; [95 % Wilson interval]; boilerplate: the question names no subject\n")
    print(retrieval_table(result))
    print(f"\n{out}: retrieval.json, misses.jsonl, misses.md ({len(result['misses'])} questions to read)")
