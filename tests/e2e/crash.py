"""`make crash`: the engine dies at every fault point, embedded and on Kafka, and 50 times at a random moment of the demo's bad release; a table says
what was lost or doubled.

`python -m tests.e2e.crash [--kills N] [--only embedded|kafka|kills] [--seed N]`
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.runtime.faults import POINTS
from tests.e2e.act import killed_after
from tests.e2e.shop import Shop
from tests.rigs.kafka import KafkaServer

WARM_S = 3.5
AT_ONCE = 4
HEAL_S = 60.0


async def at_fault_point(shop: Shop, point: str) -> list[str]:
    """One run that dies once at `point`; what is wrong afterwards."""
    async with shop.open(f"{point}"):
        await asyncio.sleep(WARM_S)
        shop.broken = True
        await shop.until(lambda: shop.healed and shop.fault_struck(point), HEAL_S)
        await asyncio.sleep(1.0)  # let the last verification end
        wrong = await shop.verdict()
        return wrong if shop.fault_struck(point) else [*wrong, f"fault point {point} was never passed"]


async def at_every_point(shop_for: Callable[[str], Shop]) -> dict[str, list[str]]:
    """A run per fault point, a few at a time (each mostly waits); what is wrong, by point. The last words of the engine stand behind it."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(point: str) -> tuple[str, list[str]]:
        async with places:
            shop = shop_for(point)
            wrong = await at_fault_point(shop, point)
            return point, [*wrong, shop.log_tail()] if wrong else []

    return dict(await asyncio.gather(*map(one, POINTS)))


async def at_random(shop: Shop, after_s: float) -> list[str]:
    """One run killed `after_s` seconds after the fault began; what is wrong afterwards."""
    async with shop.open():
        await asyncio.sleep(WARM_S)
        shop.broken = True
        await asyncio.sleep(after_s)
        shop.kill()
        await shop.until(lambda: shop.healed, HEAL_S)
        await asyncio.sleep(1.0)
        return await shop.verdict()


def _row(what: str, wrong: list[str], started: float) -> bool:
    print(f"{what:<42} {time.monotonic() - started:5.1f} s  {'ok' if not wrong else 'WRONG: ' + '; '.join(wrong)}", flush=True)
    return not wrong


def _shop(root: Path, runtime: str, bootstrap: str, point: str) -> Shop:
    name = f"{runtime}-{point}".replace("_", "-")
    return Shop(root / name, kafka=bootstrap, prefix=f"{name}.")


async def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--only", choices=("embedded", "kafka", "kills"))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    root = Path(tempfile.mkdtemp(prefix="reflexarc-crash-"))
    good = True
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the shop opens before its topics are made
    kafka = KafkaServer() if args.only in {None, "kafka"} else None
    if kafka is not None:
        kafka.start()
    try:
        for runtime in ("embedded", "kafka"):
            if args.only not in {None, runtime}:
                continue
            bootstrap = kafka.bootstrap if kafka is not None and runtime == "kafka" else ""
            started = time.monotonic()
            results = await at_every_point(partial(_shop, root, runtime, bootstrap))
            for point, wrong in results.items():
                good &= _row(f"{runtime} {point}", wrong, started)
        if args.only in {None, "kills"}:
            dice = random.Random(args.seed)
            for number in range(args.kills):
                after_s, started = dice.uniform(0.0, 5.0), time.monotonic()
                good &= _row(f"kill -9 number {number + 1}, {after_s:.2f} s into the bad release", await killed_after(after_s), started)
    finally:
        if kafka is not None:
            kafka.close()
        if good:
            shutil.rmtree(root)
        else:
            print(f"kept for a look: {root}")
    print("all well" if good else "NOT all well")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
