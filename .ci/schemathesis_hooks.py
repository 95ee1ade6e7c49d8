"""Adapts requests of Schemathesis to rules that an OpenAPI document cannot express, such as rules on the caller.

Loaded through SCHEMATHESIS_HOOKS. The hooks change requests before they are sent. Valid requests stay valid, and invalid
requests stay invalid.
"""

import datetime
import json
import os
import re
import uuid

import schemathesis

# "session", "key" or "token".
CALLER = os.environ["VALIDATE_CALLER"]
# Ids that the caller depends on: itself, its issuer, its user and its project.
SPARED = set(os.environ["VALIDATE_SPARED"].split())
PROJECT = "proj_8f2c4"
# Secrets of open invitations, and a valid new password.
INVITATIONS = os.environ.get("VALIDATE_INVITATIONS", "").split()
# Current password of the session's user: the example in the document.
PASSWORD = "correct horse battery staple"
NEW_PASSWORD = "nine ordinary lamps in a row"
# Ids of objects that each operation may use up, by "METHOD /path".
SPARES = json.loads(os.environ.get("VALIDATE_SPARES", "{}"))
# File in which the responses are recorded.
ANSWERS = open(os.environ["VALIDATE_ANSWERS"], "a", encoding="utf-8")


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
    prove_in_one_way(case)
    write_once(case)
    show_a_token(case)


@schemathesis.hook
def after_call(ctx, case, response):
    """Records the response for check_coverage.py, because the server's log is only a sample."""
    try:
        code = response.json().get("code")
    except (AttributeError, ValueError):
        code = None
    print(json.dumps([case.method.upper(), case.operation.path, response.status_code, code]), file=ANSWERS, flush=True)


@schemathesis.hook
def filter_failure(ctx, failure, case, response):
    """Returns whether a failure counts. Exceptions, where Schemathesis is wrong:

    UseAfterFree: DELETE revokes a key or token. Revoked keys and tokens can still be read, with `status` `revoked`.
    Deleted resources can be read for 30 days, with `phase` `deleting` or `deleted`.

    MissingHeaderNotRejected: the command line option --header adds the omitted Authorization header again.
    """
    if type(failure).__name__ == "MissingHeaderNotRejected":
        return "Authorization" not in response.request.headers
    if type(failure).__name__ == "UseAfterFree" and case.operation.path in ("/v1/keys/{key_id}", "/v1/tokens/{token_id}"):
        return response.json().get("status") != "revoked"
    if type(failure).__name__ == "UseAfterFree" and case.operation.path == "/v1/resources/{resource_id}":
        return response.json().get("status", {}).get("phase") not in ("deleting", "deleted")
    return True


def spare_the_caller(case):
    """Sends requests that would revoke or restrict the caller to an id that does not exist: 404, as documented."""
    if case.method.upper() in ("DELETE", "PATCH", "POST"):
        for name, value in (case.path_parameters or {}).items():
            if value in SPARED:
                case.path_parameters[name] = value.split("_")[0] + "_1"


def name_the_project(case):
    """Names a project that exists. The server checks the project first, so 404 would hide every other error.

    The coverage phase tests one error at a time. A session must name a project, but the parameter is optional in the
    document, because keys and tokens may omit it.
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
        # The alternatives have the same members.
        schema = resolve(document, schema.get("oneOf", [schema])[0])
        required = "project_id" in schema.get("required", [])
        if "project_id" in schema.get("properties", {}) and must_name(case.body, covering, required):
            case.body["project_id"] = PROJECT


def resolve(document, value):
    """Resolves a reference. Returns other values unchanged."""
    while "$ref" in value:
        reference = value["$ref"]
        value = document
        for part in reference.removeprefix("#/").split("/"):
            value = value[part]
    return value


def must_name(members, covering, required=False):
    given = members.get("project_id")
    if given is None:
        # If the parameter is required for every caller, omitting it is an intended error.
        return CALLER == "session" and not required
    return covering and isinstance(given, str) and re.fullmatch(r"proj_[1-9a-f][0-9a-f]{0,31}", given) is not None


def keep_to_the_clock(body):
    """JSON Schema cannot express "later than now" or "not later than the end of your credential"."""
    if not isinstance(body, dict):
        return
    if is_past(body.get("expires_at")):
        body["expires_at"] = "2099-12-31T23:59:59Z"
    # The calling token was created with the maximum lifetime, so less than that remains.
    if CALLER == "token" and body.get("expires_in") in range(31_500_000, 31_536_001):
        body["expires_in"] = 31_500_000


def keep_to_this_month(case):
    """JSON Schema cannot express "not before the project was created", "at most 366 days" or "a returned cursor"."""
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
    """JSON Schema cannot express "earlier than"."""
    query = case.query or {}
    if case.operation.path == "/v1/audit-logs" and is_time(query.get("from")) and is_time(query.get("to")):
        query["from"], query["to"] = "2000-01-01T00:00:00Z", "2099-12-31T23:59:59Z"


def keep_to_this_week(case):
    """A pattern cannot express that an event is still kept. A valid cursor becomes one after all events."""
    query = case.query or {}
    if case.operation.path == "/v1/events" and re.fullmatch(r"evt_[1-9a-f][0-9a-f]{0,31}", str(query.get("cursor"))):
        query["cursor"] = "evt_" + "f" * 32


def keep_to_networks(body):
    """JSON Schema has no format for CIDR notation. A text of a suitable length becomes a network."""
    networks = body.get("allowed_ips") if isinstance(body, dict) else None
    if isinstance(networks, list):
        body["allowed_ips"] = [
            "203.0.113.0/24" if isinstance(network, str) and len(network) <= 43 else network for network in networks
        ]


def keep_to_a_receiver(body):
    """JSON Schema cannot express which hosts are rejected. Also, the tests must not send requests to real hosts."""
    url = body.get("url") if isinstance(body, dict) else None
    if isinstance(url, str) and len(url) <= 2048 and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url):
        body["url"] = "https://receiver.example/hooks"


def keep_to_its_own_rules(case):
    """When a key rotates itself, the overlap must be at least 300 seconds."""
    if CALLER == "key" and case.operation.path == "/v1/keys/{key_id}/rotate" and isinstance(case.body, dict):
        if case.body.get("overlap_seconds") in range(0, 300):
            case.body["overlap_seconds"] = 300


# For each kind, a spec that the simulated provider supports.
SPECS = {
    "network.network": {"cidr": "10.0.0.0/16"},
    "storage.volume": {"size_gib": 20},
    "compute.instance": {"size": "small", "image": "debian-12", "volumes": []},
}


def keep_to_what_a_provider_has(case):
    """No schema can express which providers, sizes and resources exist, or which actions they support.

    Intentionally invalid requests stay invalid. `wait` is shorter than the timeout of Schemathesis.
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
    """Returns whether this part of a request is intended to be valid."""
    if case.meta is None:
        return False
    for kind, component in case.meta.components.items():
        if getattr(kind, "value", kind) in (where, f"{where}_parameters"):
            return component.mode.value == "positive"
    return True


