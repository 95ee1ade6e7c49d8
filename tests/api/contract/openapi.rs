//! The OpenAPI document, and the command that prints it.

use std::{collections::BTreeSet, env, fs, path::Path};

use cloudapi::{
    http::catalog::entry,
    resources::kinds::Kind,
    server::{docs::openapi::errors_of, routes},
};
use serde_json::{Map, Value, json};

use crate::support::{
    Identity, TestApp,
    binary::Deployment,
    document::{self, described, parameters, resolve},
};

fn committed() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/openapi.json")
}

#[test]
fn committed_description_matches_the_served_one() {
    let served = serde_json::to_string_pretty(document::published()).unwrap() + "\n";
    if env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(committed(), &served).unwrap();
    }
    assert!(
        fs::read_to_string(committed()).unwrap_or_default() == served,
        "the document changed; if intended, run: UPDATE_OPENAPI=1 cargo test --test api committed_description"
    );
}

#[tokio::test]
async fn server_and_command_return_the_same_document() {
    let app = TestApp::start().await;
    let served = app.anonymous().get("/openapi.json").await.ok();
    assert_eq!(&served, document::published());
    let printed: Value = serde_json::from_str(&Deployment::new().printed(&["openapi"])).unwrap();
    assert_eq!(printed, served);
}

#[test]
fn every_operation_has_unique_id_summary_description_security_and_request_id_headers() {
    let mut ids = BTreeSet::new();
    for (path, item) in document::published()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
            for name in ["summary", "description"] {
                assert!(operation[name].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}: {name}");
            }
            assert!(operation["security"].is_array(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let headers = &resolve(response)["headers"];
                assert!(resolve(&headers["X-Request-Id"])["schema"].is_object(), "{method} {path} {status}");
            }
        }
    }
    let webhooks = document::published()["webhooks"].as_object().unwrap().values();
    for webhook in webhooks.flat_map(|item| item.as_object().unwrap().values()) {
        assert!(ids.insert(webhook["operationId"].as_str().unwrap()), "{webhook}");
    }
}

#[test]
fn every_tag_and_response_has_a_description() {
    let tags = document::published()["tags"].as_array().unwrap();
    assert!(tags.iter().all(|tag| tag["description"].as_str().is_some_and(|text| !text.is_empty())), "{tags:#?}");
    for (path, item) in document::published()["paths"].as_object().unwrap() {
        for response in
            item.as_object().unwrap().values().flat_map(|operation| operation["responses"].as_object().unwrap())
        {
            assert!(
                resolve(response.1)["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{path} {}",
                response.0
            );
        }
    }
}

#[test]
fn no_parameter_is_nullable() {
    for (path, item) in document::published()["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            for parameter in parameters(operation) {
                assert!(!resolve(&parameter["schema"]).to_string().contains("null"), "{path}: {parameter}");
            }
        }
    }
}

#[test]
fn every_body_schema_is_an_object_because_client_generators_fail_on_true() {
    fn contents<'a>(value: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let path = format!("{path}/{name}");
            match value.get("schema") {
                Some(schema) if path.contains("/content/") => found.push((path, schema)),
                _ => contents(value, &path, found),
            }
        }
    }
    let mut found = Vec::new();
    contents(&document::published()["paths"], "", &mut found);
    contents(&document::published()["webhooks"], "", &mut found);
    contents(&document::published()["components"]["responses"], "", &mut found);
    assert!(found.len() > 20);
    for (path, schema) in found {
        assert!(schema.is_object(), "{path} has the schema {schema}");
    }
}

#[test]
fn cursor_pattern_is_the_id_of_the_listed_items() {
    for (path, prefix) in
        [("keys", "key"), ("projects", "proj"), ("sessions", "sess"), ("tokens", "tok"), ("users", "usr")]
    {
        let operation = &document::published()["paths"][format!("/v1/{path}")]["get"];
        let cursor = parameters(operation).find(|parameter| parameter["name"] == "cursor").unwrap();
        let answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
        let list = document::published().pointer(answer.strip_prefix('#').unwrap()).unwrap();
        for schema in [&cursor["schema"], &list["properties"]["next_cursor"]] {
            assert_eq!(schema["pattern"], format!("^{prefix}_[1-9a-f][0-9a-f]{{0,31}}$"), "{path}: {schema}");
        }
    }
}

