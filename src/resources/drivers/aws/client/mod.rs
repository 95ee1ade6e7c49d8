//! Client of the EC2 Query API. Calls are signed and have a time limit, responses have a maximum length, and redirects
//! are not followed.

pub(crate) mod credentials;
pub(crate) mod errors;
pub(crate) mod form;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::crypto::ring;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{responses::ErrorResponse, settings::AwsSettings};
use crate::resources::drivers::driver::{DriverError, DriverErrorKind, Result};
use credentials::{CredentialChain, Environment};
use errors::Class;
use form::Form;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of one call. Some driver functions make several.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Shorter than the time for which the server keeps an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum length of a response. A page of a hundred instances with all their tags has about 1 MiB.
const MAX_RESPONSE_LENGTH: usize = 8 * 1024 * 1024;
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Client of the EC2 API.
#[derive(Debug)]
pub struct Ec2 {
    region: String,
    endpoint: String,
    chain: CredentialChain,
    /// Created on first use, because that reads the certificate authorities.
    http: OnceLock<Http>,
}

impl Ec2 {
    /// Creates a client for the API in `settings`, with credentials from this environment.
    pub fn new(settings: &AwsSettings, environment: Arc<Environment>) -> Self {
        Self {
            region: settings.region.clone(),
            endpoint: settings.endpoint.to_string(),
            chain: CredentialChain::new(settings.profile.clone(), environment),
            http: OnceLock::new(),
        }
    }

    /// Makes a call and parses the response.
    pub async fn call<T: DeserializeOwned>(&self, form: Form) -> Result<T> {
        let action = form.action;
        let body = self.exchange(form).await?;
        quick_xml::de::from_reader(&*body).map_err(|error| {
            tracing::warn!(action, %error, "EC2 response is invalid");
            DriverError::retryable("bad_answer", format!("the response to {action} could not be parsed"))
        })
    }

    /// Makes a call whose response has no relevant content.
    pub async fn send(&self, form: Form) -> Result<()> {
        self.exchange(form).await.map(drop)
    }

    async fn exchange(&self, form: Form) -> Result<Bytes> {
        let action = form.action;
        let credentials = self.chain.find().await?;
        let request = self.signed(form.body(), credentials)?;
        let exchanged = timeout(CALL_TIMEOUT, async {
            let response = self.http()?.request(request).await.map_err(|error| {
                tracing::debug!(action, ?error, "EC2 unreachable");
                let what = if error.is_connect() { "could not be reached" } else { "did not respond" };
                DriverError::retryable("unreachable", format!("the EC2 API {what}"))
            })?;
            let status = response.status().as_u16();
            let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let body = Limited::new(response.into_body(), MAX_RESPONSE_LENGTH).collect().await;
            let body = body.map_err(|_| {
                DriverError::retryable("bad_answer", format!("the response to {action} was truncated or too long"))
            })?;
            Ok((status, after.map(Duration::from_secs), body.to_bytes()))
        });
        let (status, after, body) = exchanged.await.unwrap_or_else(|_| {
            let seconds = CALL_TIMEOUT.as_secs();
            Err(DriverError::retryable(
                "timeout",
                format!("the EC2 API did not respond to {action} within {seconds} s"),
            ))
        })?;
        tracing::debug!(action, status, "EC2 called");
        if status == 200 { Ok(body) } else { Err(response_error(action, (status, after), &body)) }
    }

    fn signed(&self, body: String, credentials: Credentials) -> Result<Request<Full<Bytes>>> {
        let unsignable = |error: &dyn std::error::Error| {
            DriverError::new(DriverErrorKind::Invalid, "unsignable", format!("the call could not be signed: {error}"))
        };
        let identity = credentials.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ec2")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsignable(&error))?;
        let headers = [(header::CONTENT_TYPE.as_str(), FORM)];
        let signable = SignableRequest::new(
            Method::POST.as_str(),
            &self.endpoint,
            headers.into_iter(),
            SignableBody::Bytes(body.as_bytes()),
        );
        let signable = signable.map_err(|error| unsignable(&error))?;
        let (signature, _) = sign(signable, &params.into()).map_err(|error| unsignable(&error))?.into_parts();
        let uri: Uri = self.endpoint.parse().map_err(|error| unsignable(&error))?;
        let mut request = Request::post(uri).header(header::CONTENT_TYPE, FORM);
        for header in signature.into_parts().0 {
            let mut value = header::HeaderValue::from_str(header.value()).map_err(|error| unsignable(&error))?;
            value.set_sensitive(true);
            request = request.header(header.name(), value);
        }
        request.body(Full::from(body)).map_err(|error| unsignable(&error))
    }

