"""What a description cannot say, and Schemathesis therefore cannot know: who calls.

Loaded through SCHEMATHESIS_HOOKS. What it changes is changed before it is sent, and so that a valid
request stays valid and an invalid one invalid.
"""

import datetime
import os

import schemathesis

# "session", "key" or "token".
CALLER = os.environ["JUDGES_CALLER"]
# The ids of what the caller rests on: itself, its issuer, its user, its project.
SPARED = set(os.environ["JUDGES_SPARED"].split())
PROJECT = "proj_8f2c4"


@schemathesis.hook
def before_call(ctx, case, kwargs):
    spare_the_caller(case)
    if CALLER == "session":
        name_the_project(case)
    keep_to_the_clock(case.body)


@schemathesis.hook
def filter_failure(ctx, failure, case, response):
    """Which failures count. Where the judge is wrong, the reason stands here.

    UseAfterFree: DELETE revokes a key or a token, and for the record what is revoked can still be read,
    as long as it says that it is revoked.
    """
    if type(failure).__name__ == "UseAfterFree" and case.operation.path in ("/v1/keys/{key_id}", "/v1/tokens/{token_id}"):
        return response.json().get("status") != "revoked"
    return True


def spare_the_caller(case):
    """What would end the caller, or take its rights away, is asked of nothing: 404, as described."""
    if case.method.upper() in ("DELETE", "PATCH", "POST"):
        for name, value in (case.path_parameters or {}).items():
            if value in SPARED:
                case.path_parameters[name] = value.split("_")[0] + "_1"


def name_the_project(case):
    """`project_id` is optional to keys and tokens, and a session has to give it."""
    described = case.operation.schema.raw_schema["paths"][case.operation.path][case.operation.method.lower()]
    if any((parameter["in"], parameter["name"]) == ("query", "project_id") for parameter in described.get("parameters", [])):
        if "project_id" not in (case.query or {}):
            case.query = {**(case.query or {}), "project_id": PROJECT}
    if isinstance(case.body, dict) and case.body.get("project_id") is None:
        schema = described["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
        schema = case.operation.schema.raw_schema["components"]["schemas"][schema]
        if "project_id" in schema["properties"] and "project_id" not in schema.get("required", []):
            case.body["project_id"] = PROJECT


def keep_to_the_clock(body):
    """JSON Schema has no "later than now", nor "no later than your own credential's end"."""
    if not isinstance(body, dict):
        return
    if is_past(body.get("expires_at")):
        body["expires_at"] = "2099-12-31T23:59:59Z"
    # The token that calls lasts as long as tokens may, less the moments since it was made.
    if CALLER == "token" and body.get("expires_in") in range(31_500_000, 31_536_001):
        body["expires_in"] = 31_500_000


def is_past(text):
    try:
        then = datetime.datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
        return then <= datetime.datetime.now(datetime.timezone.utc)
    except (AttributeError, TypeError, ValueError):
        return False
