"""Runs the cases of the Autobahn test suite against a WebSocket server that echoes.

Arguments: the URL, and cases (`1.*`). Prints what came out, by group and verdict, and every case that did not end
well. The cases are those of the suite itself; `kosoku` runs them, since the suite's own runner needs Python 2.
"""

import asyncio
import json
import os
import sys
from collections import defaultdict

from kosoku import FailureError, run_fuzzingclient


async def main(url, cases):
    try:
        results = await run_fuzzingclient(url, cases, concurrency=2)
    except FailureError as error:
        # Which verdicts are failures is for the test to say.
        results = error.results
    groups = defaultdict(lambda: defaultdict(int))
    closes = defaultdict(int)
    cases = []
    for result in results:
        group = result.case_id.split(".")[0]
        behavior, close = result.behavior.value, result.behavior_close.value
        groups[group][behavior] += 1
        closes[close] += 1
        if behavior != "OK" or close != "OK":
            cases.append([result.case_id, behavior, close, result.result, result.result_close])
    print(json.dumps({"count": len(results), "groups": groups, "closes": closes, "cases": cases}))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
# The library's threads may still be on their way into Python, which ends the process by abort() when it finds the
# interpreter half taken down. Everything is said: there is nothing to take down.
sys.stdout.flush()
os._exit(0)
