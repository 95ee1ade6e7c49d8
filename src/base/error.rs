//! The error type of the domain: a code of the published catalog, and a detail that says what is wrong and what to
//! do. The type is independent of HTTP; `http::problem` converts it into a response.

use std::{borrow::Cow, error::Error as StdError, fmt};

use super::identity::scope::Scope;

/// Result of a fallible step of serving a request.
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! codes {
    ($(#[$enum_doc:meta])* pub enum $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl $name {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Code as clients see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

codes! {
    /// Stable error code that clients can branch on.
    pub enum Code {
        MalformedJson = "malformed_json",
        MalformedRequest = "malformed_request",
        InvalidParameter = "invalid_parameter",
        UnknownParameter = "unknown_parameter",
        DuplicateParameter = "duplicate_parameter",
        InvalidCursor = "invalid_cursor",
        UnexpectedBody = "unexpected_body",
        InvalidIdempotencyKey = "invalid_idempotency_key",
        ProjectRequired = "project_required",
        MissingCredentials = "missing_credentials",
        InvalidToken = "invalid_token",
        TokenExpired = "token_expired",
        TokenRevoked = "token_revoked",
        InvalidCredentials = "invalid_credentials",
        InsufficientScope = "insufficient_scope",
        CredentialKindNotAllowed = "credential_kind_not_allowed",
        IpNotAllowed = "ip_not_allowed",
        ProjectSuspended = "project_suspended",
        ProjectArchived = "project_archived",
        ScopeEscalation = "scope_escalation",
        RoleEscalation = "role_escalation",
        ImportNotAllowed = "import_not_allowed",
        ReauthenticationRequired = "reauthentication_required",
        NotFound = "not_found",
        RouteNotFound = "route_not_found",
        MethodNotAllowed = "method_not_allowed",
        RequestTimeout = "request_timeout",
        IdempotencyInProgress = "idempotency_in_progress",
        IdempotencyReplaySealed = "idempotency_replay_sealed",
        InvalidState = "invalid_state",
        ProjectNotActive = "project_not_active",
        ProjectNotArchived = "project_not_archived",
        KeyRevoked = "key_revoked",
        RotationInProgress = "rotation_in_progress",
        LimitReached = "limit_reached",
        ResourceInUse = "resource_in_use",
        ResourceLocked = "resource_locked",
        Protected = "protected",
        ProjectNotEmpty = "project_not_empty",
        AlreadyMember = "already_member",
        LastOwner = "last_owner",
        CursorExpired = "cursor_expired",
        WebhookDisabled = "webhook_disabled",
        PreconditionFailed = "precondition_failed",
        RateLimited = "rate_limited",
        QuotaExceeded = "quota_exceeded",
        PayloadTooLarge = "payload_too_large",
        UriTooLong = "uri_too_long",
        UnsupportedMediaType = "unsupported_media_type",
        HeadersTooLarge = "headers_too_large",
        ValidationFailed = "validation_failed",
        IdempotencyKeyReused = "idempotency_key_reused",
        InvalidCurrentPassword = "invalid_current_password",
        UrlNotAllowed = "url_not_allowed",
        UnsupportedCapability = "unsupported_capability",
        Internal = "internal",
        Overloaded = "overloaded",
        DatabaseUnavailable = "database_unavailable",
        AuthUnavailable = "auth_unavailable",
        RevocationUnconfirmed = "revocation_unconfirmed",
        OutcomeUnknown = "outcome_unknown",
        Timeout = "timeout",
    }
}

codes! {
    /// Code of an invalid member of a body or an invalid parameter.
    pub enum ItemCode {
        Required = "required",
        UnknownField = "unknown_field",
        WrongType = "wrong_type",
        TooShort = "too_short",
        TooLong = "too_long",
        OutOfRange = "out_of_range",
        InvalidFormat = "invalid_format",
        InvalidCharacters = "invalid_characters",
        UnknownScope = "unknown_scope",
        UnknownValue = "unknown_value",
        Unsupported = "unsupported",
    }
}

/// Maximum number of items in one response, so that a request cannot cause a response many times its size.
pub const MAX_ITEMS: usize = 50;

/// Location of an invalid item in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemLocation {
    /// JSON Pointer into the body (RFC 6901), without the leading `#`.
    Body(String),
    /// Query parameter.
    Parameter(String),
}

/// One of the invalid items that a response reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Location.
    pub location: ItemLocation,
    /// Code, for programs.
    pub code: ItemCode,
    /// What is wrong and what to do, for people.
    pub detail: String,
}

/// Error of a request.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    detail: Cow<'static, str>,
    items: Vec<Item>,
    needed: Option<Scope>,
    retry_after: Option<u32>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error. `detail` says what is wrong and what to do.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            items: Vec::new(),
            needed: None,
            retry_after: None,
            cause: None,
        }))
    }

    /// Creates the error for an object that does not exist or is not visible. Both are the same, so that the response
    /// does not reveal which objects exist.
    pub fn not_found() -> Self {
        Self::new(
            Code::NotFound,
            "No object with this id is visible to your credential; check the id and the project that it belongs to",
        )
    }

    /// Creates the error for a credential that has none of `scopes`, one of which is required.
    pub fn insufficient_scope(scopes: &[Scope]) -> Self {
        if let [scope] = scopes {
            let detail = format!(
                "This operation requires the scope '{scope}', which your credential does not have in this project; use one that has it"
            );
            return Self::new(Code::InsufficientScope, detail).needing(*scope);
        }
        let names = scopes.iter().map(|scope| format!("'{scope}'")).collect::<Vec<_>>().join(", ");
        let detail = format!(
            "This operation requires one of the scopes {names}, and your credential has none of them in this project; use one that has"
        );
        Self::new(Code::InsufficientScope, detail)
    }

    /// Creates an internal error. The cause is only logged.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(
            Code::Internal,
            "The server failed, and its log says why; retry, and if the error persists, send the request id to the operator",
        )
        .caused_by(cause)
    }

    /// Creates the error for a write that may or may not have been committed. `has_key`: whether the request has an
    /// `Idempotency-Key`.
    pub fn outcome_unknown(has_key: bool) -> Self {
        let detail = if has_key {
            "The database has not confirmed this write, so it may or may not have been committed; send it again with the same Idempotency-Key to get its result"
        } else {
            "The database has not confirmed this write, so it may or may not have been committed; check before you send it again"
        };
        Self::new(Code::OutcomeUnknown, detail)
    }

    /// Creates the error for a body with the invalid members `items`.
    pub fn validation(items: Vec<Item>) -> Self {
        let detail = match items.len() {
            n if n > MAX_ITEMS => {
                format!("More than {MAX_ITEMS} members are invalid; 'errors' lists the first {MAX_ITEMS}")
            }
            1 => "1 member is invalid; 'errors' says which and why".to_owned(),
            n => format!("{n} members are invalid; 'errors' says which and why"),
        };
        let mut error = Self::new(Code::ValidationFailed, detail);
        error.0.items = items;
        error.0.items.truncate(MAX_ITEMS);
        error
    }

    /// Creates the error for a valid request that the provider does not support, as `items` describe.
    pub fn unsupported(items: Vec<Item>) -> Self {
        let detail = match items.as_slice() {
            [item] => format!("The provider does not support this: {}", item.detail),
            _ => "The provider does not support parts of this; 'errors' lists them, and GET /v1/providers lists what it supports"
                .to_owned(),
        };
        let mut error = Self::new(Code::UnsupportedCapability, detail);
        error.0.items = items;
        error
    }

    /// Creates the error for a body with one invalid member, at the JSON Pointer `pointer`.
    pub fn invalid_member(pointer: impl Into<String>, code: ItemCode, detail: impl Into<String>) -> Self {
        Self::validation(vec![Item { location: ItemLocation::Body(pointer.into()), code, detail: detail.into() }])
    }

    /// Adds an item for the query parameter `name`, with the same detail.
    #[must_use]
    pub fn at_parameter(mut self, name: impl Into<String>, code: ItemCode) -> Self {
        let location = ItemLocation::Parameter(name.into());
        self.0.items.push(Item { location, code, detail: self.0.detail.clone().into_owned() });
        self
    }

    /// Sets the cause, which is only logged.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Sets the missing scope.
    #[must_use]
    pub fn needing(mut self, scope: Scope) -> Self {
        self.0.needed = Some(scope);
        self
    }

    /// Sets the delay before a retry, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Error code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What is wrong and what to do, for the client.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Invalid items, if there are several or their location matters.
    pub fn items(&self) -> &[Item] {
        &self.0.items
    }

    /// Missing scope, if a scope is the reason.
    pub fn needed_scope(&self) -> Option<Scope> {
        self.0.needed
    }

    /// Delay before a retry in seconds, if known.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.0.retry_after
    }

    /// Cause. Must not be sent to clients.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.detail)?;
        match &self.0.cause {
            Some(cause) => write!(f, " (cause: {cause})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {}
