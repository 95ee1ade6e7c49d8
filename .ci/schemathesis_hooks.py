"""What a description cannot say, and Schemathesis therefore cannot know: who calls.

Loaded through SCHEMATHESIS_HOOKS. What it changes is changed before it is sent, and so that a valid
request stays valid and an invalid one invalid.
"""

import datetime
import json
import os
import re
import uuid

import schemathesis

# "session", "key" or "token".
CALLER = os.environ["JUDGES_CALLER"]
# The ids of what the caller rests on: itself, its issuer, its user, its project.
SPARED = set(os.environ["JUDGES_SPARED"].split())
PROJECT = "proj_8f2c4"
# Secrets of invitations that can be accepted, and a password that may be set.
INVITATIONS = os.environ.get("JUDGES_INVITATIONS", "").split()
# The current password of the session's user, which is the description's example.
PASSWORD = "correct horse battery staple"
NEW_PASSWORD = "nine ordinary lamps in a row"
# Ids by "METHOD /path", of things that are there to be used up by it.
SPARES = json.loads(os.environ.get("JUDGES_SPARES", "{}"))
# Where to write what was answered.
ANSWERS = open(os.environ["JUDGES_ANSWERS"], "a", encoding="utf-8")


@schemathesis.hook
def before_call(ctx, case, kwargs):
    spare_the_caller(case)
    name_the_project(case)
    keep_to_the_clock(case.body)
    keep_to_this_month(case)
    keep_to_a_span(case)
    keep_to_this_week(case)
    keep_to_networks(case.body)
    keep_to_a_receiver(case.body)
    keep_to_its_own_rules(case)
    keep_to_what_a_provider_has(case)
    accept_what_is_open(case)
    use_a_spare(case)
    match_the_state(case)
    know_the_password(case)
    write_once(case)
    show_a_token(case)


@schemathesis.hook
def after_call(ctx, case, response):
    """For judged.py; the server's log is only a sample of what it answered."""
    try:
        code = response.json().get("code")
    except (AttributeError, ValueError):
        code = None
    print(json.dumps([case.method.upper(), case.operation.path, response.status_code, code]), file=ANSWERS, flush=True)


@schemathesis.hook
def filter_failure(ctx, failure, case, response):
    """Which failures count. Where the judge is wrong, the reason stands here.

    UseAfterFree: DELETE revokes a key or a token, and for the record what is revoked can still be read,
    as long as it says that it is revoked.

    What is deleted of resources can be looked at for a while, as long as it says that it goes or is gone.

    MissingHeaderNotRejected: what it leaves out, the command line's --header puts in again.
    """
    if type(failure).__name__ == "MissingHeaderNotRejected":
        return "Authorization" not in response.request.headers
    if type(failure).__name__ == "UseAfterFree" and case.operation.path in ("/v1/keys/{key_id}", "/v1/tokens/{token_id}"):
        return response.json().get("status") != "revoked"
    if type(failure).__name__ == "UseAfterFree" and case.operation.path == "/v1/resources/{resource_id}":
        return response.json().get("status", {}).get("phase") not in ("deleting", "deleted")
    return True


def spare_the_caller(case):
    """What would end the caller, or take its rights away, is asked of nothing: 404, as described."""
    if case.method.upper() in ("DELETE", "PATCH", "POST"):
        for name, value in (case.path_parameters or {}).items():
            if value in SPARED:
                case.path_parameters[name] = value.split("_")[0] + "_1"


def name_the_project(case):
    """A project is asked for before the rest is looked at: with one that is not there, 404 hides it all.

    So coverage, which tries one fault at a time, names one that is there. A session must name one, which
    a description cannot say of a parameter that keys and tokens may leave out.
    """
    document = case.operation.schema.raw_schema
    described = document["paths"][case.operation.path].get(case.method.lower(), {})
    parameters = [resolve(document, parameter) for parameter in described.get("parameters", [])]
    covering = case.meta is not None and case.meta.phase.name.value == "coverage"
    if any((parameter["in"], parameter["name"]) == ("query", "project_id") for parameter in parameters):
        if must_name(case.query or {}, covering):
            case.query = {**(case.query or {}), "project_id": PROJECT}
    if isinstance(case.body, dict) and "requestBody" in described:
        schema = resolve(document, described["requestBody"]["content"]["application/json"]["schema"])
        # Alternatives have the same members.
        schema = resolve(document, schema.get("oneOf", [schema])[0])
        required = "project_id" in schema.get("required", [])
        if "project_id" in schema.get("properties", {}) and must_name(case.body, covering, required):
            case.body["project_id"] = PROJECT


