//! The AWS driver: its requests, its handling of responses that moto's server does not produce, and a complete
//! environment on moto's server through the API. Behavior common to all drivers is tested in `conformance`.

use std::sync::Arc;

use cloudapi::{
    base::id::{OperationId, ResourceId},
    resources::{
        cloud::CloudOptions,
        drivers::{
            aws::{Aws, Environment},
            config::{DriverSettings, ImportProjects, ProviderSettings},
            driver::{Driver, DriverErrorKind, ListQuery, Order, OwnerFilter, Tags},
        },
        kinds::{
            Kind,
            spec::{InstanceSpec, NetworkSpec, Spec, VolumeSpec},
        },
    },
    server::state::AppOptions,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Identity, Session, TestApp, moto,
    receiver::{Behavior, Receiver},
};

/// Credentials that give access to nothing.
pub fn environment() -> Arc<Environment> {
    Arc::new(|name| match name {
        "AWS_ACCESS_KEY_ID" => Some("AKIDEXAMPLE".into()),
        "AWS_SECRET_ACCESS_KEY" => Some("the-secret-of-the-operator".into()),
        "AWS_SESSION_TOKEN" => Some("the-token-of-the-operator".into()),
        _ => None,
    })
}

fn aws_with(endpoint: &str, region: &str, environment: Arc<Environment>) -> Aws {
    let settings = format!(
        "region = '{region}'\nendpoint = '{endpoint}'\navailability_zone = '{region}a'\nimages = {{ debian-12 = 'ami-12c6146b' }}"
    );
    Aws::new("aws".into(), toml::from_str(&settings).unwrap(), environment)
}

fn aws(endpoint: &str) -> Aws {
    aws_with(endpoint, "eu-central-1", environment())
}

fn order(spec: Spec<String>) -> Order {
    Order {
        tags: Tags { deployment: Uuid::new_v4(), resource: ResourceId::new() },
        operation: OperationId::new(),
        name: "a-name".into(),
        labels: [("env".to_owned(), "ci".to_owned())].into(),
        spec,
    }
}

fn volume(size_gib: u32) -> Order {
    order(Spec::Volume(VolumeSpec { size_gib }))
}

/// A response of EC2.
fn answer(status: &str, body: &str) -> Behavior {
    let length = body.len();
    Behavior::Raw(
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes(),
    )
}

fn refusal(code: &str) -> Behavior {
    let body = format!("<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors></Response>");
    answer("400 Bad Request", &body)
}

fn described(size: u32) -> Behavior {
    let volume = format!("<item><volumeId>vol-12345678</volumeId><size>{size}</size><status>in-use</status></item>");
    answer("200 OK", &format!("<DescribeVolumesResponse><volumeSet>{volume}</volumeSet></DescribeVolumesResponse>"))
}

fn actions(ec2: &Receiver) -> Vec<String> {
    let action = |body: Vec<u8>| {
        let parameters = form_urlencoded::parse(&body).into_owned().collect::<Vec<_>>();
        parameters.into_iter().find(|(name, _)| name == "Action").unwrap().1
    };
    ec2.received().into_iter().map(|received| action(received.body)).collect()
}

#[tokio::test]
async fn call_is_one_signed_post_and_redirects_are_not_followed() {
    let ec2 = Receiver::start().await;
    ec2.set(Behavior::Respond("307 Temporary Redirect", format!("location: {}\r\n", ec2.url())));
    let order = volume(20);
    let refused = aws(&ec2.url()).create(&order).await.unwrap_err();
    assert_eq!((refused.kind, refused.code.as_str()), (DriverErrorKind::Invalid, "http_307"));
    let [received] = &ec2.received()[..] else { panic!("{:?}", actions(&ec2)) };
    let signature = received.header("authorization");
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{signature}");
    assert!(signature.contains("/eu-central-1/ec2/aws4_request"), "{signature}");
    assert_eq!(received.header("x-amz-security-token"), "the-token-of-the-operator");
    let body = String::from_utf8(received.body.clone()).unwrap();
    for part in [
        "Action=CreateVolume&Version=2016-11-15&AvailabilityZone=eu-central-1a&Size=20&VolumeType=gp3",
        &format!("ClientToken={}", order.operation),
        "TagSpecification.1.ResourceType=volume",
        &format!("Key=cloudapi%3Aresource&TagSpecification.1.Tag.4.Value={}", order.tags.resource),
        "Key=label%3Aenv&TagSpecification.1.Tag.5.Value=ci",
    ] {
        assert!(body.contains(part), "{part} not found in {body}");
    }
    assert!(!format!("{received:?}").contains("the-secret-of-the-operator"));
}

