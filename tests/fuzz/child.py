"""One run of one target: ``python -m fuzz.child TARGET SECONDS SEED FOLDER KIND``.

KIND is ``guided``, ``mutated`` or ``again``.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from pathlib import Path

HANGS_S = 10


def main() -> None:
    target, seconds, seed, folder, kind = sys.argv[1:]
    found = Path(folder)
    if kind == "guided":
        guided(target, float(seconds), int(seed), found)
    elif kind == "again":
        again(target, found)
    else:
        mutated(target, float(seconds), int(seed), found)


def guided(target: str, seconds: float, seed: int, folder: Path) -> None:
    """Coverage-guided, with libFuzzer, which writes what breaks a promise into the folder."""
    import atheris

    with atheris.instrument_imports(include=["jupyter_teleportal"]):
        from fuzz.targets import TARGETS, seeds
    corpus = folder / "corpus"
    corpus.mkdir()
    for index, data in enumerate(seeds(target)):
        (corpus / f"seed-{index}").write_bytes(data)
    options = [
        f"-max_total_time={seconds:.0f}", f"-seed={seed}", f"-timeout={HANGS_S}", "-max_len=4096",
        "-rss_limit_mb=2048", f"-artifact_prefix={folder}/found-", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[target])
    atheris.Fuzz()


def again(target: str, folder: Path) -> None:
    """The inputs in the folder; those that break no promise are removed from it."""
    from fuzz.targets import TARGETS

    for path in sorted(folder.glob("found-*")):
        faulthandler.dump_traceback_later(HANGS_S, exit=True)
        TARGETS[target](path.read_bytes())
        path.unlink()
    faulthandler.cancel_dump_traceback_later()


def mutated(target: str, seconds: float, seed: int, folder: Path) -> None:
    """Changed at random; the input at work on lies in the folder, for whoever finds this dead."""
    from fuzz.targets import TARGETS, mutations

    run, last = TARGETS[target], folder / "found-last"
    until, count = time.monotonic() + seconds, 0
    with last.open("wb", buffering=0) as file:
        for data in mutations(target, seed):
            file.seek(0)
            file.truncate()
            file.write(data)
            faulthandler.dump_traceback_later(HANGS_S, exit=True)
            run(data)
            count += 1
            if time.monotonic() > until:
                break
    faulthandler.cancel_dump_traceback_later()
    last.unlink()
    print(f"{target}: {count} inputs")


if __name__ == "__main__":
    main()
