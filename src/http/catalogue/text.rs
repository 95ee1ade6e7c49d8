//! The prose of the catalogue. An example is a `detail` that the server really writes.

use crate::base::error::Code;

/// What a reader should know of one code.
pub struct Text {
    /// What happened.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// A problem's `detail`.
    pub example: &'static str,
}

/// The text of a code.
pub const fn of(code: Code) -> Text {
    match code {
        Code::MalformedJson => Text {
            meaning: "The body could not be read as JSON. Besides broken syntax that is: text that is not UTF-8, a member that is there twice, lone surrogates, more than 32 levels of nesting, and anything after the value.",
            remedy: "Mend the body at the line and column that the detail names. A JSON library writes none of these by itself; look for text that was put together by hand or cut off.",
            example: "The body is not valid JSON: EOF while parsing an object at line 1 column 1; mend it and send it again",
        },
        Code::MalformedRequest => Text {
            meaning: "The request contradicts itself or broke off: a header that may be there once is there twice, a form names a member twice, or the body ended before its announced length.",
            remedy: "Send the header or the member once, or send the request again. If a proxy is in between, look whether it adds an Authorization header of its own.",
            example: "The 'authorization' header stands there more than once; send one",
        },
        Code::InvalidParameter => Text {
            meaning: "A query parameter has a value that it cannot have. Values out of range are refused, never silently cut to fit.",
            remedy: "Change the parameter that 'errors' names, or leave it out to get its default.",
            example: "'limit' must be at most 100; change it, or leave it out",
        },
        Code::UnknownParameter => Text {
            meaning: "The query string has a parameter that this operation does not know. It is refused rather than ignored, because a misspelt filter would otherwise give you everything.",
            remedy: "Correct its name or take it out. The detail names the nearest parameter that there is.",
            example: "'limt' is not a query parameter here; did you mean 'limit'?",
        },
        Code::DuplicateParameter => Text {
            meaning: "The same query parameter is there more than once.",
            remedy: "Give each parameter once.",
            example: "'limit' is given twice; give it once",
        },
        Code::InvalidCursor => Text {
            meaning: "The cursor is not one that this list can have given.",
            remedy: "Send the 'next_cursor' of the page before, unchanged and to the same list. Leave it out to start over.",
            example: "'cursor' is not the id of a project; send the 'next_cursor' of the page before, or leave it out to start over",
        },
        Code::UnexpectedBody => Text {
            meaning: "The request has a body, and this operation takes none.",
            remedy: "Send the request without a body. A Content-Type header may stay.",
            example: "GET /v1/projects takes no body; send none",
        },
        Code::ProjectRequired => Text {
            meaning: "A session may see several projects, and the request does not say which one is meant.",
            remedy: "Name the project as 'project_id': in the body of a POST, in the query string otherwise. With a key or a token it can be left out.",
            example: "A session sees several projects; name one as 'project_id', in the body of a POST and in the query string otherwise",
        },
        Code::MissingCredentials => Text {
            meaning: "The request has no credential that could be looked at. Credentials are taken from the Authorization header only, never from the query string or a cookie.",
            remedy: "Send 'Authorization: Bearer' and a session (sess_…), a key (sk_live_…) or a token (cap_…).",
            example: "This needs a credential; send 'Authorization: Bearer <session, key or token>'",
        },
        Code::InvalidToken => Text {
            meaning: "The credential is not one of this server's: it was cut off or mistyped, it belongs to another server, or there never was one like it.",
            remedy: "Copy it again, whole, and check that you are talking to the server that issued it. A secret is shown once; if it is lost, make a new one.",
            example: "This credential is not known here; check that it is complete and meant for this server",
        },
        Code::TokenExpired => Text {
            meaning: "The credential was valid and its time is over.",
            remedy: "Sign in again, or have a new key or token issued. Retrying with this one will not help.",
            example: "This credential expired at 2026-03-31T12:00:00.000Z; get a new one",
        },
        Code::TokenRevoked => Text {
            meaning: "The credential was revoked, or the credential that issued it was. What a key or token issued ends with it.",
            remedy: "Use another credential, or have a new one issued. A revoked one never works again.",
            example: "This credential was revoked; use another one",
        },
        Code::InvalidCredentials => Text {
            meaning: "Nobody signs in with this e-mail address and this password. Which of the two is wrong is not told.",
            remedy: "Check both and try again.",
            example: "The e-mail address or the password is wrong; check both and try again",
        },
        Code::InsufficientScope => Text {
            meaning: "The credential is valid, and what it may do does not include this. A session holds the scopes that its user's role has in the project, and some things are for an owner only.",
            remedy: "Use a credential with the scope that the detail and the WWW-Authenticate header name. Scopes are never added to a credential; issue one that has it, or have the role changed.",
            example: "This needs the scope 'users:read', which your credential does not have here; use one that has it",
        },
        Code::CredentialKindNotAllowed => Text {
            meaning: "Sessions, keys and tokens may each do different things, and this is not for the kind that was sent.",
            remedy: "Use a credential of the kind that the detail names.",
            example: "This cannot be done with a key (sk_live_…); use a session (sess_…)",
        },
        Code::IpNotAllowed => Text {
            meaning: "The key may be used from certain networks only, its 'allowed_ips', and the request came from elsewhere. A token is bound to the networks of the key that it descends from.",
            remedy: "Send the request from one of those networks, or have the key's 'allowed_ips' changed. Behind a proxy, have the operator look whether the server is told to trust it.",
            example: "This credential may not be used from 203.0.113.7; use it from one of its key's allowed_ips, or have those changed",
        },
        Code::ProjectSuspended => Text {
            meaning: "The project is suspended. None of its keys and tokens work until it is resumed; nothing of it is lost.",
            remedy: "Have an owner resume the project with a session. Its keys and tokens then work as before.",
            example: "The project is suspended, so its keys and tokens do not work; an owner can resume it",
        },
        Code::ProjectArchived => Text {
            meaning: "The project is archived, so none of its keys and tokens work. It may be resumed, or deleted for good.",
            remedy: "Use a project that is active, or have an owner resume this one with a session.",
            example: "The project is archived, so its keys and tokens do not work; an owner can resume it",
        },
        Code::ScopeEscalation => Text {
            meaning: "The key or token that was asked for would hold scopes that its issuer does not hold.",
            remedy: "Ask for fewer scopes, or issue it with a credential that holds them all.",
            example: "You cannot hand out what you do not hold: users:write; ask for less, or use a credential that holds it",
        },
        Code::RoleEscalation => Text {
            meaning: "The role that was to be given, or that the person already has, stands above your own in the project.",
            remedy: "Give a role that is not above your own, or ask somebody who has the higher one.",
            example: "The role 'owner' is above your own in this project; ask somebody who has it",
        },
        Code::ImportNotAllowed => Text {
            meaning: "The project may not import objects of this provider's account. An import takes over an object that others made, so the operator lists the projects that may.",
            remedy: "Ask the operator to add the project to 'import_projects' of the provider, or create a new resource.",
            example: "This project may not import objects of 'eu'; ask the operator to add proj_8f2c4 to import_projects of that provider",
        },
        Code::NotFound => Text {
            meaning: "Nothing with this id is visible to your credential. What belongs to somebody else, what never was and what is no id at all are answered alike, so that nobody can tell them apart.",
            remedy: "Check the id, and that it belongs to a project that your credential can see.",
            example: "There is nothing here that your credential can see; check the id, and that it belongs to a project of yours",
        },
        Code::RouteNotFound => Text {
            meaning: "The server has no such path, whatever the method and the credential.",
            remedy: "Check the spelling, the version (/v1) and that there is no slash at the end. /openapi.json lists every path.",
            example: "No such path; /openapi.json lists those there are",
        },
        Code::MethodNotAllowed => Text {
            meaning: "The path is there, and it does not answer this method.",
            remedy: "Use one of the methods that the Allow header names.",
            example: "This path answers GET, POST, HEAD, OPTIONS; use one of those",
        },
        Code::RequestTimeout => Text {
            meaning: "The body did not arrive in time. Nothing was changed.",
            remedy: "Send the request again. If it keeps happening, look at the connection between you and the server.",
            example: "The body did not arrive within 10 seconds; send the request again",
        },
        Code::InvalidIdempotencyKey => Text {
            meaning: "The Idempotency-Key header is not 1 to 255 visible ASCII characters, bare or in quotes, or stands there twice.",
            remedy: "Send one key, such as a UUID; a new one for each write, and the same one when you send that write again.",
            example: "The Idempotency-Key must be 1 to 255 visible ASCII characters, bare or in quotes; send a UUID, for example",
        },
        Code::IdempotencyInProgress => Text {
            meaning: "A request with the same Idempotency-Key, from the same sender, is being served right now.",
            remedy: "Wait the second in 'Retry-After' and send it again: you then get the first one's answer.",
            example: "A request with this Idempotency-Key is being served; wait a moment, and send it again to get its answer",
        },
        Code::IdempotencyReplaySealed => Text {
            meaning: "The write was done before and showed a secret. That answer is sealed to the bearer secret of whoever sent it, and yours is another one by now, after a new sign-in or a rotation.",
            remedy: "The problem names what was made. If you do not have its secret, rotate or revoke it, and make another with a new key.",
            example: "This was done before, and made key_7d1; its secret was shown to a credential of yours whose own secret has changed since. If it is lost, rotate or revoke key_7d1 and make another",
        },
        Code::IdempotencyKeyReused => Text {
            meaning: "The Idempotency-Key was used in the last 24 hours for a request with another method, path, query or body.",
            remedy: "Use a new key for each write. Repeat a key only to send the very same request again.",
            example: "This Idempotency-Key was used for another request in the last 24 hours; send each write with a key of its own",
        },
        Code::InvalidState => Text {
            meaning: "The object is in a state in which this cannot be done: an invitation that was used, withdrawn or has expired, a key that has ended, an archived project that should be suspended, a resource that is being deleted or was never made, an operation that is over.",
            remedy: "Do first what the detail says. Getting the object shows the state that it is in.",
            example: "The project is archived, which stops its credentials already; resume it first to suspend it",
        },
        Code::ProjectNotActive => Text {
            meaning: "The project is suspended or archived, and this can be done in an active project only.",
            remedy: "Have an owner resume the project, then send the request again.",
            example: "The project is suspended; an owner can resume it with POST /v1/projects/proj_8f2c4/resume",
        },
        Code::ProjectNotArchived => Text {
            meaning: "A project is deleted for good only after it was archived, so that nobody deletes one that is in use.",
            remedy: "Archive the project first, then delete it.",
            example: "Only an archived project can be deleted; archive it with POST /v1/projects/proj_8f2c4/archive, and then delete it",
        },
        Code::KeyRevoked => Text {
            meaning: "The key was revoked, and a revoked key cannot be changed or rotated.",
            remedy: "Create a new key. A revoked one is never brought back.",
            example: "The key is revoked, which cannot be undone; create another one",
        },
        Code::RotationInProgress => Text {
            meaning: "The key was rotated, and the secret from before still works. A key has two working secrets at most.",
            remedy: "Wait until the old secret has ended and rotate then. With a session and an overlap of 0 it can be done at once, which ends both.",
            example: "The key has two live secrets until 2026-03-31T12:00:00.000Z; rotate it then, or with a session and an overlap of 0, which ends both",
        },
        Code::WebhookDisabled => Text {
            meaning: "The webhook is disabled, so nothing is sent to it: a client disabled it, its receiver answered 410, or every attempt failed for five days. Its 'disabled_reason' says which.",
            remedy: "Mend the receiver, enable the webhook with PATCH and 'enabled' true, and ask again.",
            example: "The webhook is disabled, so nothing is sent to it; enable it with PATCH and 'enabled' true, and ask again",
        },
        Code::UrlNotAllowed => Text {
            meaning: "A webhook's URL leads where nothing is sent: to an address that is not on the public Internet, in whatever spelling, over http, or with a user name, a password or a fragment in it.",
            remedy: "Give an https URL on the public Internet. A receiver in a network of the operator's own needs that network in CLOUDAPI_WEBHOOK_ALLOW.",
            example: "The webhook's URL must be an https one; serve the receiver over TLS",
        },
        Code::LimitReached => Text {
            meaning: "There are already as many of these as there may be, such as 20 webhooks in a project, or resources of a kind as the operator lets a project have, or tokens are nested as deep as they may be. At the end of an event stream: its reader took the events so slowly that more waited for it than may.",
            remedy: "Remove what is no longer needed, or issue the token with a credential further up. Close streams that nobody reads; connect again with the last id as Last-Event-ID, and read faster.",
            example: "Tokens nest at most 8 deep; issue this one with a credential further up",
        },
        Code::ResourceInUse => Text {
            meaning: "Something else refers to the resource: an instance to the network that it is in, or to a volume that is attached to it. A volume is attached to one instance at a time, and an object at a provider is one resource only.",
            remedy: "The detail names what uses it. Delete that first, or take the resource out of its spec: detach the volume.",
            example: "It is used by res_9a1 and res_9a2; delete those first, or take it out of their spec",
        },
        Code::ResourceLocked => Text {
            meaning: "An operation on the resource is under way, and there is one at a time. Nothing was changed.",
            remedy: "Wait for the operation that the detail names, with GET /v1/operations/{id}?wait=60, then send the request again; or cancel it.",
            example: "An operation on res_5d7 is under way, op_8c4 (update); wait for it with GET /v1/operations/op_8c4?wait=60, and send this again",
        },
        Code::Protected => Text {
            meaning: "The resource has 'protection', so it is not deleted.",
            remedy: "If it shall go nonetheless, turn its protection off first: PATCH it with 'protection' false.",
            example: "res_5d7 is protected from deletion; PATCH it with 'protection' false first, if it shall go nonetheless",
        },
        Code::ProjectNotEmpty => Text {
            meaning: "The project still has cloud resources. Were it deleted, nobody could get at them any more, and they would go on costing money.",
            remedy: "Delete its resources first, and wait until they are gone. That can be done while the project is archived, with a session.",
            example: "The project still has resources: res_5d7; delete them first, and wait until they are gone",
        },
        Code::UnsupportedCapability => Text {
            meaning: "The request is well-formed, and asks for what the provider of the resource cannot do: a size or an image that it has not, a change that it can only make by making the thing anew, an action that the kind has not, a volume made smaller, or a kind of resource that it has not at all.",
            remedy: "Each item in 'errors' says what is not possible. GET /v1/providers/{name} lists what the provider can do. What cannot be changed can be made anew.",
            example: "The provider cannot do this: 'huge' is no size here; use one of: small, medium, large, xlarge",
        },
        Code::CursorExpired => Text {
            meaning: "The place in the events from which to go on is older than the seven days for which events are kept, so some may be missed that are not there any more.",
            remedy: "Read the things that you follow anew, for example with the lists, then start over without a cursor or a Last-Event-ID. What happened in between is in the audit trail.",
            example: "Events are kept for 7 days, and 'cursor' is older; read what you follow anew, then start over without it",
        },
        Code::AlreadyMember => Text {
            meaning: "The person that was to be invited is in the project already, or has an open invitation.",
            remedy: "Change their role instead. To send a new invitation, withdraw the open one first by removing them.",
            example: "ada@example.com is in this project, or invited to it; remove them first to invite them again",
        },
        Code::LastOwner => Text {
            meaning: "The project would be left without an owner, and nobody could then give that role back.",
            remedy: "Make somebody else an owner first.",
            example: "They are the project's last owner; make somebody else an owner first",
        },
        Code::PreconditionFailed => Text {
            meaning: "A precondition of the request does not hold: the item's ETag is not in If-Match, or it is in If-None-Match. Nothing was changed. A weak ETag (W/) never matches in If-Match.",
            remedy: "Get the item again, make your change to its current state, and send that with the new ETag.",
            example: "The ETag in If-Match is not the current one, which is \"2\"; get the item again, and repeat the change with that ETag if it still applies",
        },
        Code::PayloadTooLarge => Text {
            meaning: "The body is larger than the server takes, which is 64 KiB.",
            remedy: "Send less in one request.",
            example: "The body is larger than 65536 bytes; send less",
        },
        Code::UriTooLong => Text {
            meaning: "The path and query together are longer than the server takes.",
            remedy: "Shorten the query string.",
            example: "The path and query are longer than 8192 bytes; shorten them",
        },
        Code::UnsupportedMediaType => Text {
            meaning: "The body was not sent as plain JSON: its Content-Type is missing or not one that this operation takes, or it is compressed.",
            remedy: "Send JSON with 'Content-Type: application/json' and without Content-Encoding.",
            example: "The body must be JSON; send it with 'Content-Type: application/json'",
        },
        Code::HeadersTooLarge => Text {
            meaning: "The request's headers together are larger than the server takes.",
            remedy: "Send fewer or shorter headers. Cookies are not used here and can be left out.",
            example: "The headers are larger than 16384 bytes; send fewer or shorter ones",
        },
        Code::ValidationFailed => Text {
            meaning: "The body is JSON, and some of its members are missing, unknown or have values that they cannot have.",
            remedy: "Mend what 'errors' lists: each item has a JSON Pointer to the member, a code for programs and a sentence for people. All faults are listed at once.",
            example: "1 member is invalid; 'errors' says which and why",
        },
        Code::InvalidCurrentPassword => Text {
            meaning: "A new password needs the present one, and what was sent is not it. The password was not changed.",
            remedy: "Send the password that you sign in with as 'current_password'. Who has forgotten it asks the operator to set a new one.",
            example: "'current_password' is not your password; check it, or ask the operator to set a new one",
        },
        Code::RateLimited => Text {
            meaning: "More requests came than are allowed in so much time: with this credential, or from this address without a valid one or to sign in.",
            remedy: "Wait as long as the Retry-After header says, then send the request again. RateLimit and RateLimit-Policy, on answers to a credential with a limit, tell beforehand how much is left.",
            example: "This credential may make 600 requests in 60 s; wait 1 s, and send it again",
        },
        Code::QuotaExceeded => Text {
            meaning: "The project has made as many requests this month (UTC) as the operator lets it make at most. Its keys and tokens are refused until the month is over or the operator allows more; sessions still work.",
            remedy: "Ask the operator for more, or wait as long as the Retry-After header says, which is until the month is over. A session can look at GET /v1/usage/breakdown to see which key or route used them.",
            example: "The project has made all the requests that it may this month; ask the operator for more, or wait until 2026-04-01T00:00:00.000Z. A session still works",
        },
        Code::Internal => Text {
            meaning: "The server failed, through no fault of the request. The cause is in the server's log under the request's id.",
            remedy: "Send the request again. If it keeps failing, give the operator the 'request_id'.",
            example: "The server failed, and its log says why; retry, and if it lasts send the operator the request id",
        },
        Code::Overloaded => Text {
            meaning: "More is going on than the server can do at once. Nothing was changed.",
            remedy: "Wait as long as the Retry-After header says, then send the request again, and wait longer each time it happens.",
            example: "Every database connection is in use; retry in a moment",
        },
        Code::DatabaseUnavailable => Text {
            meaning: "The server cannot reach its database, the database takes no writes, as during a failover or when its disk is full, or the server is still starting. Nothing was changed.",
            remedy: "Wait as long as the Retry-After header says, then send the request again. If it lasts, ask the operator: /readyz says what is wrong.",
            example: "The database cannot be reached; retry in a moment",
        },
        Code::AuthUnavailable => Text {
            meaning: "Your credential could not be checked: the database is out of reach, or the server cannot tell that the database it reaches is up to date, as during a failover. That says nothing about the credential.",
            remedy: "Keep the credential, wait as long as the Retry-After header says, and send the request again.",
            example: "Credentials cannot be checked while the database is unreachable; retry in a moment",
        },
        Code::RevocationUnconfirmed => Text {
            meaning: "The connection to the database broke just when the change was being committed, so it is not known whether it took effect. The change is one that takes something from a credential, such as a revocation.",
            remedy: "Send the request again until it is answered with 200. Repeating it is safe: what was revoked stays revoked, and the answer waits until every server knows.",
            example: "Whether this took effect is not known, because the database's answer was lost; send it again until it is answered",
        },
        Code::OutcomeUnknown => Text {
            meaning: "The write may or may not have been done: the connection to the database broke while the write was being committed, or the commit took too long, as when a synchronous standby is lost.",
            remedy: "Send the request again with the same Idempotency-Key: if the write was done, you get its answer, else it is done now. Without a key, check whether it was done before you send it again; repeating it could do it twice.",
            example: "The database has not confirmed this write, so it may or may not have been done; send it again with the same Idempotency-Key to get its result",
        },
        Code::Timeout => Text {
            meaning: "The request took longer than it may. Nothing was changed.",
            remedy: "Wait as long as the Retry-After header says, then send the request again.",
            example: "The request took too long; retry in a moment",
        },
    }
}