#[tokio::test]
async fn invalid_responses_are_retryable() {
    let ec2 = Receiver::start().await;
    let aws = aws(&ec2.url());
    let read = async || aws.read(Kind::Volume, "vol-12345678").await.unwrap_err();
    let long = "x".repeat(9 * 1024 * 1024);
    for (manner, code) in [
        (answer("200 OK", "not what it should be"), "bad_answer"),
        (answer("200 OK", &long), "bad_answer"),
        (Behavior::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n<Describe".to_vec()), "bad_answer"),
        (Behavior::Raw(b"\0\0\0".to_vec()), "unreachable"),
        (answer("502 Bad Gateway", "<html>"), "http_502"),
        (refusal("RequestLimitExceeded"), "RequestLimitExceeded"),
    ] {
        ec2.set(manner);
        let refused = read().await;
        assert!(matches!(refused.kind, DriverErrorKind::Retryable { .. }), "{refused}");
        assert_eq!(refused.code, code);
    }
    drop(ec2);
    let refused = read().await;
    assert!(matches!(refused.kind, DriverErrorKind::Retryable { .. }), "{refused}");
    assert_eq!(refused.code, "unreachable");
}

#[tokio::test]
async fn missing_credentials_fail_before_sending_and_error_names_the_variables() {
    let ec2 = Receiver::start().await;
    let aws = aws_with(&ec2.url(), "eu-central-1", Arc::new(|_| None));
    let refused = aws.create(&volume(1)).await.unwrap_err();
    assert_eq!(refused.kind, DriverErrorKind::Denied);
    assert!(refused.message.contains("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{refused}");
    assert_eq!(ec2.connections(), 0);
}

#[tokio::test]
async fn list_continues_with_next_token() {
    let ec2 = Receiver::start().await;
    let volume = "<item><volumeId>vol-12345678</volumeId><size>1</size><status>available</status></item>";
    let body = format!("<R><volumeSet>{volume}</volumeSet><nextToken>a+b/c=</nextToken></R>");
    ec2.set_one(0, answer("200 OK", &body));
    ec2.set(answer("200 OK", "<R><volumeSet/></R>"));
    let aws = aws(&ec2.url());
    let mut query = ListQuery { kind: Kind::Volume, deployment: Uuid::new_v4(), owner: OwnerFilter::All, cursor: None };
    let page = aws.list_owned(&query).await.unwrap();
    assert_eq!((page.objects.len(), page.next.as_deref()), (1, Some("a+b/c=")));
    query.cursor = page.next;
    assert_eq!(aws.list_owned(&query).await.unwrap().next, None);
    let body = String::from_utf8(ec2.received()[1].body.clone()).unwrap();
    assert!(body.contains("MaxResults=100&NextToken=a%2Bb%2Fc%3D"), "{body}");
}

#[tokio::test]
async fn resize_accepts_a_modification_in_progress_only_with_the_same_target() {
    for (target, code) in [(20, None), (15, Some("IncorrectModificationState"))] {
        let ec2 = Receiver::start().await;
        ec2.set_one(0, described(10));
        ec2.set_one(1, answer("200 OK", "<CreateTagsResponse/>"));
        ec2.set_one(2, refusal("IncorrectModificationState"));
        let modification = format!(
            "<R><volumeModificationSet><item><targetSize>{target}</targetSize><modificationState>modifying</modificationState>\
             </item></volumeModificationSet></R>"
        );
        ec2.set_one(3, answer("200 OK", &modification));
        let updated = aws(&ec2.url()).update("vol-12345678", &volume(20)).await;
        assert_eq!(updated.err().map(|error| error.code), code.map(str::to_owned));
        let expected = ["DescribeVolumes", "CreateTags", "ModifyVolume", "DescribeVolumesModifications"];
        assert_eq!(actions(&ec2), expected);
    }
}

#[tokio::test]
async fn labels_are_synced_as_tags_and_foreign_tags_are_kept() {
    let Some(url) = moto::url() else { return };
    let region = moto::region();
    let aws = aws_with(url, region, environment());
    let mut order = volume(1);
    let volume = aws.create(&order).await.unwrap().reference;
    moto::call(region, &format!("Action=CreateTags&ResourceId.1={volume}&Tag.1.Key=theirs&Tag.1.Value=1")).await;
    let tags = async || {
        let form = format!("Action=DescribeTags&Filter.1.Name=resource-id&Filter.1.Value.1={volume}");
        let answer = moto::call(region, &form).await;
        let own = ["cloudapi:deployment", "cloudapi:provider", "cloudapi:resource"];
        assert!(own.iter().all(|key| answer.contains(&format!("<key>{key}</key>"))), "{answer}");
        ["Name", "label:env", "label:team", "theirs"].map(|key| {
            let rest = answer.split(&format!("<key>{key}</key>")).nth(1)?;
            rest.split("<value>").nth(1)?.split('<').next().map(str::to_owned)
        })
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(tags().await, [some("a-name"), some("ci"), None, some("1")]);
    order.name = "another".into();
    order.labels = [("team".to_owned(), "web".to_owned())].into();
    for _ in 0..2 {
        aws.update(&volume, &order).await.unwrap();
        assert_eq!(tags().await, [some("another"), None, some("web"), some("1")]);
    }
    aws.delete(Kind::Volume, &volume).await.unwrap();
}

#[tokio::test]
async fn missing_subnet_is_recreated_by_instance_creation_and_update() {
    let Some(url) = moto::url() else { return };
    let region = moto::region();
    let aws = aws_with(url, region, environment());
    let network = order(Spec::Network(NetworkSpec { cidr: "10.7.0.0/24".parse().unwrap() }));
    let vpc = aws.create(&network).await.unwrap();
    let mut lost = subnet(&vpc.outputs);
    for needs_it in ["an instance", "an update"] {
        moto::call(region, &format!("Action=DeleteSubnet&SubnetId={lost}")).await;
        let without = aws.read(Kind::Network, &vpc.reference).await.unwrap().unwrap();
        assert_eq!(without.outputs.get("subnet_id"), None);
        if needs_it == "an instance" {
            let spec = InstanceSpec {
                size: "small".into(),
                image: "debian-12".into(),
                network: Some(vpc.reference.clone()),
                volumes: Vec::new(),
            };
            let instance = aws.create(&order(Spec::Instance(spec))).await.unwrap();
            aws.delete(Kind::Instance, &instance.reference).await.unwrap();
        } else {
            aws.update(&vpc.reference, &network).await.unwrap();
        }
        let mended = aws.read(Kind::Network, &vpc.reference).await.unwrap().unwrap();
        assert_ne!(subnet(&mended.outputs), lost, "subnet not recreated by {needs_it}");
        lost = subnet(&mended.outputs);
    }
    // The subnet is deleted with its network.
    aws.delete(Kind::Network, &vpc.reference).await.unwrap();
    assert!(!moto::call(region, "Action=DescribeSubnets").await.contains(&lost));
}

fn subnet(outputs: &serde_json::Map<String, Value>) -> String {
    outputs["subnet_id"].as_str().unwrap().to_owned()
}

/// Waits until an accepted operation succeeds; returns the ID of its resource.
async fn succeeded(owner: &Session<'_>, accepted: Value) -> String {
    let operation = accepted["operation"]["id"].as_str().unwrap();
    let operation = owner.get(&format!("/v1/operations/{operation}?wait=20")).await.ok();
    assert_eq!(operation["status"], "succeeded", "{operation}");
    operation["resource_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn environment_is_created_used_and_deleted_without_leftovers() {
    let Some(url) = moto::url() else { return };
    let region = moto::region();
    // The server reads credentials from its usual place; `.ci/moto` sets dummy credentials there.
    assert!(
        std::env::var_os("AWS_ACCESS_KEY_ID").is_some(),
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to 'testing'"
    );
    let settings = format!("region = '{region}'\nendpoint = '{url}'\nimages = {{ debian-12 = 'ami-12c6146b' }}");
    let driver = DriverSettings::Aws(Box::new(toml::from_str(&settings).unwrap()));
    let providers = vec![ProviderSettings { name: "aws".into(), import_projects: ImportProjects::None, driver }];
    let options = AppOptions { cloud: CloudOptions { providers, ..CloudOptions::default() }, ..AppOptions::default() };
    let app = TestApp::start_with(options).await;
    let owner = app.owner().await;

    // A label to find the objects directly at the provider.
    let env = Uuid::new_v4().to_string();
    let ask = async |kind: &str, name: &str, spec: Value| {
        let body =
            json!({ "project_id": owner.project, "kind": kind, "name": name, "spec": spec, "labels": { "env": env } });
        owner.post("/v1/resources", body).await.expect(reqwest::StatusCode::ACCEPTED)
    };
    let act = async |id: &str, action: Value| {
        let accepted = owner.post(&format!("/v1/resources/{id}/actions"), action).await;
        succeeded(&owner, accepted.expect(reqwest::StatusCode::ACCEPTED)).await
    };
    // All are created concurrently: a resource waits for those it depends on.
    let network = ask("network.network", "net", json!({ "cidr": "10.8.0.0/24" })).await;
    let disk = ask("storage.volume", "disk", json!({ "size_gib": 5 })).await;
    let (network_id, disk_id) = (network["resource"]["id"].clone(), disk["resource"]["id"].clone());
    let spec = json!({ "size": "small", "image": "debian-12", "network": network_id, "volumes": [disk_id] });
    let web = ask("compute.instance", "web", spec).await;
    let [network, disk, web] =
        [succeeded(&owner, network).await, succeeded(&owner, disk).await, succeeded(&owner, web).await];

    let shown = owner.get(&format!("/v1/resources/{web}")).await.ok();
    assert_eq!((&shown["status"]["phase"], &shown["status"]["power"]), (&json!("active"), &json!("on")));
    assert!(shown["status"]["outputs"]["private_ip"].as_str().unwrap().starts_with("10.8.0."), "{shown}");
    let reference = shown["status"]["provider_ref"].as_str().unwrap().to_owned();
    let there =
        moto::call(region, &format!("Action=DescribeVpcs&Filter.1.Name=tag:label:env&Filter.1.Value.1={env}")).await;
    assert!(there.contains(&env), "{there}");

    act(&web, json!({ "action": "stop" })).await;
    act(&web, json!({ "action": "resize", "size": "large" })).await;
    act(&web, json!({ "action": "start" })).await;
    // A running instance is stopped for the resize and started again.
    act(&web, json!({ "action": "resize", "size": "medium" })).await;
    act(&disk, json!({ "action": "resize", "size_gib": 8 })).await;
    act(&web, json!({ "action": "detach", "volume": disk })).await;
    let shown = owner.get(&format!("/v1/resources/{web}")).await.ok();
    assert_eq!(
        (&shown["status"]["power"], &shown["status"]["outputs"]["instance_type"]),
        (&json!("on"), &json!("t3.medium"))
    );

    // The instance is stopped directly at the provider.
    moto::call(region, &format!("Action=StopInstances&InstanceId.1={reference}")).await;
    let synced = owner.post_empty(&format!("/v1/resources/{web}/sync")).await.expect(reqwest::StatusCode::ACCEPTED);
    succeeded(&owner, synced).await;
    let shown = owner.get(&format!("/v1/resources/{web}")).await.ok();
    assert_eq!(shown["status"]["conditions"][0]["type"], "drifted", "{shown}");

    for id in [web, disk, network] {
        let accepted = owner.delete(&format!("/v1/resources/{id}")).await.expect(reqwest::StatusCode::ACCEPTED);
        succeeded(&owner, accepted).await;
    }
    let ours = format!("Filter.1.Name=tag:label:env&Filter.1.Value.1={env}");
    let running = "Filter.2.Name=instance-state-name&Filter.2.Value.1=running&Filter.2.Value.2=stopped";
    let left = moto::call(region, &format!("Action=DescribeInstances&{ours}&{running}")).await;
    assert!(!left.contains("<instanceId>"), "{left}");
    for action in ["DescribeVolumes", "DescribeVpcs", "DescribeSubnets"] {
        let left = moto::call(region, &format!("Action={action}&{ours}")).await;
        assert!(!left.contains(&env), "{left}");
    }
}
