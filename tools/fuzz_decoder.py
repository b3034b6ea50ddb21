"""Fuzzes the decoder of images with Atheris, which follows the branches of `geofix.images` and of Pillow's Python code.

    python tools/fuzz_decoder.py --inputs 40000

An input that is neither decoded nor refused is written to a file `crash-...` and ends the run with its traceback.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def fuzz(inputs: int, corpus: str) -> None:
    """Try `inputs` inputs, beginning with the files in `corpus`; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["geofix.images", "PIL"]):
        from fuzzing import damaged, decode_or_refuse
    warnings.simplefilter("ignore")  # Pillow's remarks on what it reads in spite of the damage
    tried = decoded = 0

    def one(data: bytes) -> None:
        nonlocal tried, decoded
        tried += 1
        decoded += decode_or_refuse(data)
        if tried == inputs:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"atheris: {tried} inputs, {decoded} decoded, the rest refused; peak memory {peak:.0f} MiB", flush=True
            )

    def mutate(data: bytes, _most: int, seed: int) -> bytes:
        chance = random.Random(seed)  # noqa: S311  # no secret
        return damaged(data, chance) if chance.random() < 0.5 else bytes(atheris.Mutate(data, len(data) + 64))

    options = [
        f"-runs={inputs}",
        "-max_len=8192",
        "-rss_limit_mb=1500",
        "-timeout=20",
        "-print_final_stats=0",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, corpus], one, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> int:
    """Fuzz in a process of its own, which Atheris ends in its own way; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=40_000)
    options = parser.parse_args()
    from fuzzing import SEEDS

    with tempfile.TemporaryDirectory(prefix="geofix-fuzz-") as corpus:
        for number, seed in enumerate(SEEDS):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        process = multiprocessing.get_context("spawn").Process(target=fuzz, args=(options.inputs, corpus))
        process.start()
        process.join(1800)
        if process.is_alive():
            process.kill()
            return 1
        return process.exitcode or 0


if __name__ == "__main__":
    sys.exit(main())
