"""`python -m tests.simulator [--seeds N] [--from K] [--jobs J]`: many scenarios, and the table that says whether the engine ever does harm."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from statistics import median

from tests.simulator.run import Pair, run, run_quickly


def main() -> int:
    """Exit code 1 where a scenario was harmed or a rule broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="no engine in the control runs: half the time, observe itself is not tested")
    given = parser.parse_args()
    started = time.monotonic()
    pairs = pairs_of(range(given.first, given.first + given.seeds), given.jobs, run_quickly if given.quick else run)
    print("\n".join(table(pairs)))
    print(f"{len(pairs)} scenarios, twice each, in {time.monotonic() - started:.0f} s")
    return 1 if any(pair.harmed or pair.violations for pair in pairs) else 0


def pairs_of(seeds: range, jobs: int, one: Callable[[int], Pair] = run) -> list[Pair]:
    """All pairs, in the order of the seeds."""
    if jobs == 1:
        return [one(seed) for seed in seeds]
    with get_context("spawn").Pool(jobs) as pool:
        done = []
        for pair in pool.imap(one, seeds, chunksize=4):
            done.append(pair)
            if pair.harmed or pair.violations:
                print(describe(pair), file=sys.stderr, flush=True)
            if len(done) % 50 == 0:
                print(f"{len(done)} of {len(seeds)}", file=sys.stderr, flush=True)
        return done


def ratio(pair: Pair) -> float:
    """Failed requests with our hands, over those without."""
    return pair.enforce.failed / pair.observe.failed


def table(pairs: list[Pair]) -> list[str]:
    """What a person wants to know first, then the cases."""
    harmed = [pair for pair in pairs if pair.harmed]
    broken = [pair for pair in pairs if pair.violations]
    failing = [pair for pair in pairs if pair.observe.failed]
    lines = [f"harmed: {len(harmed)} of {len(pairs)}    scenarios with a rule broken: {len(broken)}", ""]
    lines += [_line("all with failures", failing), _line("curable", [pair for pair in failing if pair.scenario.curable])]
    for fault in sorted({pair.scenario.fault for pair in pairs}):
        lines.append(_line(fault, [pair for pair in failing if pair.scenario.fault == fault]))
    lines += ["", "failed requests, enforce / observe"]
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 0.99), (0.99, 1.0001), (1.0001, 1e9)):
        count = sum(1 for pair in failing if low <= ratio(pair) < high)
        lines.append(f"  {f'{low:.2f} .. {high:.2f}' if high < 10 else 'more':>14}  {count:5}  {'#' * round(60 * count / max(1, len(failing)))}")
    lines += ["", *(describe(pair) for pair in pairs if pair.harmed or pair.violations)]
    return lines


def _line(name: str, pairs: list[Pair]) -> str:
    ratios = sorted(ratio(pair) for pair in pairs)
    if not ratios:
        return f"{name:>20}: none had failures"
    without, with_ = sum(pair.observe.failed for pair in pairs), sum(pair.enforce.failed for pair in pairs)
    return f"{name:>20}: {len(ratios):4} scenarios, failed {without:8} without, {with_:8} with; ratio median {median(ratios):.3f}, worst {ratios[-1]:.2f}"


def describe(pair: Pair) -> str:
    """One scenario in a line, and what was wrong."""
    scenario = pair.scenario
    head = f"seed {scenario.seed}: {scenario.fault} {list(scenario.twists)} {scenario.variant}: {pair.observe.failed} -> {pair.enforce.failed}"
    return "\n".join([head + (" HARM" if pair.harmed else ""), *(f"    {text}" for text in pair.violations)])


if __name__ == "__main__":
    sys.exit(main())
