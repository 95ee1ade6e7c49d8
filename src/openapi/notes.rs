//! What a caller should know of an operation beyond its summary and its schemas.

/// Notes by the operation's id; a test holds that each is an operation's.
pub const NOTES: &[(&str, &str)] = &[
    (
        "sessions_create",
        "The session's secret is in this answer only. Wrong passwords and unknown addresses are answered alike. \
         A session ends when its user signs out, changes the password elsewhere, or by itself.",
    ),
    ("sessions_list", "Ended sessions are not in the list."),
    ("sessions_revoke", "Repeated, it gives the same answer."),
    ("users_change_password", "Repeating it fails, because the current password is then another one."),
    (
        "users_accept",
        "For a new e-mail address, `password` becomes the one to sign in with. For an address that has an account, \
         it must be the account's own: an invitation opens nobody's account. An invitation works once and for 7 days.",
    ),
    ("projects_list", "A session sees the projects its user is a member of, a key or token its own project."),
    ("projects_create", "The session's user becomes its owner."),
    (
        "projects_update",
        "Members that are left out stay as they are; `metadata` is replaced as a whole. Send the `ETag` you have seen \
         as `If-Match` to change no state but that one.",
    ),
    (
        "projects_delete",
        "There is no way back: its keys, tokens, members and usage are gone with it. Repeated by one of its owners, the \
         answer is the same for at least 24 hours.",
    ),
    (
        "projects_suspend",
        "Its keys and tokens get 403 `project_suspended` from now on. Its members can still read it, revoke keys and \
         tokens, and remove users; nothing is added or changed. Repeated, it changes nothing.",
    ),
    ("projects_resume", "From suspended and from archived. Repeated, it changes nothing."),
    ("projects_archive", "Its keys and tokens get 403 `project_archived`. It can be resumed, or deleted for good."),
    (
        "keys_create",
        "The secret is in this answer only. The key belongs to the project and outlives whoever made it. Without \
         `scopes` it gets every scope that ends in `:read`, `tokens:write`, `tokens:introspect` and `keys:write`, as \
         far as you have them.",
    ),
    ("keys_list", "Revoked and expired keys stay in the list; `status` says which they are."),
    (
        "keys_update",
        "Members that are left out stay as they are. A narrower key narrows its tokens with it, at once. A revoked \
         key cannot be changed.",
    ),
    (
        "keys_rotate",
        "The key keeps its id, its settings and its tokens. Both secrets work until `previous_expires_at`; then the old \
         one gets 401 `token_expired`. A key has at most two live secrets. `overlap_seconds: 0`, by a session, is always \
         possible and ends every older secret at once.",
    ),
    (
        "keys_revoke",
        "It takes effect before the answer comes, and cannot be undone. Repeated, it gives the same answer, unless the \
         caller was the key itself, which is then gone (401).",
    ),
    (
        "tokens_create",
        "The secret is in this answer only. The token hangs on what issued it: it never does more than that still may, \
         and ends with it. One that a session issues hangs on the user's membership of the project, not on the session. \
         Tokens nest at most 8 deep.",
    ),
    (
        "tokens_introspect",
        "The token may come as JSON or as a form. About everything that is not a live key or token of the caller's \
         project the answer is `{\"active\":false}` and nothing more, however long the token is. Other parameters are ignored. \
         In a form, a parameter without a value counts as omitted, and a repeated one is refused (RFC 6749 §3.2). From where the credential may be used is not \
         judged: the service that asks is not the client.",
    ),
    ("tokens_list", "Revoked and expired tokens stay in the list; `status` says which they are."),
    (
        "tokens_revoke",
        "It takes effect before the answer comes, and cannot be undone. Repeated, it gives the same answer.",
    ),
    ("users_list", "Those who are invited and have not accepted yet are in the list, with `status` `invited`."),
    (
        "users_create",
        "The invitation's secret is in this answer only: hand it to them. They may do nothing until they accept it. \
         The role is at most your own.",
    ),
    ("users_update", "Nobody changes somebody whose role is above their own, and a project keeps at least one owner."),
    (
        "users_remove",
        "They lose the project at once, and what their sessions issued there is dead; keys they made stay, because keys \
         belong to the project. A project keeps at least one owner. Repeated, the answer is the same for at least 24 hours.",
    ),
    ("usage_get", "Requests are counted once each when the answer is ready, and shown at most about a second later."),
    (
        "resources_create",
        "The answer comes at once, and the work is done after it: `Location` names the operation, and \
         `GET /v1/operations/{id}?wait=60` holds its answer until that is over. What `spec` refers to may still be in the \
         making. It counts towards the project's quota from now on. With `ttl_seconds` it deletes itself. With \
         `?dry_run=true` everything is checked, nothing is changed, and no `Idempotency-Key` is used up. Referring to a \
         network or a volume needs its `:read` scope too.",
    ),
    (
        "resources_import",
        "What the object is becomes the resource's `spec`. An object that carries the tags of another deployment, or of \
         another resource, is refused by the operation.",
    ),
    (
        "resources_list",
        "Only kinds that your credential may read are in the list. Resources that are `deleted` are in it only when \
         `phase=deleted` asks for them; they are kept for 30 days.",
    ),
    (
        "resources_update",
        "Members that are left out stay as they are; `labels` is replaced as a whole, `spec` member by member. What the \
         provider has nothing to do with is done at once: its operation has `succeeded` already. Sent again to a resource \
         that is `failed`, it is tried once more. Send the `etag` you have seen as `If-Match` to change no state but that one.",
    ),
    (
        "resources_delete",
        "What is protected, or what something else refers to, is not deleted. Repeated, the answer is the operation that \
         deletes it, or has deleted it.",
    ),
    (
        "resources_act",
        "`attach` and `detach` take a `volume`; `resize` takes a `size` for an instance, a `size_gib` for a volume. What has \
         been asked for stays so: an instance that was stopped and is found running has drifted.",
    ),
    (
        "resources_sync",
        "Looks at the object now instead of within a minute; `status` says what was found. With `reconcile` `enforce` it is \
         mended at once.",
    ),
    (
        "operations_get",
        "With `wait` the answer comes as soon as the operation is over, or after so many seconds as it then stands. Waiting \
         costs the server nothing to speak of; a server that stops answers at once, so ask again.",
    ),
    (
        "operations_cancel",
        "What it has begun is undone, and the operation ends as `canceled`; it may also have been quicker. A deletion that has \
         begun cannot be canceled.",
    ),
    (
        "providers_list",
        "In the order of their names, which are the cursors. A provider with `simulated` only plays at being one.",
    ),
    (
        "providers_schema",
        "A JSON Schema that editors and validators can use. `x-providers` says which sizes and images each provider knows.",
    ),
    (
        "events_list",
        "Events are kept for 7 days; a cursor that is older gets 410 `cursor_expired`. `data.changes` depends on the type: \
         see the webhooks in this description. Audit entries that were redacted are no events any more.",
    ),
    (
        "events_stream",
        "The same events as in the list, from now on or after `Last-Event-ID`, in the same order. A comment comes every \
         15 seconds when nothing happens. The stream ends with an `error` event when its credential may no longer read \
         it, when the server stops, and when you read too slowly; connect again with the last `id`, and nothing is \
         missing or told twice.",
    ),
    (
        "audit_list",
        "In the order in which they were sealed, which is at most a fifth of a second after they were committed; an entry \
         once read never changes, unless the operator redacts it: then `redacted` is true, and what it said is null. A \
         filter leaves redacted entries out. Reading is written down as `audit.read`: a credential's first read at once, \
         further ones within a minute as one entry.",
    ),
    (
        "audit_export",
        "The whole trail, however long: take it slowly or fast. Each line is an entry as in a list, with its `salt`, and \
         the last one is a signed checkpoint; `cloudapi audit verify` checks the file, and docs/audit.md says how to do \
         so without us. After retention the first line is a signed anchor. As CSV it is for reading, and carries nothing \
         to check. Each export is written down as `audit.exported`.",
    ),
    (
        "audit_checkpoints",
        "Kept elsewhere, a checkpoint shows a trail that was cut off or made anew since. What is signed (Ed25519) is a \
         text of five lines: `cloudapi audit checkpoint v1`, the project's id, `seq`, `hash` and `made_at`.",
    ),
    ("docs_entry", "A browser, which names `text/html` in `Accept`, is sent to the API reference."),
    ("health_live", "For a supervisor that restarts a process which does not answer."),
    ("health_ready", "For a load balancer: 503 while the server starts, stops or cannot reach its database."),
];

/// The note on an operation, if there is one.
pub(super) fn note(operation_id: &str) -> Option<&'static str> {
    NOTES.iter().find(|(id, _)| *id == operation_id).map(|(_, note)| *note)
}