#[test]
fn required_members_are_listed_and_optional_parameters_have_defaults() {
    let schemas = &document::published()["components"]["schemas"];
    // Only sessions create keys, and a session must name the project.
    assert_eq!(schemas["NewKey"]["required"], json!(["project_id"]));
    let operation = &document::published()["paths"]["/v1/users"]["get"];
    for (name, default) in [("limit", json!(25)), ("order", json!("asc"))] {
        let parameter = parameters(operation).find(|parameter| parameter["name"] == name).unwrap();
        assert_eq!(parameter["schema"]["default"], default, "{name}");
    }
    let project = parameters(operation).find(|parameter| parameter["name"] == "project_id").unwrap();
    assert_eq!(project["schema"]["examples"], json!(["proj_8f2c4"]));
}

#[test]
fn no_parameter_of_a_get_request_is_nullable() {
    for (path, item) in document::published()["paths"].as_object().unwrap() {
        for parameter in parameters(&item["get"]) {
            assert!(!resolve(&parameter["schema"]).to_string().contains("null"), "{path}: {parameter}");
        }
    }
}

#[test]
fn error_codes_of_every_operation_match_its_route() {
    let all = &document::published()["components"]["schemas"]["ProblemCode"]["x-extensible-enum"];
    assert!(all.as_array().unwrap().contains(&json!("validation_failed")));
    let table = routes::table();
    for operation in table.operations() {
        let described = described(operation);
        let codes = document::error_codes(described);
        let expected = errors_of(operation);
        assert_eq!(codes, expected.iter().map(|code| code.as_str()).collect(), "{}", operation.name());
        let statuses: BTreeSet<String> = expected.iter().map(|&code| entry(code).status.as_u16().to_string()).collect();
        let responses = described["responses"].as_object().unwrap().keys();
        let described: BTreeSet<String> = responses.filter(|status| status.as_str() >= "400").cloned().collect();
        assert_eq!(described, statuses, "{}", operation.name());
    }
    let create = described(table.operations().find(|operation| operation.name() == "POST /v1/tokens").unwrap());
    for code in ["validation_failed", "idempotency_key_reused"] {
        assert!(document::has_code(create, code), "{create}");
    }
    let shared = &document::published()["components"]["responses"]["Error401"]["x-error-codes"];
    assert!(shared.as_array().unwrap().contains(&json!("token_revoked")), "{shared}");
    assert!(!create["x-error-codes"].as_array().unwrap().contains(&json!("token_revoked")), "{create}");
}

#[test]
fn every_error_response_references_the_shared_problem_response_of_its_status() {
    let problem = json!({ "$ref": "#/components/schemas/Problem" });
    let mut examples = BTreeSet::new();
    for (path, item) in document::published()["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                if status.parse::<u16>().unwrap() < 400 {
                    continue;
                }
                let not_ready = (path.as_str(), status.as_str()) == ("/readyz", "503");
                let name = if not_ready { "NotReady".to_owned() } else { format!("Error{status}") };
                assert_eq!(response, &json!({ "$ref": format!("#/components/responses/{name}") }), "{path}");
                let content = &resolve(response)["content"]["application/problem+json"];
                assert_eq!(content["schema"], problem, "{path} {status}");
                examples.extend(content["examples"].as_object().into_iter().flatten().map(|(code, example)| {
                    assert_eq!(example, &json!({ "$ref": format!("#/components/examples/{code}") }));
                    assert_eq!(resolve(example)["value"]["code"], code.as_str());
                    assert_eq!(resolve(example)["value"]["status"].to_string(), *status);
                    code.as_str()
                }));
            }
        }
    }
    let described = document::published()["components"]["examples"].as_object().unwrap();
    assert_eq!(examples, described.keys().map(String::as_str).collect());
}

