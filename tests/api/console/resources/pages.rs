//! What pages of resources show, and what can be done there.

use cloudapi::{base::identity::role::Role, server::state::AppOptions};
use serde_json::json;

use super::{after_plan, created, new_volume, settled, start};
use crate::support::{
    Identity, TestApp,
    browser::{Browser, hidden, text, unescaped},
    cloud::{fast_provider, finish_and_wait, id_of, insert_volume, sim, stalled_provider, wait_until_succeeded},
    eventually,
};

#[tokio::test]
async fn volume_is_created_found_changed_and_deleted() {
    let app = start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let list = browser.path("/resources");
    let page = text(&browser.get(&list).await);
    assert!(page.contains("No resources yet") && page.contains("/resources/new"), "{page}");
    let page = text(&browser.get(&browser.path("/resources/new")).await);
    for shown in ["Compute", "Networking", "Storage", "kind=storage.volume", "Simulation", "Disk that exists"] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    let fields = [
        ("name", "data"),
        ("spec.size_gib", "20"),
        ("labels", "env=ci\nteam=core"),
        ("ttl_seconds", "3600"),
        ("protection", "true"),
    ];
    let path = created(&browser, &browser.path("/resources/new?kind=storage.volume"), &fields).await;
    let made = settled(&owner, &path).await;
    assert_eq!((&made["spec"], &made["protection"]), (&json!({ "size_gib": 20 }), &json!(true)));
    assert_eq!(made["labels"], json!({ "env": "ci", "team": "core" }));
    let page = text(&browser.get(&path).await);
    for shown in
        ["Active", "Size (GiB)", "env=ci", "Create", "Succeeded", "No other resource refers to it", "data-live"]
    {
        assert!(page.contains(shown), "{shown} in {page}");
    }

    // Lists.
    for (query, is_found) in [
        ("?kind=storage.volume", true),
        ("?kind=network.network", false),
        ("?phase=active&label=env%3Dci", true),
        ("?phase=failed", false),
        ("?label=env%3Dprod", false),
    ] {
        let page = text(&browser.get(&format!("{list}{query}")).await);
        assert_eq!(page.contains(&path), is_found, "{query}: {page}");
        assert_eq!(page.contains("No resource matches"), !is_found, "{query}");
    }
    let reply = browser.get(&format!("{list}?label=%3D")).await;
    assert!(reply.status == 422 && text(&reply).contains("id=\"e-label\""), "{}", text(&reply));

    // The change is shown before it is made.
    let edit = format!("{path}/edit");
    let changed = [
        ("name", "data"),
        ("spec.size_gib", "40"),
        ("labels", "env=ci"),
        ("ttl_seconds", ""),
        ("reconcile", "enforce"),
    ];
    let planned = [&changed[..], &[("step", "plan")]].concat();
    let reply = browser.submit(&edit, &planned).await;
    let plan = text(&reply);
    assert_eq!(reply.status, 200, "{plan}");
    for shown in [
        "spec.size_gib",
        "<del>20</del>",
        "<ins>40</ins>",
        "labels.team",
        "protection",
        "reconcile",
        "The provider sim",
    ] {
        assert!(plan.contains(shown), "{shown} in {plan}");
    }
    assert!(!plan.contains("generation"), "{plan}");
    assert_eq!(owner.get(&format!("/v1/resources/{}", id_of(&made))).await.ok()["spec"], json!({ "size_gib": 20 }));
    let form = text(&after_plan(&browser, &edit, &plan, false).await);
    assert!(form.contains("value=\"40\"") && form.contains("env=ci</textarea>"), "{form}");
    let reply = after_plan(&browser, &edit, &plan, true).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(path.as_str())), "{}", text(&reply));
    let after = settled(&owner, &path).await;
    assert_eq!((&after["spec"], &after["labels"]), (&json!({ "size_gib": 40 }), &json!({ "env": "ci" })));
    assert_eq!((&after["expires_at"], &after["reconcile"]), (&json!(null), &json!("enforce")));

    // The name confirms the deletion.
    let delete = format!("{path}/delete");
    let reply = browser.submit(&delete, &[("confirmation", "Data")]).await;
    assert!(reply.status == 422 && text(&reply).contains("This is not the name of the resource"));
    let reply = browser.submit(&delete, &[("confirmation", "data")]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(path.as_str())));
    assert_eq!(settled(&owner, &path).await["status"]["phase"], "deleted");
    let page = text(&browser.get(&path).await);
    assert!(page.contains("is being deleted") && page.contains("Deleted") && !page.contains("/edit"), "{page}");
    let page = text(&browser.get(&delete).await);
    assert!(page.contains("It cannot be deleted now") && !page.contains("confirmation"), "{page}");
}