def accept_what_is_open(case):
    """A pattern cannot express that an invitation was issued. Uses each open invitation once."""
    if case.operation.path == "/v1/invitations/accept" and isinstance(case.body, dict) and INVITATIONS:
        token, password = case.body.get("token"), case.body.get("password")
        fits = isinstance(token, str) and token.startswith("inv_") and isinstance(password, str)
        if fits and 12 <= len(password) <= 128:
            case.body = {"token": INVITATIONS.pop(), "password": NEW_PASSWORD}


def use_a_spare(case):
    """Sends operations that need a certain state to an object in that state."""
    spares = SPARES.get(f"{case.method.upper()} {case.operation.path}")
    names = re.findall(r"{(\w+)}", case.operation.path)
    given = case.path_parameters or {}
    if spares and all(re.fullmatch(r"[a-z]+_[1-9a-f][0-9a-f]{0,31}", str(given.get(name))) for name in names):
        # The last spare is reused. A spare for several path parameters has several ids, separated by slashes.
        spare = spares.pop() if len(spares) > 1 else spares[0]
        given.update(zip(names, spare.split("/")))


def match_the_state(case):
    """Only the server knows the current entity tag; "*" matches any."""
    for name in list(case.headers or {}):
        if name.lower() == "if-match":
            case.headers[name] = "*"
        if name.lower() == "if-none-match":
            # A tag that no item has; otherwise the response is 304 or 412. Schemathesis also sends empty tags as valid.
            case.headers[name] = '"another"'


def know_the_password(case):
    """A schema cannot express the current password, or which new passwords are too easy to guess."""
    if case.operation.path == "/v1/users/me/password" and isinstance(case.body, dict):
        current, new = case.body.get("current_password"), case.body.get("new_password")
        plausible = isinstance(current, str) and isinstance(new, str) and len(current) <= 1024 and 12 <= len(new) <= 128
        if plausible and set(case.body) == {"current_password", "new_password"} and not re.search(r"[\x00-\x1f\x7f-\x9f]", new):
            case.body = {"current_password": PASSWORD, "new_password": PASSWORD}


def prove_in_one_way(case):
    """A sign-in has either a link or a password. Generators do not support schemas that exclude members."""
    body = case.body
    if not isinstance(body, dict) or not meant(case, "body"):
        return
    if case.operation.path == "/v1/sessions":
        # null counts as omitted.
        given = {name: value for name, value in body.items() if value is not None}
        if "sign_in_link" in given:
            case.body = {"sign_in_link": given["sign_in_link"]}
        elif {"email", "password"} <= set(given):
            # A new password replaces that of those who sign in with a link.
            case.body = {name: value for name, value in given.items() if name != "new_password"}
        else:
            case.body = {"email": "ada@example.com", "password": PASSWORD}
    if case.operation.path == "/v1/users/me/password" and ("sign_in_link" in body or body.get("current_password") is None):
        case.body = {"current_password": PASSWORD, "new_password": PASSWORD}
    if case.operation.path == "/v1/sessions/current/reauthenticate":
        case.body = {"password": PASSWORD}


def show_a_token(case):
    """In a form, an empty value counts as omitted (RFC 6749 section 3.2). The schema is shared with JSON."""
    if case.operation.path == "/v1/tokens/introspect" and isinstance(case.body, dict) and case.body.get("token") == "":
        case.body["token"] = "unknown"


def write_once(case):
    """Replaces a valid idempotency key with a new one, because each write is a different one."""
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