#[tokio::test]
async fn document_stays_small() {
    let app = TestApp::shared().await;
    let plain = app.anonymous().get("/openapi.json").await;
    let packed = app.anonymous().request("GET", "/openapi.json").header("accept-encoding", "gzip").send().await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(plain.body.len() <= 400_000, "{} bytes", plain.body.len());
    assert!(packed.body.len() <= 45_000, "{} bytes with gzip", packed.body.len());
    assert!(fs::metadata(committed()).unwrap().len() < 1_200_000);
}

/// Calls `visit` with each schema in `value` and the path to it.
fn schemas(value: &'static Value, path: &str, visit: &mut dyn FnMut(&str, &'static Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            visit(path, members);
            let schemas_in = |name: &&String| !matches!(name.as_str(), "example" | "examples" | "default" | "value");
            for name in members.keys().filter(schemas_in) {
                schemas(&members[name], &format!("{path}/{name}"), visit);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| schemas(item, &format!("{path}/{n}"), visit));
        }
        _ => {}
    }
}

#[test]
fn no_schema_uses_keywords_that_client_generators_do_not_support() {
    schemas(document::published(), "", &mut |path, schema| {
        assert!(!schema.get("const").is_some_and(Value::is_boolean), "{path} has a constant boolean");
        assert!(schema.get("if").is_none_or(|_| path.ends_with("/properties")), "{path} has a condition");
        let all_of = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        assert!(all_of.into_iter().all(|part| part.get("then").is_none()), "{path} has conditions");
        if let Some(kinds) = schema.get("type").and_then(Value::as_array) {
            assert!(kinds.len() == 2 && kinds[1] == "null", "{path} has the types {kinds:?}");
            assert!(!schema.contains_key("enum") && !schema.contains_key("anyOf"), "{path} is a nullable enum");
        }
        let values = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        assert!(!values.into_iter().any(Value::is_null), "{path} has null as a value");
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        assert!(!format.starts_with("uint") && !matches!(format, "int8" | "int16"), "{path} has the format {format}");
    });
}

/// All schemas reachable from `roots`, each with its path.
fn reachable(roots: Vec<(String, &'static Value)>) -> Vec<(String, &'static Map<String, Value>)> {
    let (mut todo, mut seen, mut found) = (roots, BTreeSet::new(), Vec::new());
    while let Some((path, root)) = todo.pop() {
        schemas(root, &path, &mut |path, schema| {
            found.push((path.to_owned(), schema));
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str)
                && seen.insert(reference)
            {
                todo.push((reference.to_owned(), document::published().pointer(&reference[1..]).unwrap()));
            }
        });
    }
    found
}

#[test]
fn enums_are_closed_in_requests_and_extensible_in_responses() {
    let operations = || {
        let paths = document::published()["paths"].as_object().unwrap().values();
        paths.flat_map(|item| item.as_object().unwrap().values())
    };
    let id = |operation: &'static Value| operation["operationId"].as_str().unwrap();
    let requests = operations().flat_map(|operation| {
        let path = format!("{} request", id(operation));
        [(path.clone(), &operation["requestBody"]), (path, &operation["parameters"])]
    });
    let mut closed = 0;
    for (path, schema) in reachable(requests.collect()) {
        assert!(!schema.contains_key("x-extensible-enum"), "{path}");
        closed += usize::from(schema.contains_key("enum"));
    }
    assert!(closed > 10, "only {closed}");
    let mut responses: Vec<_> =
        operations().map(|operation| (format!("{} response", id(operation)), &operation["responses"])).collect();
    let webhooks = document::published()["webhooks"].as_object().unwrap();
    responses.extend(webhooks.iter().map(|(name, webhook)| (name.clone(), &webhook["post"]["requestBody"])));
    let mut open = 0;
    for (path, schema) in reachable(responses) {
        let values = schema.get("enum").and_then(Value::as_array).map_or(0, Vec::len);
        assert!(values <= 1, "{path} is a closed enum");
        open += usize::from(schema.contains_key("x-extensible-enum"));
    }
    assert!(open > 10, "only {open}");
    let description = document::published()["info"]["description"].as_str().unwrap();
    assert!(description.contains("`x-extensible-enum`") && description.contains("`x-error-codes`"));
}

