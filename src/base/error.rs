//! The one error of the domain: a code from the published catalogue, and a sentence that says what
//! was wrong and what to do. It knows nothing of HTTP; `http::problem` turns it into an answer.

use std::{borrow::Cow, error::Error as StdError, fmt};

use super::scope::Scope;

/// What a fallible step of serving a request gives.
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! codes {
    ($(#[$enum_doc:meta])* pub enum $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as clients see it.
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
    /// What went wrong, as a stable word that clients may branch on.
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
    /// What is wrong with one member of a body or one parameter.
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

/// How many faults one answer tells of. A client's body must not make one many times its size.
pub const MAX_ITEMS: usize = 50;

/// Where in the request an item's fault lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A JSON Pointer into the body (RFC 6901), without the leading `#`.
    Body(String),
    /// A query parameter.
    Parameter(String),
}

/// One fault among the several that one answer can report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it is.
    pub place: Place,
    /// What it is, for programs.
    pub code: ItemCode,
    /// What it is and what to do, for people.
    pub detail: String,
}

/// Why a request could not be served.
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
    /// An error whose `detail` says what was wrong and what to do next.
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

    /// One answer for what is absent and for what is another's, so that neither can be told.
    pub fn not_found() -> Self {
        Self::new(
            Code::NotFound,
            "There is nothing here that your credential can see; check the id, and that it belongs to a project of yours",
        )
    }

    /// The refusal of a credential that lacks each of `scopes`, of which one would be enough.
    pub fn insufficient_scope(scopes: &[Scope]) -> Self {
        if let [scope] = scopes {
            let detail = format!(
                "This needs the scope '{scope}', which your credential does not have here; use one that has it"
            );
            return Self::new(Code::InsufficientScope, detail).needing(*scope);
        }
        let names = scopes.iter().map(|scope| format!("'{scope}'")).collect::<Vec<_>>().join(", ");
        let detail = format!(
            "This needs one of the scopes {names}, and your credential has none of them here; use one that has"
        );
        Self::new(Code::InsufficientScope, detail)
    }

    /// A fault of ours. The cause is for the log alone.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(
            Code::Internal,
            "The server failed, and its log says why; retry, and if it lasts send the operator the request id",
        )
        .caused_by(cause)
    }

    /// A write of which nobody knows whether it was committed. `has_key`: whether the request carries an `Idempotency-Key`.
    pub fn outcome_unknown(has_key: bool) -> Self {
        let detail = if has_key {
            "The database has not confirmed this write, so it may or may not have been done; send it again with the same Idempotency-Key to get its result"
        } else {
            "The database has not confirmed this write, so it may or may not have been done; check before you send it again"
        };
        Self::new(Code::OutcomeUnknown, detail)
    }

    /// A body whose members break the rules listed in `items`.
    pub fn validation(items: Vec<Item>) -> Self {
        let detail = match items.len() {
            n if n > MAX_ITEMS => {
                format!("More than {MAX_ITEMS} members are invalid; 'errors' tells of the first {MAX_ITEMS}")
            }
            1 => "1 member is invalid; 'errors' says which and why".to_owned(),
            n => format!("{n} members are invalid; 'errors' says which and why"),
        };
        let mut error = Self::new(Code::ValidationFailed, detail);
        error.0.items = items;
        error.0.items.truncate(MAX_ITEMS);
        error
    }

    /// A request that is valid, and asks for what its provider cannot do, as `items` say.
    pub fn unsupported(items: Vec<Item>) -> Self {
        let detail = match items.as_slice() {
            [item] => format!("The provider cannot do this: {}", item.detail),
            _ => "The provider cannot do some of this; 'errors' says what, and GET /v1/providers what it can do"
                .to_owned(),
        };
        let mut error = Self::new(Code::UnsupportedCapability, detail);
        error.0.items = items;
        error
    }

    /// A body with one invalid member, at the JSON Pointer `pointer`.
    pub fn invalid_member(pointer: impl Into<String>, code: ItemCode, detail: impl Into<String>) -> Self {
        Self::validation(vec![Item { place: Place::Body(pointer.into()), code, detail: detail.into() }])
    }

    /// The same error, with an item that puts it at the query parameter `name`.
    #[must_use]
    pub fn at_parameter(mut self, name: impl Into<String>, code: ItemCode) -> Self {
        let place = Place::Parameter(name.into());
        self.0.items.push(Item { place, code, detail: self.0.detail.clone().into_owned() });
        self
    }

    /// The same error, with what lies behind it, for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The same error, naming the scope that would have been enough.
    #[must_use]
    pub fn needing(mut self, scope: Scope) -> Self {
        self.0.needed = Some(scope);
        self
    }

    /// The same error, with the seconds after which trying again may help.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What was wrong and what to do, for the client.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The faults it is made of, where there are several or their place matters.
    pub fn items(&self) -> &[Item] {
        &self.0.items
    }

    /// The scope that would have been enough, where that is the matter.
    pub fn needed_scope(&self) -> Option<Scope> {
        self.0.needed
    }

    /// The seconds after which trying again may help, where that is known.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.0.retry_after
    }

    /// What lies behind it. Never for a client's eyes.
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