#[tokio::test]
async fn references_are_chosen_from_existing_resources_and_shown_both_ways() {
    let app = start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let volume = new_volume(&browser, "disk").await;
    let volume_id = volume.rsplit('/').next().unwrap().to_owned();
    settled(&owner, &volume).await;
    let new = browser.path("/resources/new?kind=compute.instance");
    let page = text(&browser.get(&new).await);
    for shown in ["<option value=\"small\"", "<option value=\"debian-12\"", "<b>disk</b>"] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    let fields = [
        ("name", "web"),
        ("spec.size", "small"),
        ("spec.image", "debian-12"),
        ("spec.network", ""),
        ("spec.volumes", &volume_id),
    ];
    let instance = created(&browser, &new, &fields).await;
    settled(&owner, &instance).await;
    let page = text(&browser.get(&instance).await);
    assert!(
        page.contains(&format!("href=\"{volume}\"")) && page.contains("action=stop") && !page.contains("action=start"),
        "{page}"
    );
    let page = text(&browser.get(&volume).await);
    assert!(page.contains(&format!("href=\"{instance}\"")) && page.contains("web"), "{page}");
    let page = text(&browser.get(&format!("{volume}/delete")).await);
    assert!(
        page.contains("These resources use it") && page.contains(&instance) && page.contains("cannot be deleted now"),
        "{page}"
    );
    let page = text(&browser.get(&browser.path(&format!("/resources?refers_to={volume_id}"))).await);
    assert!(page.contains(&instance) && !page.contains(&format!("href=\"{volume}\"")), "{page}");

    // Actions.
    let reply = browser.submit(&format!("{instance}/actions?action=stop"), &[]).await;
    assert_eq!(reply.status, 303, "{}", text(&reply));
    assert_eq!(settled(&owner, &instance).await["status"]["power"], "off");
    let page = text(&browser.get(&instance).await);
    assert!(page.contains("action=start") && !page.contains("action=stop"), "{page}");
    let page = text(&browser.get(&format!("{instance}/actions?action=detach")).await);
    assert!(page.contains("disk (") && page.contains("POST /v1/resources/"), "{page}");
    let reply = browser.submit(&format!("{instance}/actions?action=detach"), &[("volume", &volume_id)]).await;
    assert_eq!(reply.status, 303, "{}", text(&reply));
    assert_eq!(settled(&owner, &instance).await["spec"]["volumes"], json!([]));
    let reply = browser.submit(&format!("{volume}/actions?action=resize"), &[("size_gib", "1")]).await;
    assert!(reply.status == 422 && text(&reply).contains("id=\"e-size_gib\""), "{}", text(&reply));
    let page = text(&browser.get(&format!("{volume}/actions")).await);
    assert!(page.contains("Resize") && page.contains("Continue"), "{page}");
}

