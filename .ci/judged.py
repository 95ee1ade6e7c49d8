"""Tells whether Schemathesis got to judge what it was let loose on, from the answers that its hook wrote.

Usage: judged.py openapi.json CALLER [EXCLUDED-PATH…] < ANSWERS. Every operation that is open to this kind of caller must have
succeeded at least once, and the caller must not have lost its credential on the way: a judge that is only
ever refused finds no fault.
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
            faults.append(f"{method.upper()} {path} was called {lost} times with a credential that had ended")
        # Its own is what the description was fetched by.
        if path in [*excluded, "/openapi.json"]:
            continue
        if not operation["security"] or any(caller in scheme for scheme in operation["security"]):
            opened += 1
            if not any(status < 300 for status, _ in counted):
                faults.append(f"{method.upper()} {path} never succeeded: {dict(counted)}")

total = sum(sum(counted.values()) for counted in answers.values())
if faults:
    sys.exit("\n".join(faults))
print(f"each of the {opened} operations open to a {caller} succeeded, {total} answers in all, with the codes")
print("  " + " ".join(sorted(codes)))
