//! Texts of the error catalog. Each example is a `detail` that the server writes.

use crate::base::error::Code;

/// Text of one error code.
pub struct Text {
    /// What is wrong.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// Example of a problem's `detail`.
    pub example: &'static str,
}

/// Returns the text of a code.
pub const fn of(code: Code) -> Text {
    match code {
        Code::MalformedJson => Text {
            meaning: "The body is not valid JSON. Text that is not UTF-8, duplicate members, lone surrogates, more than 32 levels of nesting, and text after the value are also rejected.",
            remedy: "Fix the body at the line and column that the detail names. A JSON library does not produce these errors; check for text that was assembled by hand or truncated.",
            example: "The body is not valid JSON: EOF while parsing an object at line 1 column 1; fix it and send it again",
        },
        Code::MalformedRequest => Text {
            meaning: "The request is ambiguous or incomplete: a header or a form parameter that must not be repeated is duplicated, a header is invalid, or the body ended before its announced length.",
            remedy: "Follow the detail and send the request again. If there is a proxy, check whether it adds an Authorization header.",
            example: "The 'authorization' header is duplicated; send it once",
        },
        Code::InvalidParameter => Text {
            meaning: "The value of a query parameter is invalid. A value out of range is rejected, never clamped.",
            remedy: "Change the parameter that 'errors' names, or omit it to use its default.",
            example: "'limit' must be at most 100; change or omit it",
        },
        Code::UnknownParameter => Text {
            meaning: "The query string has a parameter that this operation does not have. Unknown parameters are rejected because a misspelled filter would otherwise return everything.",
            remedy: "Correct the name or remove the parameter. The detail suggests the most similar parameter.",
            example: "'limt' is not a query parameter of this operation; did you mean 'limit'?",
        },
        Code::DuplicateParameter => Text {
            meaning: "A query parameter is given more than once.",
            remedy: "Send each query parameter at most once.",
            example: "'limit' is duplicated; send it once",
        },
        Code::InvalidCursor => Text {
            meaning: "The cursor is not valid for this list or stream.",
            remedy: "Send the 'next_cursor' of the previous page unchanged, to the same list. Omit the cursor to start over.",
            example: "'cursor' is not the id of a project; send the 'next_cursor' of the previous page, or omit it to start over",
        },
        Code::UnexpectedBody => Text {
            meaning: "The request has a body, but this operation does not accept one.",
            remedy: "Send the request without a body. A Content-Type header is allowed.",
            example: "GET /v1/projects does not accept a body; send the request without one",
        },
        Code::ProjectRequired => Text {
            meaning: "A session can see several projects, and the request does not name one.",
            remedy: "Send 'project_id': in the body of a POST, otherwise in the query string. With a key or a token, you can omit it.",
            example: "A session has access to several projects; name one as 'project_id', in the body of a POST, otherwise in the query string",
        },
        Code::MissingCredentials => Text {
            meaning: "The request has no credential. The server accepts credentials only in the Authorization header, not in the query string or in a cookie.",
            remedy: "Send 'Authorization: Bearer' with a session (sess_…), a key (sk_live_…) or a token (cap_…).",
            example: "This operation requires a credential; send 'Authorization: Bearer <session, key or token>'",
        },
        Code::InvalidToken => Text {
            meaning: "The credential is not valid on this server: it is truncated or mistyped, it belongs to another server, or it never existed.",
            remedy: "Copy the whole credential again, and check that you use the server that issued it. A secret is shown only once; if it is lost, create a new one.",
            example: "This credential is unknown; check that it is complete and belongs to this server",
        },
        Code::TokenExpired => Text {
            meaning: "The credential has expired.",
            remedy: "Sign in again, or get a new key or token. Do not retry with this credential.",
            example: "This credential expired at 2026-03-31T12:00:00.000Z; get a new one",
        },
        Code::TokenRevoked => Text {
            meaning: "The credential, or the credential that issued it, was revoked. Revoking a key or token also revokes every token issued under it.",
            remedy: "Use another credential, or get a new one. A revoked credential never works again.",
            example: "This credential was revoked; use another one",
        },
        Code::InvalidCredentials => Text {
            meaning: "The email address or the password is wrong, which the response does not tell apart, or the sign-in link was used before or has expired.",
            remedy: "Check both and try again. A sign-in link works once, within 60 minutes: ask the operator for a new one.",
            example: "The email address or the password is wrong; check both and try again",
        },
        Code::InsufficientScope => Text {
            meaning: "The credential is valid but does not have the required permission. A session has the scopes of its user's role in the project, and some operations are for owners only.",
            remedy: "Use a credential with the scope that the detail and the WWW-Authenticate header name, issue a new credential with that scope, or ask for a different role.",
            example: "This operation requires the scope 'users:read', which your credential does not have in this project; use one that has it",
        },
        Code::CredentialKindNotAllowed => Text {
            meaning: "This operation does not accept this kind of credential. Sessions, keys and tokens have different permissions.",
            remedy: "Use a credential of the kind that the detail names.",
            example: "A key (sk_live_…) cannot call this operation; use a session (sess_…)",
        },
        Code::IpNotAllowed => Text {
            meaning: "The key is restricted to the networks in its 'allowed_ips', and the request came from another address. A token has the restriction of the key that it was issued under.",
            remedy: "Send the request from one of those networks, or change the key's 'allowed_ips'. If the server is behind a proxy, ask the operator whether the server is configured to trust the proxy.",
            example: "This credential may not be used from 203.0.113.7; use it from an address in its key's allowed_ips, or change allowed_ips",
        },
        Code::ReauthenticationRequired => Text {
            meaning: "The operation hands out access, and the user of this console session last proved who they are more than 15 minutes ago. Only sessions of the console get this error.",
            remedy: "Enter your password, or use a sign-in link, with POST /v1/sessions/current/reauthenticate. Then send the request again.",
            example: "You last proved who you are at 2026-03-31T12:00:00.000Z, more than 15 minutes ago; do it again with POST /v1/sessions/current/reauthenticate, then repeat the request",
        },
        Code::ProjectSuspended => Text {
            meaning: "The project is suspended. Its keys and tokens do not work until it is resumed. No data is lost.",
            remedy: "Ask an owner to resume the project with a session. Its keys and tokens then work as before.",
            example: "The project is suspended, so its keys and tokens do not work; an owner can resume it",
        },
        Code::ProjectArchived => Text {
            meaning: "The project is archived, so its keys and tokens do not work. It can be resumed, or permanently deleted.",
            remedy: "Use an active project, or ask an owner to resume this one with a session.",
            example: "The project is archived, so its keys and tokens do not work; an owner can resume it",
        },
        Code::ScopeEscalation => Text {
            meaning: "The key or token would have scopes that its issuer does not have.",
            remedy: "Request fewer scopes, or use a credential that has all of them.",
            example: "You cannot grant scopes that you do not have: users:write; request fewer scopes, or use a credential that has them",
        },
        Code::RoleEscalation => Text {
            meaning: "The role to assign, or the current role of the user, is above your own role in the project.",
            remedy: "Assign a role that is not above your own, or ask a user with the higher role.",
            example: "The role 'owner' is above your own in this project; ask a user who has it",
        },
        Code::ImportNotAllowed => Text {
            meaning: "The project may not import objects of this provider's account. An import takes over an object that others created, so the operator lists the projects that may import.",
            remedy: "Ask the operator to add the project to 'import_projects' of the provider, or create a new resource.",
            example: "This project may not import objects of 'eu'; ask the operator to add proj_8f2c4 to import_projects of that provider",
        },
        Code::NotFound => Text {
            meaning: "No object with this id is visible to your credential. The response is the same for an object of another project, an object that does not exist and an invalid id, so that it does not reveal which objects exist.",
            remedy: "Check the id, and that the object belongs to a project that your credential can see.",
            example: "No object with this id is visible to your credential; check the id and the project that it belongs to",
        },
        Code::RouteNotFound => Text {
            meaning: "The path does not exist on this server, for any method or credential.",
            remedy: "Check the spelling and the version (/v1), and remove a trailing slash. /openapi.json lists all paths.",
            example: "The path does not exist; /openapi.json lists all paths",
        },
        Code::MethodNotAllowed => Text {
            meaning: "The path exists but does not support this method.",
            remedy: "Use one of the methods in the Allow header.",
            example: "This path supports GET, POST, HEAD, OPTIONS; use one of these methods",
        },
        Code::RequestTimeout => Text {
            meaning: "The body did not arrive in time. Nothing was changed.",
            remedy: "Send the request again. If the error persists, check the connection between you and the server.",
            example: "The body did not arrive within 10 seconds; send the request again",
        },
        Code::InvalidIdempotencyKey => Text {
            meaning: "The Idempotency-Key header is duplicated, or is not 1 to 255 visible ASCII characters, bare or in quotes.",
            remedy: "Send one key, such as a UUID. Use a new key for each write, and the same key when you retry that write.",
            example: "The Idempotency-Key must be 1 to 255 visible ASCII characters, bare or in quotes; send a UUID, for example",
        },
        Code::IdempotencyInProgress => Text {
            meaning: "Another request with the same Idempotency-Key from the same sender is in progress.",
            remedy: "Wait for the number of seconds in 'Retry-After' and send the request again. The server then returns the response to the first request.",
            example: "A request with this Idempotency-Key is in progress; wait a moment, and send it again to get its response",
        },
        Code::IdempotencyReplaySealed => Text {
            meaning: "The write was executed before, and its response contains a secret. That response is encrypted with the sender's bearer secret, and yours has changed since, by a new sign-in or a rotation.",
            remedy: "Read the id of the created object in the detail. If you do not have its secret, rotate or revoke the object, and create another with a new Idempotency-Key.",
            example: "This write was executed before and created key_7d1; its secret was returned to a credential of yours whose bearer secret has changed since. If it is lost, rotate or revoke key_7d1 and create another",
        },
        Code::IdempotencyKeyReused => Text {
            meaning: "The Idempotency-Key was used in the last 24 hours for a request with a different method, path, query or body.",
            remedy: "Use a new key for each write. Reuse a key only to retry the same request.",
            example: "This Idempotency-Key was used for another request in the last 24 hours; use a new key for each write",
        },
        Code::InvalidState => Text {
            meaning: "The state of the object does not allow the request. Examples are an invitation that was used, withdrawn or has expired, an expired key, suspending an archived project, a resource that is being deleted or was never created, and an operation that has ended.",
            remedy: "Follow the detail. Get the object to see its current state.",
            example: "The project is archived, so its keys and tokens are already disabled; resume it before you suspend it",
        },
        Code::ProjectNotActive => Text {
            meaning: "The project is suspended or archived, and the request requires an active project.",
            remedy: "Ask an owner to resume the project, then send the request again.",
            example: "The project is suspended; an owner can resume it with POST /v1/projects/proj_8f2c4/resume",
        },
        Code::ProjectNotArchived => Text {
            meaning: "Only an archived project can be deleted, so that a project in use is not deleted by mistake.",
            remedy: "Archive the project, then delete it.",
            example: "Only an archived project can be deleted; archive it with POST /v1/projects/proj_8f2c4/archive, and then delete it",
        },
        Code::KeyRevoked => Text {
            meaning: "The key is revoked. A revoked key cannot be changed or rotated.",
            remedy: "Create a new key. A revocation cannot be undone.",
            example: "The key is revoked, which cannot be undone; create another one",
        },
        Code::RotationInProgress => Text {
            meaning: "The secret was rotated, and the previous secret still works. At most two secrets work at the same time.",
            remedy: "Rotate after the previous secret has expired, or rotate with an overlap of 0, which ends all older secrets immediately. For a key, an overlap of 0 requires a session.",
            example: "The key has two valid secrets until 2026-03-31T12:00:00.000Z; rotate it after that, or with a session and an overlap of 0, which revokes both",
        },
        Code::WebhookDisabled => Text {
            meaning: "The webhook is disabled, so nothing is sent to it. A client disabled it, its receiver responded with 410, or every attempt failed for five days. Its 'disabled_reason' says which.",
            remedy: "Fix the receiver, enable the webhook with PATCH and 'enabled' true, and send the request again.",
            example: "The webhook is disabled; enable it with PATCH and 'enabled' true, then retry",
        },
        Code::UrlNotAllowed => Text {
            meaning: "The server does not send webhooks to this URL: its address is not on the public Internet, in any spelling, it is not https, or it contains a user name, a password or a fragment.",
            remedy: "Use an https URL on the public Internet. For a receiver in a private network, ask the operator to add the network to CLOUDAPI_WEBHOOK_ALLOW.",
            example: "The webhook's URL must use https; serve the receiver over TLS",
        },
        Code::LimitReached => Text {
            meaning: "A limit is reached, such as 20 webhooks in a project, the project's quota of resources, the number of open event streams, or the nesting of tokens. At the end of an event stream, it means that the client read too slowly and too many events were waiting.",
            remedy: "Delete what you no longer need, close unused streams, or issue the token with a credential at a higher level. After the end of a stream, reconnect with the last id as Last-Event-ID, and read faster.",
            example: "Tokens can be nested at most 8 levels deep; issue this one with a credential higher in the chain",
        },
        Code::ResourceInUse => Text {
            meaning: "Another resource refers to this one: an instance uses its network and its attached volumes. A volume can be attached to only one instance, and an object at a provider can be only one resource.",
            remedy: "Delete the resource that the detail names, or remove the reference from its spec: detach the volume.",
            example: "The resource is used by res_9a1 and res_9a2; delete those first, or remove it from their spec",
        },
        Code::ResourceLocked => Text {
            meaning: "An operation on the resource is in progress, and only one can run at a time. Nothing was changed.",
            remedy: "Wait for the operation that the detail names, with GET /v1/operations/{id}?wait=60, then send the request again. Or cancel the operation.",
            example: "An operation on res_5d7 is in progress: op_8c4 (update); wait for it with GET /v1/operations/op_8c4?wait=60, then retry",
        },
        Code::Protected => Text {
            meaning: "The resource is not deleted, because its 'protection' is on.",
            remedy: "To delete the resource, first turn its protection off: PATCH it with 'protection' false.",
            example: "res_5d7 is protected from deletion; to delete it, first PATCH it with 'protection' false",
        },
        Code::ProjectNotEmpty => Text {
            meaning: "The project still has cloud resources. If the project were deleted, nobody could access them, and they would continue to cost money.",
            remedy: "Delete the project's resources with a session, which also works while the project is archived. Wait until they are deleted, then delete the project.",
            example: "The project still has resources: res_5d7; delete them first, and wait until they are gone",
        },
        Code::UnsupportedCapability => Text {
            meaning: "The request is valid, but the provider does not support it: the kind of resource, the size or the image, the action for this kind, a smaller volume, or a change that would require a new object.",
            remedy: "Change what each item in 'errors' names. GET /v1/providers/{name} lists what the provider supports. To change what cannot be changed, create a new resource.",
            example: "The provider does not support this: unknown size 'huge'; use one of: small, medium, large, xlarge",
        },
        Code::CursorExpired => Text {
            meaning: "The cursor or Last-Event-ID is older than the 7 days for which events are kept, so events after it may be missing.",
            remedy: "Read the current state of the objects that you track, for example with the lists. Then start over without a cursor or a Last-Event-ID. The audit trail has what happened in between.",
            example: "Events are kept for 7 days, and 'cursor' is older; reload the current state, then start over without it",
        },
        Code::AlreadyMember => Text {
            meaning: "The invited person is already a member of the project, or has an open invitation.",
            remedy: "Change the person's role instead. To send a new invitation, first withdraw the open one by removing the user.",
            example: "ada@example.com is already in this project or invited to it; remove the user first to send a new invitation",
        },
        Code::LastOwner => Text {
            meaning: "The project would have no owner left, and nobody could assign that role again.",
            remedy: "Make another user an owner first.",
            example: "This user is the last owner of the project; make another user an owner first",
        },
        Code::PreconditionFailed => Text {
            meaning: "A precondition of the request failed: If-Match does not have the item's current ETag, or If-None-Match has it. Nothing was changed. A weak ETag (W/) never matches in If-Match.",
            remedy: "Get the item again, apply your change to its current state, and send it with the new ETag.",
            example: "If-Match does not have the current ETag, which is \"2\"; get the item again, and repeat the change with that ETag if it still applies",
        },
        Code::PayloadTooLarge => Text {
            meaning: "The body is larger than the limit of 64 KiB.",
            remedy: "Send less data in one request.",
            example: "The body is larger than 65536 bytes; send less",
        },
        Code::UriTooLong => Text {
            meaning: "The path and query together are longer than the limit.",
            remedy: "Shorten the query string.",
            example: "The path and query are longer than 8192 bytes; shorten them",
        },
        Code::UnsupportedMediaType => Text {
            meaning: "The Content-Type of the body is missing or not supported by this operation, or the body is compressed.",
            remedy: "Send JSON with 'Content-Type: application/json' and without Content-Encoding.",
            example: "The body must be JSON; send it with 'Content-Type: application/json'",
        },
        Code::HeadersTooLarge => Text {
            meaning: "The headers of the request together are larger than the limit.",
            remedy: "Send fewer or shorter headers. The API does not use cookies; omit them.",
            example: "The headers are larger than 16384 bytes; send fewer or shorter ones",
        },
        Code::ValidationFailed => Text {
            meaning: "The body is valid JSON, but members are missing, unknown or have invalid values.",
            remedy: "Fix the members that 'errors' lists. Each item has a JSON Pointer to the member, a code for programs and a sentence for people. All invalid members are listed, up to 50.",
            example: "1 member is invalid; 'errors' says which and why",
        },
        Code::InvalidCurrentPassword => Text {
            meaning: "The current password in the request is wrong. Nothing was changed.",
            remedy: "Send the password that you sign in with. If you have forgotten it, ask the operator for a sign-in link, and send the link instead.",
            example: "'current_password' is not your password; check it, or ask the operator for a sign-in link",
        },
        Code::RateLimited => Text {
            meaning: "Too many requests were sent in a period of time: with this credential, or from this address for sign-ins and requests without a valid credential.",
            remedy: "Wait for the number of seconds in Retry-After, then send the request again. For a credential with a limit, the RateLimit and RateLimit-Policy headers of each response show the remaining requests.",
            example: "This credential can make 600 requests per 60 s; wait 1 s, then send the request again",
        },
        Code::QuotaExceeded => Text {
            meaning: "The project has reached the hard limit of requests per month (UTC) that the operator set. Its keys and tokens are rejected until the month ends or the operator raises the limit. Sessions still work.",
            remedy: "Ask the operator to raise the limit, or wait for the number of seconds in Retry-After, which is until the end of the month. GET /v1/usage/breakdown with a session shows which key or route caused the requests.",
            example: "The project has reached its hard limit of requests for this month; ask the operator to raise it, or wait until 2026-04-01T00:00:00.000Z. Sessions still work",
        },
        Code::Internal => Text {
            meaning: "The server failed. The request is not the cause. The server's log has the cause under the request id.",
            remedy: "Send the request again. If the error persists, send the 'request_id' to the operator.",
            example: "The server failed, and its log says why; retry, and if the error persists, send the request id to the operator",
        },
        Code::Overloaded => Text {
            meaning: "The server has more work than it can handle at present. Nothing was changed.",
            remedy: "Wait for the number of seconds in Retry-After, then send the request again. Increase the delay with each retry.",
            example: "Every database connection is in use; retry in a moment",
        },
        Code::DatabaseUnavailable => Text {
            meaning: "The server cannot reach its database, the database does not accept writes, for example during a failover or because its disk is full, or the server is still starting. Nothing was changed.",
            remedy: "Wait for the number of seconds in Retry-After, then send the request again. If the error persists, ask the operator: /readyz reports the cause.",
            example: "The database cannot be reached; retry in a moment",
        },
        Code::AuthUnavailable => Text {
            meaning: "The server could not check your credential: it cannot reach the database, or it cannot verify that the database is up to date, for example during a failover. The credential may be valid.",
            remedy: "Keep the credential, wait for the number of seconds in Retry-After, and send the request again.",
            example: "Credentials cannot be checked while the database is unreachable; retry in a moment",
        },
        Code::RevocationUnconfirmed => Text {
            meaning: "The database connection failed during the commit, so it is unknown whether the change took effect. The change is a revocation, or takes other permissions from a credential.",
            remedy: "Send the request again until the response is 200. Repeating it is safe: what was revoked stays revoked, and the server responds only after every server knows.",
            example: "Whether this took effect is unknown, because the database's response was lost; send it again until you get a response",
        },
        Code::OutcomeUnknown => Text {
            meaning: "The write may or may not have been committed: the database connection failed during the commit, or the commit took too long, for example because a synchronous standby was lost.",
            remedy: "Send the request again with the same Idempotency-Key: if the write was committed, you get its response; otherwise, the server executes it now. Without a key, check whether the write was committed before you retry, because a retry could execute it twice.",
            example: "The database has not confirmed this write, so it may or may not have been committed; send it again with the same Idempotency-Key to get its result",
        },
        Code::Timeout => Text {
            meaning: "The request took longer than the limit. Nothing was changed.",
            remedy: "Wait for the number of seconds in Retry-After, then send the request again.",
            example: "The request took too long; retry in a moment",
        },
    }
}