#[test]
fn resources_are_discriminated_by_kind() {
    let schemas = &document::published()["components"]["schemas"];
    for name in ["NewResource", "Resource"] {
        let mapping = schemas[name]["discriminator"]["mapping"].as_object().unwrap();
        assert_eq!(schemas[name]["discriminator"]["propertyName"], "kind");
        assert_eq!(
            mapping.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            Kind::ALL.iter().map(|kind| kind.as_str()).collect()
        );
        let alternatives: BTreeSet<&str> =
            schemas[name]["oneOf"].as_array().unwrap().iter().map(|it| it["$ref"].as_str().unwrap()).collect();
        assert_eq!(alternatives, mapping.values().map(|target| target.as_str().unwrap()).collect());
        for (kind, target) in mapping {
            let schema = document::own(document::published().pointer(&target.as_str().unwrap()[1..]).unwrap());
            assert_eq!(schema["properties"]["kind"]["const"], kind.as_str());
            assert!(schema["required"].as_array().unwrap().contains(&json!("kind")));
        }
    }
}

#[test]
fn webhooks_have_a_separate_tag() {
    let of = |section: &str| -> BTreeSet<&str> {
        let items = document::published()[section].as_object().unwrap().values();
        let operations = items.flat_map(|item| item.as_object().unwrap().values());
        operations
            .flat_map(|operation| operation["tags"].as_array().unwrap())
            .map(|tag| tag.as_str().unwrap())
            .collect()
    };
    assert_eq!(of("webhooks"), BTreeSet::from(["event_types"]));
    assert!(!of("paths").contains("event_types"));
    let described = document::published()["tags"].as_array().unwrap();
    assert!(described.iter().any(|tag| tag["name"] == "event_types"));
}

#[test]
fn generated_names_of_inline_schemas_do_not_collide_with_components() {
    let pascal = |name: &str| -> String {
        let words = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
        words.collect()
    };
    let components = document::published()["components"]["schemas"].as_object().unwrap();
    for (name, schema) in components {
        for (member, schema) in document::own(schema)["properties"].as_object().into_iter().flatten() {
            let parts = [(String::new(), schema), ("Inner".to_owned(), &schema["items"])];
            for (suffix, schema) in parts {
                // A nullable reference gets the name of the reference.
                let nullable = json!({ "type": "null" });
                let alternatives = schema["anyOf"].as_array().into_iter().flatten().filter(|it| **it != nullable);
                let of_several = match alternatives.collect::<Vec<_>>().as_slice() {
                    [] => false,
                    [one] => one.get("$ref").is_none(),
                    _ => true,
                };
                let is_named = of_several || ["properties", "oneOf", "enum"].iter().any(|it| schema.get(it).is_some());
                let inline = format!("{name}{}{suffix}", pascal(member.trim_start_matches(['$', 'x', '-'])));
                assert!(!is_named || !components.contains_key(&inline), "{name}.{member} collides with {inline}");
            }
        }
    }
}

#[test]
fn every_reference_resolves() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| match value {
                Value::String(reference) if name == "$ref" => drop(found.insert(reference)),
                _ => references(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    references(document::published(), &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document::published().pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn every_note_belongs_to_an_operation() {
    let operations = document::published()["paths"].as_object().unwrap().values();
    let ids: BTreeSet<&str> = operations
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    for (id, _) in cloudapi::server::docs::openapi::notes::NOTES {
        assert!(ids.contains(id), "{id} is not in {ids:?}");
    }
}
