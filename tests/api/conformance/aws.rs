//! The AWS driver on moto's server. moto ignores client tokens, does not paginate volumes and applies every change
//! immediately, so these are not tested here.

use std::{sync::Arc, time::Duration};

use cloudapi::resources::{
    drivers::{
        aws::{Aws, Environment},
        driver::DriverErrorKind,
    },
    kinds::Kind,
};
use serde_json::Value;
use uuid::Uuid;

use super::{Subject, checks, conformance};
use crate::{engine::aws::environment, support::moto};

conformance!(start);

async fn start() -> Option<Subject> {
    Some(subject(moto::url()?, moto::region(), environment()))
}

fn subject(url: &str, region: &'static str, environment: Arc<Environment>) -> Subject {
    let settings = format!(
        "region = '{region}'\nendpoint = '{url}'\nimages = {{ debian-12 = 'ami-12c6146b' }}\nsizes = {{ tiny = 't3.small' }}"
    );
    let driver =
        |name: &str| Arc::new(Aws::new(name.into(), toml::from_str(&settings).unwrap(), Arc::clone(&environment)));
    Subject {
        driver: driver("aws"),
        other_driver: driver("sibling"),
        deployment: Uuid::new_v4(),
        // A configured size and a native type: each must be read as it was requested.
        sizes: ["tiny".into(), "t3.large".into()],
        image: "debian-12".into(),
        supports_client_tokens: false,
        octet: 231,
        many: 103,
        timeout: Duration::from_secs(20),
        create_untagged_volume: Box::new(move || {
            Box::pin(async move {
                let form = format!("Action=CreateVolume&AvailabilityZone={region}a&Size=1");
                member(&moto::call(region, &form).await, "volumeId")
            })
        }),
        _keep: Box::new(()),
    }
}

/// The text of the first element of this name.
fn member(answer: &str, name: &str) -> String {
    let found = answer.split(&format!("<{name}>")).nth(1).and_then(|rest| rest.split('<').next());
    found.unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
}

/// Creates a user in the emulated account at `url`; returns an access key.
async fn user_of(url: &str, name: &str) -> (String, String) {
    let iam = async |form: &str| {
        moto::call_at(url, "us-east-1/iam", &format!("{form}&UserName={name}&Version=2010-05-08")).await
    };
    iam("Action=CreateUser").await;
    let key = iam("Action=CreateAccessKey").await;
    (member(&key, "AccessKeyId"), member(&key, "SecretAccessKey"))
}

fn with((id, secret): (String, String)) -> Arc<Environment> {
    Arc::new(move |name| match name {
        "AWS_ACCESS_KEY_ID" => Some(id.clone()),
        "AWS_SECRET_ACCESS_KEY" => Some(secret.clone()),
        _ => None,
    })
}

#[tokio::test]
async fn documented_permissions_are_sufficient_and_signatures_are_valid() {
    // After five calls, moto checks permissions and verifies signatures with AWS's own library.
    let Some(strict) = moto::start(&[("INITIAL_NO_AUTH_ACTION_COUNT", "5")]) else { return };
    let documented = include_str!("../../../docs/drivers.md").split("```json\n").nth(1).unwrap();
    let mut policy: Value = serde_json::from_str(documented.split("```").next().unwrap()).unwrap();
    // moto does not support resource tags in conditions.
    for statement in policy["Statement"].as_array_mut().unwrap() {
        statement.as_object_mut().unwrap().remove("Condition");
    }
    let key = user_of(&strict.url, "server").await;
    let stranger = user_of(&strict.url, "stranger").await;
    let form =
        form_urlencoded::Serializer::new(String::from("Action=PutUserPolicy&UserName=server&PolicyName=documented"))
            .append_pair("PolicyDocument", &policy.to_string())
            .append_pair("Version", "2010-05-08")
            .finish();
    moto::call_at(&strict.url, "us-east-1/iam", &form).await;

    let allowed = subject(&strict.url, "eu-central-1", with(key.clone()));
    checks::created_object_matches_its_order_and_is_listed_with_its_tags(&allowed).await;
    checks::volumes_are_attached_detached_and_outlive_their_instance(&allowed).await;
    checks::objects_in_use_are_not_deleted(&allowed).await;
    checks::power_actions_are_idempotent_and_repeatable(&allowed).await;
    checks::instance_can_be_resized(&allowed).await;
    checks::volume_can_grow_but_not_shrink(&allowed).await;

    for key in [stranger, (key.0, "another-secret".into())] {
        let error = subject(&strict.url, "eu-central-1", with(key));
        let error = error.driver.read(Kind::Volume, "vol-12345678").await.unwrap_err();
        assert_eq!(error.kind, DriverErrorKind::Denied, "{error}");
        assert!(!error.message.contains("arn:"), "{error}");
    }
}