def resolve(document, value):
    """What a reference refers to; anything else as it is."""
    while "$ref" in value:
        reference = value["$ref"]
        value = document
        for part in reference.removeprefix("#/").split("/"):
            value = value[part]
    return value


def must_name(members, covering, required=False):
    given = members.get("project_id")
    if given is None:
        # Where everybody has to give it, leaving it out is a fault that is meant.
        return CALLER == "session" and not required
    return covering and isinstance(given, str) and re.fullmatch(r"proj_[1-9a-f][0-9a-f]{0,31}", given) is not None


def keep_to_the_clock(body):
    """JSON Schema has no "later than now", nor "no later than your own credential's end"."""
    if not isinstance(body, dict):
        return
    if is_past(body.get("expires_at")):
        body["expires_at"] = "2099-12-31T23:59:59Z"
    # The token that calls lasts as long as tokens may, less the moments since it was made.
    if CALLER == "token" and body.get("expires_in") in range(31_500_000, 31_536_001):
        body["expires_in"] = 31_500_000


def keep_to_this_month(case):
    """JSON Schema has no "not before the project was made", "at most 366 days" nor "a cursor that was given"."""
    if not case.operation.path.startswith("/v1/usage") or not case.query:
        return
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    if re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", str(case.query.get("period"))):
        case.query["period"] = today[:7]
    for name in ("from", "to"):
        try:
            datetime.date.fromisoformat(str(case.query.get(name)))
            case.query[name] = today
        except ValueError:
            pass
    case.query.pop("cursor", None)


def keep_to_a_span(case):
    """JSON Schema has no "earlier than"."""
    query = case.query or {}
    if case.operation.path == "/v1/audit-logs" and is_time(query.get("from")) and is_time(query.get("to")):
        query["from"], query["to"] = "2000-01-01T00:00:00Z", "2099-12-31T23:59:59Z"


def keep_to_this_week(case):
    """A pattern cannot say that an event is still kept: a cursor that looks like one is after all of them."""
    query = case.query or {}
    if case.operation.path == "/v1/events" and re.fullmatch(r"evt_[1-9a-f][0-9a-f]{0,31}", str(query.get("cursor"))):
        query["cursor"] = "evt_" + "f" * 32


def keep_to_networks(body):
    """JSON Schema knows no CIDR notation: what is short enough to be a network becomes one."""
    networks = body.get("allowed_ips") if isinstance(body, dict) else None
    if isinstance(networks, list):
        body["allowed_ips"] = [
            "203.0.113.0/24" if isinstance(network, str) and len(network) <= 43 else network for network in networks
        ]


def keep_to_a_receiver(body):
    """JSON Schema cannot say to which hosts nothing is sent; nor shall a judge have the server speak to strangers."""
    url = body.get("url") if isinstance(body, dict) else None
    if isinstance(url, str) and len(url) <= 2048 and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url):
        body["url"] = "https://receiver.example/hooks"


def keep_to_its_own_rules(case):
    """A key that rotates itself leaves the old secret at least 300 seconds."""
    if CALLER == "key" and case.operation.path == "/v1/keys/{key_id}/rotate" and isinstance(case.body, dict):
        if case.body.get("overlap_seconds") in range(0, 300):
            case.body["overlap_seconds"] = 300


# Of each kind a spec that the simulated provider can do.
SPECS = {
    "network.network": {"cidr": "10.0.0.0/16"},
    "storage.volume": {"size_gib": 20},
    "compute.instance": {"size": "small", "image": "debian-12", "volumes": []},
}


