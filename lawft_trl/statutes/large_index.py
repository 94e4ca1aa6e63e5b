"""BM25 by tantivy, for corpora too large for bm25s: it writes to disk while it indexes and stays within its memory.

Its parameters are fixed, k1 1.2 and b 0.75.
"""

import errno
import importlib.metadata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lawft_trl.errors import InputError

_WRITER_BYTES = 256_000_000  # what tantivy gathers in memory before it writes a segment


def write_tantivy(documents: Iterable[list[str]], folder: Path) -> str:
    """Indexes documents, given as their tokens, into a new folder; returns the library's name and version."""
    tantivy = _library()
    folder.mkdir()
    index = tantivy.Index(_schema(tantivy), path=str(folder))
    writer = index.writer(_WRITER_BYTES, 1)  # one thread: the same segments each time
    try:
        for number, tokens in enumerate(documents):
            writer.add_document(tantivy.Document(number=number, text=" ".join(tokens)))
        writer.commit()
    except ValueError as error:
        if "os error 28" in str(error):  # tantivy's word for a full disk
            raise OSError(errno.ENOSPC, str(error)) from error
        raise
    finally:
        writer.wait_merging_threads()  # its threads must not write into a folder that is being taken away
    return f"tantivy {importlib.metadata.version('tantivy')}"


def open_tantivy(folder: Path) -> Callable[[Sequence[str], int], list[tuple[int, float]]]:
    """A function from query tokens and a limit to `(document, score)`, best first, ties in the order of the documents.

    Raises:
        InputError: when tantivy is missing or its files are of another version.
    """
    tantivy = _library()
    try:
        searcher = tantivy.Index.open(str(folder)).searcher()
    except ValueError as error:
        raise InputError(
            f"{folder}: tantivy {importlib.metadata.version('tantivy')} cannot read it: {error}",
            [f"build it again: lawft statutes index {folder.parents[1]} --force"],
        ) from None
    schema = _schema(tantivy)

    def best(tokens: Sequence[str], limit: int) -> list[tuple[int, float]]:
        terms = [
            (tantivy.Occur.Should, tantivy.Query.term_query(schema, "text", token, index_option="freq")) for token in sorted(set(tokens))
        ]
        if not terms:
            return []
        hits = searcher.search(tantivy.Query.boolean_query(terms), limit, count=False).hits
        found = [(int(searcher.doc(address)["number"][0]), float(score)) for score, address in hits]
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))

    return best


def _schema(tantivy):
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("text", stored=False, tokenizer_name="whitespace", index_option="freq")
    builder.add_unsigned_field("number", stored=True)
    return builder.build()


def _library():
    try:
        import tantivy
    except ImportError:
        raise InputError("tantivy is not installed; it indexes large corpora", ["pip install 'lawft-trl[scale]'"]) from None
    return tantivy
