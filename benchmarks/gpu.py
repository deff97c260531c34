"""Check and measure a GPU with this project's own functions, in minutes.

    python3 benchmarks/gpu.py --out gpu-results

It needs torch and torchvision alone and runs from the checkout. It answers three questions: are the
numbers right on this GPU, how fast are they, and which settings does this GPU want? The results are
gpu.md, a table to read, and gpu.json, the file to send (docs/gpu.md). Without a GPU everything that
can runs on the CPU; --tiny makes that a matter of seconds.
"""

import argparse
import shlex
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # gpu_parts, and atat_ray without installation

from gpu_parts.advice import advise  # noqa: E402
from gpu_parts.agreement import agreement_part  # noqa: E402
from gpu_parts.attack_speed import attack_speed_part  # noqa: E402
from gpu_parts.compiled import compiled_part  # noqa: E402
from gpu_parts.embedded import embedded_part  # noqa: E402
from gpu_parts.machine import machine_part  # noqa: E402
from gpu_parts.placement import placement_part  # noqa: E402
from gpu_parts.precision import precision_part  # noqa: E402
from gpu_parts.repeats import repeats_part  # noqa: E402
from gpu_parts.session import ROWS, Part, read_rows, run_parts  # noqa: E402
from gpu_parts.sizes import FULL, TINY  # noqa: E402
from gpu_parts.tables import JSON, MARKDOWN, count_verdicts, write_tables  # noqa: E402
from gpu_parts.training_speed import training_speed_part  # noqa: E402

PARTS = (
    Part(name="machine", title="The machine", share=2, run=machine_part),
    Part(name="precision", title="Right? Signs and rounding", share=8, run=precision_part),
    Part(name="agreement", title="Right? Device against CPU", share=12, run=agreement_part),
    Part(name="placement", title="Right? Placement, waits, memory", share=8, run=placement_part),
    Part(name="training", title="Fast? Training", share=20, run=training_speed_part),
    Part(name="attack", title="Fast? Attack", share=20, run=attack_speed_part),
    Part(name="repeats", title="Right? Repeats", share=10, run=repeats_part),
    Part(name="embedded", title="Fast? The embedded trial", share=10, run=embedded_part),
    Part(name="compiled", title="Fast? torch.compile", share=10, run=compiled_part),
)


def main() -> int:
    """Run the parts, write both files after each, and say what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts (default: 9)")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, for a CPU")
    names = ", ".join(part.name for part in PARTS)
    parser.add_argument("--parts", nargs="+", metavar="PART", help=f"only these parts of: {names}")
    options = parser.parse_args()
    chosen = [part for part in PARTS if not options.parts or part.name in options.parts]
    unknown = set(options.parts or ()) - {part.name for part in PARTS}
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {names}")
    if not options.minutes > 0:
        parser.error(f"--minutes must be above 0, got {options.minutes:g}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / ROWS).unlink(missing_ok=True)
    except OSError as error:
        parser.error(f"cannot write to {options.out}: {error.strerror}; choose another --out")
    return run(chosen, options)


def run(parts: list[Part], options: argparse.Namespace) -> int:
    """Run the chosen parts; return 1 if a check differs or something failed."""
    sizes = TINY if options.tiny else FULL
    titles = {part.name: part.title for part in parts} | {"advice": "So what?"}
    seconds: dict[str, float] = {}
    command = shlex.join(["python3", *sys.argv])

    def after_part(part: Part, took: float) -> None:
        seconds[part.name] = took
        rows = read_rows(options.out)
        advice = advise(rows, sizes)
        write_tables(options.out, [*rows, *advice], titles, seconds, command, tiny=options.tiny)
        mine = count_verdicts([row for row in rows if row.part == part.name])
        counts = ", ".join(f"{count} {verdict}" for verdict, count in mine.items())
        print(f"{part.name}: {counts or 'no rows'}; {took:.0f} s", flush=True)

    print(f"{len(parts)} parts in at most {options.minutes:g} minutes", flush=True)
    warnings.simplefilter("ignore")  # of libraries; what matters is in the rows
    try:
        run_parts(parts, sizes, options.out, seconds=60 * options.minutes, after_part=after_part)
    except KeyboardInterrupt:
        print(f"interrupted; the finished parts are in {options.out / MARKDOWN}")
        return 130
    rows = read_rows(options.out)
    bad = [row for row in rows if row.verdict in ("differs", "failed")]
    for row in bad:
        print(f"  {row.verdict}: {row.part}: {row.what} {row.note}".rstrip())
    print(f"{options.out / MARKDOWN} is the table; send {options.out / JSON} (docs/gpu.md)")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
