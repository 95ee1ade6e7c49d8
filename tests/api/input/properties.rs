//! Properties of the parsers of client input: no input causes a panic, and each value has one accepted form.

use std::net::SocketAddr;

use cloudapi::{
    base::{
        id::{KeyId, ProjectId},
        identity::secret::{Secret, SecretKind},
        input::{
            email::Email,
            limit::RateLimit,
            net::{Cidr, client_address},
            page::{ListQuery, NoFilter},
            schema::{Input, ParsedInput},
        },
        runtime::clock::Timestamp,
    },
    http::request::json,
};
use proptest::prelude::*;
use serde_json::Value;

/// Arbitrary JSON values, including edge cases.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Whether two values are equal in JSON, where 1.0 equals 1.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

proptest! {
    #[test]
    fn id_is_parsed_only_from_its_canonical_form(number in 1u128.., text in "\\PC{0,40}") {
        let id = ProjectId::from_u128(number);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert!(id.to_string().to_uppercase().parse::<ProjectId>().is_err());
        prop_assert!(id.to_string().replace("proj_", "proj_0").parse::<ProjectId>().is_err());
        prop_assert!(id.to_string().parse::<KeyId>().is_err());
        if let Ok(id) = text.parse::<ProjectId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn secret_is_parsed_only_complete_and_unchanged(at in 0usize..57, with in any::<char>(), text in "\\PC{0,80}") {
        let secret = Secret::generate(SecretKind::Key);
        let mut changed: Vec<char> = secret.expose().chars().collect();
        let differs = changed[at] != with;
        changed[at] = with;
        let changed: String = changed.into_iter().collect();
        prop_assert_eq!(Secret::parse(&changed).is_some(), !differs);
        prop_assert!(Secret::parse(&secret.expose()[..at]).is_none());
        let longer = secret.expose().to_owned() + &with.to_string();
        prop_assert!(Secret::parse(&longer).is_none());
        prop_assert!(Secret::parse(&text).is_none());
    }

    #[test]
    fn strict_json_parses_any_serialized_json(value in values()) {
        let text = serde_json::to_vec(&value).unwrap();
        let read = json::parse(&text).unwrap().value;
        prop_assert!(same(&read, &value), "{} is not {}", read, value);
    }

    #[test]
    fn strict_json_never_panics_and_accepts_nothing_that_serde_json_rejects(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(read) = json::parse(&bytes) {
            prop_assert!(same(&serde_json::from_slice(&bytes).unwrap(), &read.value));
        }
    }

    #[test]
    fn strict_json_never_panics_on_almost_json(text in "[\\[\\]{}\",:0-9eE+.\\\\ud8a-f -]{0,80}") {
        if let Ok(read) = json::parse(text.as_bytes()) {
            prop_assert!(same(&serde_json::from_str(&text).unwrap(), &read.value));
        }
    }

    #[test]
    fn list_query_is_validated_without_panic(limit in any::<Option<i64>>(), cursor in any::<Option<String>>(), order in any::<Option<String>>()) {
        let mut query = serde_json::Map::new();
        for (name, value) in [("limit", limit.map(Value::from)), ("cursor", cursor.clone().map(Value::from)), ("order", order.clone().map(Value::from))] {
            if let Some(value) = value {
                query.insert(name.into(), value);
            }
        }
        // Every text is checked.
        let query = ParsedInput { value: Value::Object(query), has_bad_text: true };
        let fits = limit.is_none_or(|limit| (1..=100).contains(&limit)) && order.is_none_or(|order| matches!(order.as_str(), "asc" | "desc"));
        // The schema limits the length of a cursor; `page` checks that it is an ID.
        if ListQuery::<NoFilter>::rules().faults(&query).is_empty() {
            prop_assert!(fits, "{}", query.value);
            let query: ListQuery<NoFilter> = serde_json::from_value(query.value).unwrap();
            let is_id = cursor.is_none_or(|cursor| cursor.parse::<ProjectId>().is_ok());
            prop_assert_eq!(query.page::<cloudapi::base::id::Project>().is_ok(), is_id);
        }
    }

    #[test]
    fn any_text_is_parsed_or_rejected_without_panic(text in "\\PC{0,60}") {
        let _ = (text.parse::<Email>(), text.parse::<RateLimit>(), Timestamp::parse(&text));
        if let Ok(network) = text.parse::<Cidr>() {
            prop_assert_eq!(network.to_string().parse::<Cidr>(), Ok(network));
        }
    }

    #[test]
    fn normalized_email_address_parses_to_itself(text in "[a-zA-ZéÉß.@ ]{0,20}@[a-zA-Z.]{1,10}") {
        if let Ok(email) = text.parse::<Email>() {
            prop_assert_eq!(email.to_string().parse::<Email>().unwrap(), email);
        }
    }

    #[test]
    fn client_address_of_an_untrusted_peer_is_its_own(forwarded in "\\PC{0,80}", peer in any::<(u8, u8)>()) {
        let trusted: Vec<Cidr> = vec!["10.0.0.0/8".parse().unwrap()];
        let peer: SocketAddr = format!("203.0.{}.{}:1", peer.0, peer.1).parse().unwrap();
        prop_assert_eq!(client_address(peer, &forwarded, &trusted), peer.ip());
        let proxy: SocketAddr = "10.0.0.1:1".parse().unwrap();
        // The proxy itself appended the last address.
        let forwarded = forwarded + ",198.51.100.7";
        prop_assert_eq!(client_address(proxy, &forwarded, &trusted).to_string(), "198.51.100.7");
    }
}