def keep_to_what_a_provider_has(case):
    """No schema can say which providers, sizes and resources there are, or what can be done to which of them.

    What is meant to be wrong stays so; and nobody waits for longer than the judge does.
    """
    path, body = case.operation.path, case.body
    if case.query and str(case.query.get("wait", "")).isdigit() and int(case.query["wait"]) in range(2, 61):
        case.query["wait"] = 1
    if path == "/v1/providers/{name}" and meant(case, "path"):
        case.path_parameters["name"] = "sim"
    if not isinstance(body, dict) or not meant(case, "body"):
        return
    if path in ("/v1/resources", "/v1/resources/import"):
        body["provider"] = "sim"
    if path == "/v1/resources":
        body["spec"] = SPECS[body["kind"]]
    if path == "/v1/resources/{resource_id}":
        body.pop("spec", None)
    if path == "/v1/resources/{resource_id}/actions":
        case.body = {"action": "start"}


def meant(case, where):
    """Whether this part of a request is meant to be right, whatever the rest of it is."""
    if case.meta is None:
        return False
    for kind, component in case.meta.components.items():
        if getattr(kind, "value", kind) in (where, f"{where}_parameters"):
            return component.mode.value == "positive"
    return True


def accept_what_is_open(case):
    """A pattern cannot tell a secret that was ever issued: once, one that was."""
    if case.operation.path == "/v1/invitations/accept" and isinstance(case.body, dict) and INVITATIONS:
        token, password = case.body.get("token"), case.body.get("password")
        fits = isinstance(token, str) and token.startswith("inv_") and isinstance(password, str)
        if fits and 12 <= len(password) <= 128:
            case.body = {"token": INVITATIONS.pop(), "password": NEW_PASSWORD}


def use_a_spare(case):
    """What succeeds in a certain state only, is asked of something that was brought into it."""
    spares = SPARES.get(f"{case.method.upper()} {case.operation.path}")
    names = re.findall(r"{(\w+)}", case.operation.path)
    given = case.path_parameters or {}
    if spares and all(re.fullmatch(r"[a-z]+_[1-9a-f][0-9a-f]{0,31}", str(given.get(name))) for name in names):
        # The last of them is used again and again. One for several names is several ids.
        spare = spares.pop() if len(spares) > 1 else spares[0]
        given.update(zip(names, spare.split("/")))


def match_the_state(case):
    """Which entity tag is the current one, only the server knows; "*" is any."""
    for name in list(case.headers or {}):
        if name.lower() == "if-match":
            case.headers[name] = "*"
        if name.lower() == "if-none-match":
            # A tag that nothing has: any other would be answered 304 or 412. The judge also sends an empty one as valid.
            case.headers[name] = '"another"'


def know_the_password(case):
    """Which password is the current one, and which new one is easily guessed, no description can say."""
    if case.operation.path == "/v1/users/me/password" and isinstance(case.body, dict):
        current, new = case.body.get("current_password"), case.body.get("new_password")
        plausible = isinstance(current, str) and isinstance(new, str) and len(current) <= 1024 and 12 <= len(new) <= 128
        if plausible and set(case.body) == {"current_password", "new_password"} and not re.search(r"[\x00-\x1f\x7f-\x9f]", new):
            case.body = {"current_password": PASSWORD, "new_password": PASSWORD}


def show_a_token(case):
    """In a form an empty value is as none (RFC 6749 section 3.2), which a schema for forms and JSON alike cannot say."""
    if case.operation.path == "/v1/tokens/introspect" and isinstance(case.body, dict) and case.body.get("token") == "":
        case.body["token"] = "unknown"


def write_once(case):
    """Every write means another one: a valid key becomes one that was not used before."""
    for name, value in list((case.headers or {}).items()):
        if name.lower() == "idempotency-key" and re.fullmatch(r'[!#-~][!-~]{0,254}|"[!#-\[\]-~]{1,255}"', str(value)):
            case.headers[name] = str(uuid.uuid4())


def time_of(text):
    try:
        return datetime.datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except (AttributeError, TypeError, ValueError):
        return None


def is_time(text):
    then = time_of(text)
    return then is not None and then.tzinfo is not None


def is_past(text):
    return is_time(text) and time_of(text) <= datetime.datetime.now(datetime.timezone.utc)
