//! Forms of resources: errors at their fields, previews, and a form for each kind.

use cloudapi::{
    base::id::ResourceId,
    resources::{drivers::config::ImportProjects, kinds::Kind},
    server::state::AppOptions,
};
use serde_json::json;

use super::{after_plan, created, new_volume, settled, start};
use crate::support::{
    Identity, TestApp,
    browser::{Browser, text},
    cloud::{fast_provider, id_of},
};

#[tokio::test]
async fn preview_creates_nothing_until_it_is_applied() {
    let app = start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = browser.path("/resources/new");
    let fields = [("kind", "storage.volume"), ("name", "later"), ("spec.size_gib", "7"), ("step", "plan")];
    let reply = browser.submit(&path, &fields).await;
    let plan = text(&reply);
    assert!(reply.status == 200 && plan.contains("Nothing is created yet"), "{plan}");
    assert!(
        plan.contains("spec.size_gib") && plan.contains("<ins>7</ins>") && plan.contains("<ins>later</ins>"),
        "{plan}"
    );
    let count = async || {
        owner.get(&format!("/v1/resources?project_id={}", owner.project)).await.ok()["data"].as_array().unwrap().len()
    };
    assert_eq!(count().await, 0);
    let form = text(&after_plan(&browser, &path, &plan, false).await);
    assert!(form.contains("value=\"later\"") && form.contains("Create a volume"), "{form}");
    // Applied twice, by a double click.
    for _ in 0..2 {
        assert_eq!(after_plan(&browser, &path, &plan, true).await.status, 303);
    }
    assert_eq!(count().await, 1);
}

#[tokio::test]
async fn wrong_values_are_shown_at_their_fields() {
    let app = start().await;
    let (browser, _) = Browser::owner(&app).await;
    let fields = [("name", "Not A Name"), ("spec.size_gib", "0"), ("labels", "env=a b\nok=1"), ("ttl_seconds", "3600")];
    for step in ["", "plan"] {
        let all = [&fields[..], &[("step", step)]].concat();
        let reply = browser.submit(&browser.path("/resources/new?kind=storage.volume"), &all).await;
        let page = text(&reply);
        assert_eq!(reply.status, 422, "{page}");
        for id in ["e-name", "e-spec.size_gib", "e-labels"] {
            assert!(page.contains(&format!("id=\"{id}\"")), "no error {id} in {page}");
        }
        assert!(page.contains("&#39;env&#39;: ") && page.contains("Not A Name") && page.contains("env=a b"), "{page}");
    }
    let reply = browser
        .submit(&browser.path("/resources/new?kind=storage.volume"), &[("name", "x"), ("spec.size_gib", "many")])
        .await;
    let page = text(&reply);
    assert!(
        reply.status == 422 && page.contains("id=\"e-spec.size_gib\"") && page.contains("value=\"many\""),
        "{page}"
    );
    let missing = browser.submit(&browser.path("/resources/new?kind=network.network"), &[("name", "x")]).await;
    assert!(missing.status == 422 && text(&missing).contains("id=\"e-spec.cidr\""), "{}", text(&missing));
    // A kind or a provider that does not exist leads to the choice.
    for query in ["?kind=storage.cloud", "?kind=storage.volume&provider=none"] {
        let page = text(&browser.get(&browser.path(&format!("/resources/new{query}"))).await);
        assert!(page.contains("Choose what to create"), "{page}");
    }
}

#[tokio::test]
async fn every_kind_has_a_form_that_creates_it_from_the_examples_of_its_schema() {
    let app = start().await;
    let (browser, owner) = Browser::owner(&app).await;
    for kind in Kind::ALL {
        let schema = owner.get(&format!("/v1/schemas/{kind}")).await.ok();
        let path = browser.path(&format!("/resources/new?kind={kind}"));
        let page = text(&browser.get(&path).await);
        let mut fields = vec![("name".to_owned(), "example".to_owned())];
        for (name, member) in schema["properties"].as_object().unwrap() {
            // Members with choices are drawn even if there is none yet.
            assert!(page.contains(&format!("f-spec.{name}")), "{kind} has no field for {name}: {page}");
            let is_required = schema["required"].as_array().is_some_and(|all| all.iter().any(|known| known == name));
            let Some(example) = member["examples"].get(0).filter(|_| is_required) else { continue };
            let example = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
            fields.push((format!("spec.{name}"), example));
        }
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let made = settled(&owner, &created(&browser, &path, &fields).await).await;
        assert_eq!((&made["kind"], &made["status"]["phase"]), (&json!(kind), &json!("active")), "{made}");
    }
}

