//! Networks and IP addresses: every place uses the same strict parser.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    Identity, TestApp,
    binary::{Deployment, Server},
    document,
};

/// Invalid spellings, each with a required part of the error.
const REFUSED: &[(&str, &str)] = &[
    ("010.0.0.0/8", "leading zero"),
    ("10.0.0.0/08", "leading zero"),
    ("10.0.00.0/16", "leading zero"),
    ("10.1.2.3/8", "use 10.0.0.0/8"),
    ("10.0.1.0/16", "use 10.0.0.0/16"),
    ("10.0.0.0/+16", "prefix length"),
    ("10.0.0.0/33", "prefix length"),
    ("10.0.0.0/", "prefix length"),
    ("10.0.0.0/255.255.0.0", "prefix length"),
    ("10.0/16", "write it like"),
    ("0x0a.0.0.0/16", "write it like"),
    ("10.0.0.0 /16", "write it like"),
    ("fe80::1%eth0", "zone id"),
    ("fe80::%eth0/64", "zone id"),
    ("::ffff:10.1.2.3/104", "use 10.0.0.0/8"),
    ("::ffff:10.0.0.0/64", "IPv4"),
    ("example.com", "write it like"),
];

/// The names of the schemas that contain a field with this format.
fn schemas_with(format: &str) -> BTreeSet<&'static str> {
    fn has(value: &Value, format: &str) -> bool {
        match value {
            Value::Object(members) => {
                members.get("format").is_some_and(|found| found == format)
                    || members.values().any(|value| has(value, format))
            }
            Value::Array(items) => items.iter().any(|value| has(value, format)),
            _ => false,
        }
    }
    let schemas = document::published()["components"]["schemas"].as_object().unwrap();
    schemas.iter().filter(|(_, schema)| has(schema, format)).map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn every_network_field_uses_the_strict_parser() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = format!("/v1/keys/{}", owner.key().await.id);
    let in_array = ("#/allowed_ips/0", "allowed_ips");
    // Schemas of responses only are not input. A new input schema needs a row below.
    let answered = BTreeSet::from(["Key", "KeyChanges", "NetworkSpec"]);
    let known = BTreeSet::from(["NewKey", "KeyUpdate", "NetworkSpecInput"]);
    let found: BTreeSet<_> = schemas_with("cidr").difference(&answered).copied().collect();
    assert_eq!(found, known);
    for (text, why) in REFUSED {
        let network = json!({
            "project_id": owner.project, "kind": "network.network", "name": "n", "spec": { "cidr": text },
        });
        let replies = [
            (owner.post("/v1/keys", json!({ "project_id": owner.project, "allowed_ips": [text] })).await, in_array.0),
            (owner.patch(&key, json!({ "allowed_ips": [text] })).await, in_array.0),
            (owner.post("/v1/resources", network).await, "#/spec/cidr"),
        ];
        for (reply, pointer) in replies {
            let problem = reply.problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{text}: {problem}");
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.contains(why), "{text}: {detail}");
        }
    }
    let taken =
        json!({ "project_id": owner.project, "allowed_ips": ["::ffff:10.0.0.0/104", "192.0.2.1", "2001:DB8::/32"] });
    let made = owner.post("/v1/keys", taken).await.created();
    assert_eq!(made["allowed_ips"], json!(["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]));
}

#[test]
fn every_network_list_setting_uses_the_strict_parser() {
    let deployment = Deployment::new();
    let help = deployment.printed(&["serve", "--help"]);
    let flags: Vec<&str> = help
        .lines()
        .filter_map(|line| {
            line.trim().strip_suffix("<CIDRS>").or_else(|| line.trim().split_once(" <CIDRS>").map(|it| it.0))
        })
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(flags.len(), 2, "{flags:?} in {help}");
    for flag in flags {
        for (text, why) in REFUSED {
            let command = deployment.command(&["serve", flag, &format!("192.0.2.0/24,{text}")]);
            let Err(error_text) = Server::try_start(command) else { panic!("{flag} accepts {text}") };
            assert!(error_text.replace('\n', " ").contains(why), "{flag} {text}: {error_text}");
        }
    }
}
