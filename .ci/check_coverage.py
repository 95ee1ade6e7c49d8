"""Checks from the recorded responses whether Schemathesis reached all operations.

Usage: check_coverage.py openapi.json CALLER [EXCLUDED-PATH…] < ANSWERS. Every operation that this kind of caller may use must have
succeeded at least once, and the caller's credential must not have ended during the run: a tool whose requests are all
rejected finds no errors.
"""

import collections
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    description = json.load(file)
caller, excluded = sys.argv[2], sys.argv[3:]

answers = collections.defaultdict(collections.Counter)
for line in sys.stdin:
    method, path, status, code = json.loads(line)
    answers[method, path][status, code] += 1

faults, opened, codes = [], 0, set()
for path, item in description["paths"].items():
    for method, operation in item.items():
        counted = answers[method.upper(), path]
        codes |= {code for _, code in counted if code}
        lost = sum(count for (_, code), count in counted.items() if code in ("token_revoked", "token_expired"))
        if lost:
            faults.append(f"{method.upper()} {path} was called {lost} times with a revoked or expired credential")
        # Schemathesis fetches the document from this path.
        if path in [*excluded, "/openapi.json"]:
            continue
        if not operation["security"] or any(caller in scheme for scheme in operation["security"]):
            opened += 1
            if not any(status < 300 for status, _ in counted):
                faults.append(f"{method.upper()} {path} never succeeded: {dict(counted)}")

total = sum(sum(counted.values()) for counted in answers.values())
if faults:
    sys.exit("\n".join(faults))
print(f"all {opened} operations open to a {caller} succeeded; {total} responses, with the codes")
print("  " + " ".join(sorted(codes)))
