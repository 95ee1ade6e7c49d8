//! `POST /v1/tokens/introspect` (RFC 7662): lets another service check a credential that it has received.

use axum::extract::State;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    auth::{
        bearer::Authenticator,
        grant::{Grant, KeyOrToken},
    },
    base::{
        error::{Code, Result},
        id::ProjectId,
        identity::{caller::Caller, scope::of::TokensIntrospect, secret::Secret, tenant::ProjectStatus},
        input::schema::input,
        runtime::clock::Timestamp,
    },
    http::{request::extract::FormOrJson, response::NoStore},
};

/// Credential to introspect. Other members are ignored, as RFC 6749 §3.2 requires.
// Any text is accepted. A text that is not one of our secrets is not active.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = true))]
pub struct IntrospectionRequest {
    /// Secret of a key or a token.
    #[schemars(with = "String", extend("writeOnly" = true))]
    pub token: SecretString,
    /// Type of the secret (RFC 7662). Ignored.
    pub token_type_hint: Option<String>,
}

input!(IntrospectionRequest);

/// Result of an introspection. For a valid key or token of the caller's project, all members are present. For anything
/// else, only `active`, which is false.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Introspection {
    /// Whether the secret belongs to a valid key or token of your project.
    active: bool,
    /// Scopes of the credential, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String")]
    scope: Option<String>,
    /// Project of the credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "ProjectId")]
    client_id: Option<ProjectId>,
    /// ID of the credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String")]
    sub: Option<String>,
    /// ID of the credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String")]
    jti: Option<String>,
    /// Always `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String")]
    token_type: Option<&'static str>,
    /// Creation time, in seconds since 1970-01-01T00:00:00Z.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "i64")]
    iat: Option<i64>,
    /// Expiration time, in seconds since 1970-01-01T00:00:00Z. Absent if the credential does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "i64")]
    exp: Option<i64>,
}

/// Introspects a credential of the caller's project.
pub async fn introspect(
    grant: Grant<TokensIntrospect, KeyOrToken>,
    State(authenticator): State<Authenticator>,
    body: FormOrJson<IntrospectionRequest>,
) -> Result<NoStore<Introspection>> {
    let request = body.validate()?;
    let Some(secret) = Secret::parse(request.token.expose_secret()) else {
        return Ok(NoStore(Introspection::default()));
    };
    match authenticator.authenticate(&secret).await {
        Ok(found) => Ok(NoStore(introspection_of(&found, grant.caller().project_id()))),
        Err(error) if matches!(error.code(), Code::InvalidToken | Code::TokenExpired | Code::TokenRevoked) => {
            Ok(NoStore(Introspection::default()))
        }
        Err(error) => Err(error),
    }
}

fn introspection_of(found: &Caller, client_project: Option<ProjectId>) -> Introspection {
    let (scopes, created_at, expires_at) = match found {
        Caller::Key { scopes, created_at, expires_at, .. } => (scopes, created_at, *expires_at),
        Caller::Token { scopes, created_at, expires_at, .. } => (scopes, created_at, Some(*expires_at)),
        Caller::Session { .. } => return Introspection::default(),
    };
    if found.project_id() != client_project || found.project_status() != Some(ProjectStatus::Active) {
        return Introspection::default();
    }
    let id = found.credential_id().to_string();
    Introspection {
        active: true,
        scope: Some(scopes.to_string()),
        client_id: found.project_id(),
        sub: Some(id.clone()),
        jti: Some(id),
        token_type: Some("Bearer"),
        iat: Some(created_at.unix_seconds()),
        exp: expires_at.map(Timestamp::unix_seconds),
    }
}