#[tokio::test]
async fn drift_is_shown_as_a_difference_and_restored() {
    let app = start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = new_volume(&browser, "drifting").await;
    let made = settled(&owner, &path).await;
    sqlx::query("UPDATE sim_objects SET spec = '{\"size_gib\": 19}' WHERE reference = $1")
        .bind(made["status"]["provider_ref"].as_str().unwrap())
        .execute(&app.db)
        .await
        .unwrap();
    let sync = format!("{path}/sync");
    assert_eq!(browser.submit(&sync, &[]).await.status, 303);
    settled(&owner, &path).await;
    let page = text(&browser.get(&path).await);
    for shown in
        ["It was changed outside CloudAPI", "<del>20</del>", "<ins>19</ins>", "Restore", "edit?spec.size_gib=19"]
    {
        assert!(unescaped(&page).contains(shown), "{shown} in {page}");
    }
    assert!(text(&browser.get(&browser.path("/resources")).await).contains("Drifted"));
    let page = text(&browser.get(&format!("{path}/edit?spec.size_gib=19")).await);
    assert!(page.contains("value=\"19\""), "{page}");
    let page = text(&browser.get(&format!("{sync}?remediate=true")).await);
    assert!(page.contains("<del>19</del>") && page.contains("<ins>20</ins>"), "{page}");
    let reply = browser.submit(&format!("{sync}?remediate=true"), &[]).await;
    assert_eq!(reply.status, 303, "{}", text(&reply));
    let restored = settled(&owner, &path).await;
    assert_eq!(
        (&restored["status"]["conditions"], &restored["reconcile"]),
        (&json!([]), &json!("observe")),
        "{restored}"
    );
    let page = text(&browser.get(&path).await);
    assert!(!page.contains("It was changed outside") && page.contains("Remediate"), "{page}");
}

#[tokio::test]
async fn operation_in_progress_is_shown_and_canceled() {
    let app = TestApp::start_with(AppOptions { cloud: stalled_provider(), ..AppOptions::default() }).await;
    let (browser, owner) = Browser::owner(&app).await;
    let machine = json!({ "project_id": owner.project, "kind": "compute.instance", "name": "slow",
        "spec": { "size": "small", "image": "debian-12" } });
    let made = finish_and_wait(&owner, &owner.post("/v1/resources", machine).await.accepted()).await;
    let path = browser.path(&format!("/resources/{}", id_of(&made)));
    let changed = [("name", "slow"), ("spec.size", "large"), ("ttl_seconds", "keep"), ("reconcile", "observe")];
    assert_eq!(browser.submit(&format!("{path}/edit"), &changed).await.status, 303);
    let page = text(&browser.get(&path).await);
    assert!(page.contains("<progress") && page.contains("Refresh") && !page.contains("/delete"), "{page}");
    let operation = page.split('"').find(|part| part.contains("/operations/op_")).unwrap().to_owned();
    let page = text(&browser.get(&operation).await);
    assert!(page.contains("Cancel the operation") && page.contains(&path) && page.contains("<progress"), "{page}");
    let reply = browser.submit(&format!("{operation}/cancel"), &[]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(operation.as_str())), "{}", text(&reply));
    let id = operation.rsplit('/').next().unwrap();
    eventually("the operation is canceled", async || {
        sqlx::query("UPDATE sim_objects SET ready_at = now()").execute(&app.db).await.unwrap();
        let status = owner.get(&format!("/v1/operations/{id}")).await.ok()["status"].clone();
        (status == "canceled").then_some(())
    })
    .await;
    let page = text(&browser.get(&operation).await);
    assert!(page.contains("Canceled") && !page.contains("/cancel\""), "{page}");
    assert!(text(&browser.get(&format!("{operation}/cancel")).await).contains("has ended"));
}