#[tokio::test]
async fn object_is_imported_if_the_operator_permits_it() {
    let fields = [("kind", "storage.volume"), ("provider", "sim"), ("provider_ref", "vol-1"), ("name", "old")];
    let mut cloud = fast_provider();
    cloud.providers[0].import_projects = ImportProjects::None;
    let app = TestApp::start_with(AppOptions { cloud, ..AppOptions::default() }).await;
    let (browser, _) = Browser::owner(&app).await;
    let reply = browser.submit(&browser.path("/resources/import"), &fields).await;
    let page = text(&reply);
    assert!(reply.status == 422 && page.contains("id=\"e-provider\"") && page.contains("import_projects"), "{page}");

    let app = start().await;
    let (browser, owner) = Browser::owner(&app).await;
    sqlx::query(
        "INSERT INTO sim_objects (provider, reference, kind, name, spec, ready_at)
         VALUES ('sim', 'vol-1', 'storage.volume', 'old', '{\"size_gib\": 5}', now())",
    )
    .execute(&app.db)
    .await
    .unwrap();
    let path = created(&browser, &browser.path("/resources/import"), &fields).await;
    assert_eq!(settled(&owner, &path).await["spec"], json!({ "size_gib": 5 }));
}

#[tokio::test]
async fn names_labels_and_errors_of_resources_are_text() {
    let app = start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = new_volume(&browser, "plain").await;
    let made = settled(&owner, &path).await;
    let bad = "<script>x</script>\"><img>";
    // The API refuses such names, so they are written to the database, as an older version or a provider could.
    sqlx::query(
        "UPDATE resources SET name = $2, labels = jsonb_build_object($2::text, $2::text), provider_ref = $2,
             outputs = jsonb_build_object($2::text, $2::text),
             conditions = jsonb_build_array(jsonb_build_object('type', 'drifted', 'reason', $2::text, 'message', $2::text,
                 'since', '2026-01-01T00:00:00Z', 'difference', jsonb_build_object($2::text, jsonb_build_array($2::text, $2::text))))
         WHERE id = $1",
    )
    .bind(id_of(&made).parse::<ResourceId>().unwrap())
    .bind(bad)
    .execute(&app.db)
    .await
    .unwrap();
    sqlx::query("UPDATE operations SET step = $1, error = jsonb_build_object('code', $1::text, 'detail', $1::text, 'provider_code', $1::text)")
        .bind(bad)
        .execute(&app.db)
        .await
        .unwrap();
    let page = text(&browser.get(&path).await);
    let operation = page.split('"').find(|part| part.contains("/operations/op_")).unwrap().to_owned();
    let query = "%3Cscript%3Ex%3C/script%3E%22%3E%3Cimg%3E";
    let mut paths: Vec<String> = ["", "/edit", "/delete", "/sync?remediate=true", "/actions?action=resize"]
        .map(|end| format!("{path}{end}"))
        .into();
    paths.extend([operation.clone(), format!("{operation}/cancel")]);
    paths.extend(
        [
            "/resources",
            &format!("/resources?label={query}&kind={query}&refers_to={query}"),
            &format!("/resources/new?kind=storage.volume&name={query}&labels={query}&spec.size_gib={query}"),
            &format!("/resources/import?name={query}&kind={query}&provider_ref={query}"),
            &format!("/resources/{query}"),
        ]
        .map(|path| browser.path(path)),
    );
    for path in paths {
        let page = text(&browser.get(&path).await);
        for markup in ["<script>", "<img>", "\"><"] {
            let found = page.replace("\"><summary", "").replace("\"></", "");
            if markup == "\"><" {
                assert!(!page.contains("script>\"><img"), "{path} contains {markup}");
            } else {
                assert!(!found.contains(markup), "{path} contains {markup}");
            }
        }
    }
}
