"""Times the exact near-duplicate index and MinHash on synthetic questions, and counts what MinHash misses.

    python scripts/bench_overlap.py [--texts 50000] [--queries 5000]

Every query is a text with up to a twentieth of its characters replaced, so that the pairs straddle the limit.
"""

import argparse
import random
import resource
import time

from lawft_trl.data.near_duplicates import ExactIndex, MinHashIndex, ngrams

SHARED = "次の記述のうち、正しいものを一つ選びなさい。届出をしなければならない期間として、"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=5_000)
    options = parser.parse_args()

    rng = random.Random(0)
    characters = [chr(0x4E00 + rng.randrange(2000)) for _ in range(800)]
    texts = [SHARED + "".join(rng.choices(characters, k=rng.randint(150, 350))) for _ in range(options.texts)]
    queries = [perturbed(rng.choice(texts), characters, rng) for _ in range(options.queries)]
    start = time.perf_counter()
    sets, asked = ([ngrams([text]) for text in of] for of in (texts, queries))
    print(f"{options.texts} texts, {options.queries} queries, {sum(map(len, sets)) / len(sets):.0f} grams a text: {time.perf_counter() - start:.1f} s")
    found = {}
    for name, build in (("exact", lambda: ExactIndex(sets, [True] * len(sets))), ("MinHash", lambda: MinHashIndex(sets))):
        start = time.perf_counter()
        index = build()
        built = time.perf_counter()
        found[name] = {(query, at) for query, grams in enumerate(asked) for at in index.similar(grams, True)}
        done = time.perf_counter()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name:8} index {built - start:6.1f} s, {1000 * (done - built) / len(asked):6.2f} ms a query, {len(found[name])} pairs, peak {memory:.2f} GiB so far")
    print(f"recall of MinHash: {len(found['MinHash'] & found['exact'])} of {len(found['exact'])}; wrong pairs: {len(found['MinHash'] - found['exact'])}")


def perturbed(text: str, characters: list[str], rng: random.Random) -> str:
    letters = list(text)
    for at in rng.sample(range(len(letters)), rng.randint(0, len(letters) // 20)):
        letters[at] = rng.choice(characters)
    return "".join(letters)


if __name__ == "__main__":
    main()