#[tokio::test]
async fn providers_are_listed_with_what_they_support() {
    let mut cloud = fast_provider();
    cloud.providers.push(sim("second", 0, 5));
    let app = TestApp::start_with(AppOptions { cloud, ..AppOptions::default() }).await;
    let (browser, _) = Browser::owner(&app).await;
    let page = text(&browser.get(&browser.path("/providers")).await);
    for shown in [
        "second",
        "Simulation",
        "compute.instance",
        "debian-12",
        "reboot",
        "Import",
        "kind=storage.volume&#38;provider=second",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    let page = text(&browser.get(&browser.path("/resources")).await);
    assert!(page.contains("Any provider"), "{page}");
    // With several providers, the form needs one.
    let page = text(&browser.get(&browser.path("/resources/new?kind=storage.volume")).await);
    assert!(page.contains("Choose what to create") && page.contains("provider=second"), "{page}");
}

#[tokio::test]
async fn list_of_resources_has_pages() {
    let app = start().await;
    let (browser, owner) = Browser::owner(&app).await;
    for _ in 0..27 {
        insert_volume(&owner).await;
    }
    let page = text(&browser.get(&browser.path("/resources?kind=storage.volume")).await);
    let next = page.split('"').find(|part| part.contains("cursor=")).unwrap();
    assert!(next.contains("kind=storage.volume"), "{next}");
    let page = text(&browser.get(&unescaped(next)).await);
    assert!(page.contains("First page") && page.matches("<th scope=\"row\">").count() == 2, "{page}");
}

#[tokio::test]
async fn viewer_sees_resources_but_no_way_to_change_them() {
    let app = start().await;
    let owner = app.owner().await;
    let body =
        json!({ "project_id": owner.project, "kind": "storage.volume", "name": "seen", "spec": { "size_gib": 1 } });
    let made = wait_until_succeeded(&owner, &owner.post("/v1/resources", body).await.accepted()).await;
    let browser = Browser::member(&owner, Role::Viewer).await;
    let list = text(&browser.get(&browser.path("/resources")).await);
    assert!(list.contains("seen") && !list.contains("/resources/new"), "{list}");
    let path = browser.path(&format!("/resources/{}", id_of(&made)));
    let page = text(&browser.get(&path).await);
    for form in ["/edit", "/delete", "/sync", "/actions"] {
        assert!(!page.contains(&format!("{path}{form}")), "{form} in {page}");
    }
    let page = text(&browser.get(&browser.path("/resources/new")).await);
    assert!(page.contains("There is nothing that you can create"), "{page}");
    let reply = browser.submit(&format!("{path}/sync"), &[]).await;
    assert_eq!(reply.status, 403, "{}", text(&reply));
    // An object of another project is not found.
    let other = app.owner().await;
    let foreign = Browser::of(&other).await;
    for path in [format!("/resources/{}", id_of(&made)), "/operations/op_1".into(), "/resources/nonsense".into()] {
        assert_eq!(foreign.get(&foreign.path(&path)).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn change_of_somebody_else_is_noticed_and_reading_the_provider_is_no_change() {
    let app = start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = new_volume(&browser, "shared").await;
    let made = settled(&owner, &path).await;
    let edit = format!("{path}/edit");
    let form = hidden(&text(&browser.get(&edit).await));
    let kept = |name: &str| form.iter().find(|(known, _)| known == name).unwrap().1.clone();
    let (etag, seen, once) = (kept("_etag"), kept("_seen"), kept("_once"));
    let submit = async |size: &str, once: &str| {
        let fields =
            [("_etag", etag.as_str()), ("_seen", &seen), ("_once", once), ("name", "shared"), ("spec.size_gib", size)];
        browser.post(&edit, &[&fields[..], &[("reconcile", "observe"), ("ttl_seconds", "keep")]].concat()).await
    };
    // Each read of the provider is another entity tag.
    assert_eq!(browser.submit(&format!("{path}/sync"), &[]).await.status, 303);
    settled(&owner, &path).await;
    assert_eq!(submit("30", &once).await.status, 303);
    assert_eq!(settled(&owner, &path).await["spec"], json!({ "size_gib": 30 }));
    let reply = submit("40", "another").await;
    assert!(reply.status == 412 && text(&reply).contains("Somebody changed it"), "{}", text(&reply));
    assert_eq!(owner.get(&format!("/v1/resources/{}", id_of(&made))).await.ok()["spec"], json!({ "size_gib": 30 }));
}
