"""`python -m bench.load [profile …]`: load tests with ghz; exit 1 when a threshold is broken, 3 when ghz is missing."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench.load import configs, ghz, preparation, report, stack
from bench.load.session import Row, Session, build_protoset

RESULTS = Path(__file__).parent.parent / "results"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("profiles", nargs="*", metavar="profile", help=f"of {', '.join(configs.profiles())}")
    parser.add_argument("--call", action="append", choices=configs.calls(), help="only this call; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of light and latency, ours and no-op in turn")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="SERVICE=HOST:PORT",
        help="measure servers that run already, in place of a system of our own; it gains posts, tasks and images",
    )
    parsed = parser.parse_args(given)
    parsed.profiles = parsed.profiles or ["smoke", "latency"]
    for profile in parsed.profiles:
        if profile not in configs.profiles():
            parser.error(f"no profile {profile}: {', '.join(configs.profiles())}")
    return parsed


async def main(chosen: argparse.Namespace) -> int:
    """Prepare, measure, print, judge."""
    calls: list[str] = chosen.call or configs.calls()
    tools = ghz.Ghz.find()
    if tools.uploads is None:
        _report("there is no Go here: uploads are made by ghz from JSON, which costs more than what is measured")
    with tempfile.TemporaryDirectory(prefix="frontispiece-load-") as name:
        scratch = Path(name)
        async with AsyncExitStack() as exits:
            ours = await _ours(chosen.target, scratch, exits)
            if chosen.target:
                calls = [call for call in calls if configs.service(call) in ours.hosts]
            await build_protoset(scratch / "api.binpb")
            values = await preparation.prepare(ours.hosts)
            await preparation.record(calls, ours.hosts, values, scratch / "recording.json")
            noop = await exits.enter_async_context(stack.noop(scratch / "recording.json"))
            kept = scratch / "kept"
            kept.mkdir()
            floor = await exits.enter_async_context(stack.noop(scratch / "recording.json", kept))
            session = Session(tools, ours, noop, floor, values, scratch / "api.binpb", scratch, chosen.rounds, _report)
            results = {profile: await _measure(session, calls, profile) for profile in chosen.profiles}
    broken = 0
    heading = report.circumstances(tools.program)
    for profile, rows in results.items():
        path = report.write(chosen.output, profile, rows, heading)
        broken += sum(report.is_broken(profile, row) for row in rows)
        print(f"\n{path.read_text()}\nwritten to {path}", flush=True)
    return 1 if broken else 0


async def _ours(given: Sequence[str], scratch: Path, exits: AsyncExitStack) -> stack.Targets:
    if given:
        return stack.Targets(dict(target.split("=", 1) for target in given))
    _report("starting the system")
    folder = scratch / "system"
    folder.mkdir(mode=0o755)
    return await exits.enter_async_context(stack.own(folder))


async def _measure(session: Session, calls: Sequence[str], profile: str) -> list[Row]:
    if profile == "soak":  # ten minutes each: all at once, as in life
        knees = [await session.knees(call, profile) for call in calls]
        pairs = zip(calls, knees, strict=True)
        found = await asyncio.gather(*(session.measure(call, profile, knee) for call, knee in pairs))
    else:
        found = [await session.measure(call, profile, await session.knees(call, profile)) for call in calls]
    return [row for rows in found for row in rows]


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    options = arguments()
    try:
        sys.exit(asyncio.run(main(options)))
    except ghz.GhzError as error:
        print(f"bench.load: {error}", file=sys.stderr)
        sys.exit(3 if str(error) == ghz.MISSING else 1)
    except stack.StackError as error:
        sys.exit(f"bench.load: {error}")
