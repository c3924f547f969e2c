"""scripts/endure: run one campaign, and say what it came to."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

from kvendure.bugs import BUGS, SCENARIOS, alarms, bugs
from kvendure.churn import churn
from kvendure.crashes import crashes
from kvendure.detection import detection
from kvendure.links import ROWS, links
from kvendure.orphans import VICTIMS, orphans
from kvendure.starts import starts

EPILOG = """
exit status: 0 it holds, 1 it does not, 2 wrong usage, 3 unknown (the machine was in the way),
5 nothing could be tried, 130 interrupted.
The last line tells what was tried, how often it failed, and the 95 % interval of that (Wilson).
"""


Adder = Callable[[str, Callable[[argparse.Namespace], int], str, int], argparse.ArgumentParser]


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign asked for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/endure",
        description="What must hold, tried on real processes again and again.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    campaigns = parser.add_subparsers(dest="campaign", required=True, metavar="CAMPAIGN")
    add = _adder(campaigns)

    one = add("starts", starts, "clusters come up, serve, and leave nothing behind", 500)
    one.add_argument("-j", "--jobs", type=_positive, default=4, help="how many at once (4)")

    one = add("orphans", orphans, "nothing outlives who held a cluster and was killed", 100)
    one.add_argument("victims", nargs="*", metavar="VICTIM", help=f"of {', '.join(VICTIMS)}")
    one.add_argument("-j", "--jobs", type=_positive, default=1, help="how many at once (1)")
    one.add_argument("--seed", type=int, default=1, help="draws victims and moments (1)")
    one.add_argument("--bound", type=float, default=10, help="seconds until nothing is left (10)")

    one = add("links", links, "links do what was asked of them", 200)
    one.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    one.add_argument("--cuts", type=_positive, default=20, help="partitions of each mode (20)")

    one = add("crashes", crashes, "no write is lost when one or two of five nodes are killed", 200)
    one.add_argument("--sync", choices=("always", "os", "interval"), default="always")
    one.add_argument("--seed", type=int, default=1, help="draws victims and moments (1)")

    one = add("churn", churn, "joins, leaves and replacements lose nothing and move the least", 100)
    one.add_argument("--sync", choices=("always", "os", "interval", "memory"), default="os")
    one.add_argument("--seed", type=int, default=1, help="draws changes (1)")

    one = add("bugs", bugs, "planted bugs are caught by their scenarios", 20)
    one.add_argument("bugs", nargs="*", metavar="NAME", help=f"of {', '.join(BUGS)}")
    one.add_argument("-j", "--jobs", type=_positive, default=1, help="how many runs at once (1)")
    one.add_argument("--seed", type=int, default=1, help="the first seed (1)")

    one = add("alarms", alarms, "the true store is never called invalid", 100)
    one.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="the bugs' if none is named")
    one.add_argument("-j", "--jobs", type=_positive, default=1, help="how many runs at once (1)")
    one.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    one.add_argument("--keep", type=Path, metavar="DIR", help="keep the files of alarms there")

    one = campaigns.add_parser("detection", help="print docs/reference/detection.md")
    one.set_defaults(run=detection)
    one.add_argument("bugs_json", type=Path, help="what bugs --json printed")
    one.add_argument("alarms_json", type=Path, help="what alarms --json printed")

    options = parser.parse_args(arguments)
    known: dict[str, Collection[str]] = {"victims": VICTIMS, "bugs": BUGS, "rows": ROWS}
    known["scenarios"] = [path.stem for path in sorted(SCENARIOS.glob("*.yaml"))]
    for what, names in known.items():
        unknown = [name for name in getattr(options, what, ()) if name not in names]
        if unknown:
            parser.error(f"there are no {what} {unknown[0]!r}; there are {', '.join(names)}")
    signal.signal(signal.SIGTERM, _interrupt)
    status: int = options.run(options)
    return status


def _adder(campaigns: Any) -> Adder:  # argparse keeps the type to itself
    def add(
        name: str, run: Callable[[argparse.Namespace], int], about: str, count: int
    ) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = campaigns.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.set_defaults(run=run)
        one.add_argument("--count", type=_positive, default=count, help=f"trials ({count})")
        one.add_argument("--json", action="store_true", help="print everything as JSON")
        return one

    return add


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