    fn http(&self) -> Result<&Http> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(ring::default_provider());
        let connector = connector.map_err(|error| {
            tracing::error!(
                %error,
                "no certificate authorities found, so AWS cannot be called; install ca-certificates or set SSL_CERT_FILE"
            );
            DriverError::retryable("no_authorities", "the server has no certificate authorities")
        })?;
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        // The outer connector adds TLS.
        tcp.enforce_http(false);
        let connector =
            if self.endpoint.starts_with("http:") { connector.https_or_http() } else { connector.https_only() };
        let connector = connector.enable_http1().wrap_connector(tcp);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Ok(self.http.get_or_init(|| http))
    }
}

fn response_error(action: &str, (status, after): (u16, Option<Duration>), body: &[u8]) -> DriverError {
    let detail = quick_xml::de::from_reader::<_, ErrorResponse>(body).ok().and_then(ErrorResponse::first);
    let (code, message) = match detail {
        Some(detail) => (detail.code, detail.message),
        None => (format!("http_{status}"), format!("the response to {action} has status {status}")),
    };
    let error = errors::error_after(status, &code, &message, after);
    let Some(message) = Class::of(status, &code).replacement_message(action) else { return error };
    tracing::warn!(action, code = error.code, message = error.message, "AWS rejected the operator's credentials");
    DriverError { message, ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ec2(endpoint: &str) -> Ec2 {
        let settings = toml::from_str(&format!("region = 'eu-central-1'\nendpoint = '{endpoint}'")).unwrap();
        let environment = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("AKIDEXAMPLE".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("a-secret".to_owned()),
            "AWS_SESSION_TOKEN" => Some("a-token".to_owned()),
            _ => None,
        };
        Ec2::new(&settings, Arc::new(environment))
    }

    #[tokio::test]
    async fn call_is_signed_for_its_region_and_shows_no_secret() {
        let ec2 = ec2("http://127.0.0.1:5000");
        let credentials = ec2.chain.find().await.unwrap();
        let request = ec2.signed(Form::new("DescribeVpcs").body(), credentials).unwrap();
        let signature = request.headers()["authorization"].to_str().unwrap();
        assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{signature}");
        assert!(signature.contains("/eu-central-1/ec2/aws4_request"), "{signature}");
        assert!(signature.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token"), "{signature}");
        let shown = format!("{request:?} {ec2:?}");
        assert!(!shown.contains("a-secret") && !shown.contains("a-token") && !shown.contains("AKID"), "{shown}");
    }

    #[test]
    fn termination_protection_is_not_reported_as_missing_permission() {
        let body = b"<Response><Errors><Error><Code>OperationNotPermitted</Code><Message>The instance 'i-0a1b' may not be \
                     terminated. Modify its 'disableApiTermination' instance attribute and try again.</Message></Error></Errors>\
                     <RequestID>1</RequestID></Response>";
        let error = response_error("TerminateInstances", (400, None), body);
        assert_eq!((error.kind, error.code.as_str()), (DriverErrorKind::Protected, "OperationNotPermitted"));
        assert!(error.message.contains("disableApiTermination") && !error.message.contains("credentials"), "{error}");
    }

    #[test]
    fn each_credential_error_says_what_the_operator_must_do() {
        for (status, code, hint) in [
            (403, "UnauthorizedOperation", "do not allow RunInstances"),
            (401, "AuthFailure", "renew them"),
            (403, "InvalidClientTokenId", "renew them"),
            (400, "ExpiredToken", "renew them"),
            (400, "RequestExpired", "clock"),
            (403, "OptInRequired", "account"),
        ] {
            let body = format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>arn:aws:iam::123456789012:user/x</Message></Error></Errors></Response>"
            );
            let error = response_error("RunInstances", (status, None), body.as_bytes());
            assert_eq!(error.kind, DriverErrorKind::Denied, "{code}");
            assert!(error.message.contains(hint) && !error.message.contains("arn:"), "{error}");
        }
    }

    #[test]
    fn errors_use_ec2s_code_or_else_the_status() {
        let body = b"<?xml version=\"1.0\"?><Response><Errors><Error><Code>VpcLimitExceeded</Code>\
                     <Message>no more</Message></Error></Errors><RequestID>1</RequestID></Response>";
        let error = response_error("CreateVpc", (400, None), body);
        assert_eq!((error.kind, error.to_string()), (DriverErrorKind::Exhausted, "VpcLimitExceeded: no more".into()));
        let body = b"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>User: arn:aws:iam::123456789012:user/x \
                     is not authorized</Message></Error></Errors></Response>";
        let error = response_error("CreateVpc", (403, None), body);
        assert_eq!((error.kind, error.code.as_str()), (DriverErrorKind::Denied, "UnauthorizedOperation"));
        assert!(error.message.contains("CreateVpc") && !error.message.contains("arn:"), "{error}");
        for (status, body, kind) in [
            (502, "<html>", DriverErrorKind::Retryable { after: None }),
            (503, "", DriverErrorKind::Retryable { after: None }),
            (302, "elsewhere", DriverErrorKind::Invalid),
        ] {
            assert_eq!(response_error("CreateVpc", (status, None), body.as_bytes()).kind, kind);
        }
    }
}
