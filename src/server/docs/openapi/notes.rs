//! Descriptions of operations: details that the summary and the schemas do not give.

/// Notes by operation ID. A test checks that each ID belongs to an operation.
pub const NOTES: &[(&str, &str)] = &[
    (
        "sessions_create",
        "Signs a user in with an email address and a password, or with a sign-in link. The response is the only one that \
         contains the session's secret. The response to a wrong password and to an unknown address is the same. A link \
         works once, within 60 minutes. With `new_password`, a link also sets a new password, which ends the user's \
         other sessions. A session ends when \
         its user signs out or changes the password in another session, 30 days after its creation, or after 12 hours \
         without a request.",
    ),
    ("sessions_list", "Lists your active sessions. Sessions that have ended are not included."),
    ("sessions_revoke_current", "Signs out: ends the session that sends the request."),
    ("sessions_revoke", "Ends one of your sessions. Repeating the request returns the same response."),
    (
        "sessions_reauthenticate",
        "Proves again that the session's user is present, with the password or with a sign-in link. A session of the \
         console needs that every 15 minutes for operations that hand out access; otherwise they return 403 \
         `reauthentication_required`. Other sessions do not need it.",
    ),
    (
        "users_me",
        "Returns the session's user, the session, and the user's first 100 memberships with the role in each project.",
    ),
    (
        "users_change_password",
        "Changes your password and ends your other sessions. If you forgot it, or have none, a sign-in link from the \
         operator takes the place of `current_password`. Repeating the request fails, because the proof is no longer \
         valid.",
    ),
    (
        "users_accept",
        "Makes the invited person a member of the project and signs them in. For a new email address, `password` \
         becomes the password of the new account. For an address that has an account, `password` must be the account's \
         current password: an invitation does not give access to an existing account. An invitation works once and \
         expires after 7 days.",
    ),
    (
        "projects_list",
        "Lists the projects that your credential can see: with a session, all projects that its user is a member of; \
         with a key or token, its own project.",
    ),
    (
        "projects_overview",
        "Summarizes a project in one call: usage of the current month by day, quota, numbers of keys, keys that expire \
         within 14 days or were not used for 90 days, webhooks that are disabled or fail, and resources with conditions. A \
         part that the caller has no scope for is null.",
    ),
    ("projects_create", "Creates a project. The session's user becomes its owner."),
    (
        "projects_update",
        "Changes the name or the metadata. Omitted members keep their value; `metadata` is replaced as a whole. To \
         avoid overwriting a state that you have not seen, send its `ETag` as `If-Match`.",
    ),
    (
        "projects_delete",
        "Permanently deletes the project with its keys, tokens and members. Its usage can no longer be read. The \
         project must be archived and must not have resources. For at least 24 hours, repeating the request as an \
         owner of the project returns the same response.",
    ),
    (
        "projects_suspend",
        "Immediately stops the project's keys and tokens: they get 403 `project_suspended` until the project is \
         resumed. Members can still read the project, revoke keys and tokens, and remove users, but cannot add or \
         change anything. Repeating the request changes nothing and returns the same response.",
    ),
    (
        "projects_resume",
        "Makes a suspended or archived project active again, so that its keys and tokens work as before. Repeating the \
         request changes nothing and returns the same response.",
    ),
    (
        "projects_archive",
        "Stops the project's keys and tokens: they get 403 `project_archived`. An archived project can be resumed or \
         deleted. Repeating the request changes nothing and returns the same response.",
    ),
    (
        "keys_create",
        "Creates an API key for a project. The response is the only one that contains its secret. The key belongs to \
         the project and stays valid when its creator leaves the project. If `scopes` is omitted, the key gets every \
         `:read` scope, `tokens:write`, `tokens:introspect` and `keys:write`, limited to the scopes that you have.",
    ),
    ("keys_list", "Lists a project's keys, including revoked and expired keys; `status` tells them apart."),
    (
        "keys_update",
        "Changes the key's name, scopes, expiration time, networks, rate limit or metadata. Omitted members keep their \
         value. Restrictions also apply to the tokens issued under the key, immediately. A revoked key cannot be \
         changed.",
    ),
    (
        "keys_rotate",
        "Creates a new secret for the key, which keeps its id, its settings and its tokens. The response is the only \
         one that contains the new secret. Both secrets work until `previous_expires_at`; after that, the old secret \
         gets 401 `token_expired`. A key has at most two active secrets. With a session, `overlap_seconds: 0` is \
         always possible and immediately ends all older secrets.",
    ),
    (
        "keys_revoke",
        "Revokes the key and every token issued under it. The revocation takes effect on all servers before the \
         response is sent, and cannot be undone. Repeating the request returns the same response, or 401 if the key \
         revoked itself.",
    ),
    (
        "tokens_create",
        "Creates a token with its own scopes, for a service. The response is the only one that contains its secret. \
         The token depends on its issuer: it never has more access than the issuer has now, and ends with the issuer. \
         A token that a session issues depends on the user's membership in the project, not on the session. Tokens can \
         be nested at most 8 levels deep.",
    ),
    (
        "tokens_introspect",
        "Returns what a key or token of your project may do, if it is active (RFC 7662). The request body is JSON or a \
         form. For any other text, of any length, the response is `{\"active\":false}` without further members. Other \
         parameters are ignored. In a form, a parameter without a value counts as omitted, and a repeated one is \
         rejected (RFC 6749 §3.2). `allowed_ips` is not checked, because the service that asks is not the client.",
    ),
    ("tokens_list", "Lists a project's tokens, including revoked and expired tokens; `status` tells them apart."),
    (
        "tokens_revoke",
        "Revokes the token and every token issued under it. The revocation takes effect on all servers before the \
         response is sent, and cannot be undone. Repeating the request returns the same response.",
    ),
    (
        "users_list",
        "Lists a project's members, and the people who are invited and have not accepted yet, with `status` `invited`.",
    ),
    (
        "users_create",
        "Invites a person to a project. The response is the only one that contains the invitation's secret: pass it to \
         the person. They have no access until they accept. The role can be at most your own.",
    ),
    (
        "users_update",
        "Changes a member's role. You cannot change a user whose role is above your own. A project keeps at least one \
         owner.",
    ),
    (
        "users_remove",
        "Removes a user from a project, or withdraws an invitation. The user immediately loses access to the project, \
         and the tokens that their sessions issued there are revoked. Keys that they created stay, because keys belong \
         to the project. A project keeps at least one owner. Repeating the request returns the same response for at \
         least 24 hours.",
    ),
    (
        "usage_get",
        "Returns the usage of a billing period, by default of the current one. A request is counted once, when its \
         response is ready, and is included at most about one second later.",
    ),
    ("usage_breakdown", "Groups the counted requests by key, token, route or day, or by several of them."),
    ("usage_periods", "Lists all billing periods since the project was created, open and final, with their usage."),
    (
        "resources_create",
        "Creates a network, a volume or an instance. The response is sent immediately, and the resource is created \
         afterwards: `Location` names the operation, and `GET /v1/operations/{id}?wait=60` waits until it ends. `spec` \
         can refer to resources that are still being created. Referring to a network or a volume also requires its \
         `:read` scope. The resource counts towards the project's quota immediately. With `ttl_seconds`, it is deleted \
         automatically. With `?dry_run=true`, every check runs, nothing is changed, and the `Idempotency-Key` is not \
         used up.",
    ),
    (
        "resources_import",
        "Turns an object that already exists at the provider into a resource. The object's current state becomes the \
         resource's `spec`. The operation fails if the object carries the tags of another deployment or of another \
         resource.",
    ),
    (
        "resources_list",
        "Lists a project's resources of the kinds that your credential can read. Deleted resources are included only \
         with `phase=deleted`; they are kept for 30 days.",
    ),
    (
        "resources_update",
        "Changes the desired state. Omitted members keep their value; `labels` is replaced as a whole, `spec` member \
         by member. A change that does not involve the provider is complete when the response arrives: its operation \
         has already `succeeded`. Repeating a change to a `failed` resource retries it. To avoid overwriting a state \
         that you have not seen, send its `etag` as `If-Match`.",
    ),
    (
        "resources_delete",
        "Deletes the resource at its provider. A resource that is protected, or that another resource refers to, is \
         not deleted. Repeating the request returns the operation that deletes, or has deleted, the resource.",
    ),
    (
        "resources_act",
        "Starts, stops, reboots or resizes an instance, resizes a volume, or attaches or detaches a volume. `attach` \
         and `detach` take a `volume`; `resize` takes a `size` for an instance and a `size_gib` for a volume. An \
         action changes the desired state: an instance that you stopped and that is later found running has drifted.",
    ),
    (
        "resources_sync",
        "Compares the resource with the object at its provider immediately, instead of within a minute; `status` has \
         the result. With `reconcile` `enforce`, drift is remediated immediately.",
    ),
    ("operations_list", "Lists the operations on a project's resources, both running and ended."),
    (
        "operations_get",
        "With `wait`, the response is sent when the operation ends, or after that many seconds with its current state. \
         Waiting is cheap for the server. A server that shuts down responds immediately; send the request again.",
    ),
    (
        "operations_cancel",
        "Requests the cancellation of an operation. The server reverts what the operation has done, and the operation \
         ends as `canceled`, unless it ends before. A deletion that has started cannot be canceled.",
    ),
    (
        "providers_list",
        "Lists the providers and what each supports, sorted by name. Cursors are names. A provider with `simulated` is \
         a simulation.",
    ),
    (
        "providers_schema",
        "Returns the JSON Schema of the kind's `spec`, for editors and validators. `x-providers` has the sizes and \
         images that each provider knows.",
    ),
    (
        "events_list",
        "Lists the events of a project in order. Events are kept for 7 days; an older cursor gets 410 \
         `cursor_expired`. `data.changes` depends on the type: see the webhooks in this document. Redacted audit \
         entries are not events.",
    ),
    (
        "events_stream",
        "Streams the events of a project as they happen (server-sent events). The stream contains the same events as \
         the list, in the same order, from now on or after `Last-Event-ID`. When there are no events, the server sends \
         a comment every 15 seconds. The stream ends with an `error` event when its credential may no longer read \
         events, when the server stops, or when you read too slowly. Reconnect with the last `id`: the stream then \
         continues without missing or repeating an event.",
    ),
    (
        "webhooks_create",
        "Sends a project's events to a URL. The response is the only one that contains the secret that signs \
         deliveries.",
    ),
    (
        "webhooks_update",
        "Changes the URL, the event types or the description, or disables or enables the webhook. Omitted members keep \
         their value. When a webhook is enabled again, deliveries that have waited for at most 24 hours are sent.",
    ),
    (
        "webhooks_delete",
        "Deletes the webhook and its deliveries. Repeating the request returns the same response for at least 24 \
         hours.",
    ),
    (
        "webhooks_rotate_secret",
        "Creates a new secret for the webhook. The response is the only one that contains it. Until \
         `previous_expires_at`, deliveries are signed with both secrets. A webhook has at most two active secrets. \
         `overlap_seconds: 0` is always possible and immediately ends all older secrets.",
    ),
    (
        "webhooks_test",
        "Sends the event `webhook.tested` to this webhook only. The webhook must be enabled. `Location` names the list \
         of deliveries.",
    ),
    (
        "webhooks_deliveries",
        "Lists the deliveries to a webhook with all their attempts. Deliveries are kept for 30 days.",
    ),
    ("webhooks_delivery", "Returns one delivery with all its attempts."),
    (
        "webhooks_redeliver",
        "Sends the delivery again immediately, with a new series of retries. `webhook-id` stays the same. The webhook \
         must be enabled.",
    ),
    (
        "audit_list",
        "Lists who did what in a project, when and from where, in the order in which the entries were sealed. \
         Normally, an entry is sealed within a fifth of a second of its commit. A sealed entry never changes, unless \
         the operator redacts it: then `redacted` is true and its content is null. Filters exclude redacted entries. \
         Reading is recorded as `audit.read`: a credential's first read immediately, further reads within a minute as \
         one entry.",
    ),
    (
        "audit_export",
        "Exports the whole audit trail of a project. There is no limit on its length or on the time to read it. Each \
         line is an entry as in the list, with its `salt`, and the last line is a signed checkpoint. `cloudapi audit \
         verify` verifies the file; docs/audit.md describes how to verify it with other tools. After a retention \
         period was applied, the first line is a signed anchor. CSV is for reading and cannot be verified. Each export \
         is recorded as `audit.exported`.",
    ),
    ("audit_get", "Returns one entry. Like reading the list, this is recorded as `audit.read`."),
    (
        "audit_checkpoints",
        "Lists the signed ends of a project's audit trail. A checkpoint that is stored elsewhere shows whether the \
         trail was truncated or rewritten since. The signed text (Ed25519) has five lines: `cloudapi audit checkpoint \
         v1`, the project's id, `seq`, `hash` and `made_at`.",
    ),
    (
        "docs_entry",
        "Returns the URLs of the API, its documentation and the probes. A browser, which names `text/html` in \
         `Accept`, is redirected to the API reference.",
    ),
    (
        "health_live",
        "Succeeds if the process responds. For a supervisor that restarts a process that does not respond.",
    ),
    (
        "health_ready",
        "Returns whether this server can serve requests, for a load balancer: 503 while the server starts, stops or \
         cannot reach its database.",
    ),
    ("docs_describe", "Returns this document (OpenAPI 3.1)."),
    ("docs_reference", "An HTML page that can send requests."),
    ("docs_guides", "An HTML page that lists all guides."),
    ("docs_search", "For the search box of the pages."),
    ("docs_errors", "An HTML page that lists all error codes."),
    ("docs_error", "An HTML page: the error's meaning, and what to do."),
    ("docs_asset", "Returns a static file of the HTML pages."),
];

/// Note on an operation, if any.
pub(super) fn note(operation_id: &str) -> Option<&'static str> {
    NOTES.iter().find(|(id, _)| *id == operation_id).map(|(_, note)| *note)
}
