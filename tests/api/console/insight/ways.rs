//! Pasted IDs, the project switcher and what the command palette lists.

use cloudapi::base::identity::role::Role;
use serde_json::json;

use crate::support::{
    Identity, TestApp,
    browser::{Browser, text},
    trail::all_sealed,
};

#[tokio::test]
async fn pasted_id_opens_its_object() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let key = owner.key().await;
    all_sealed(&app.db).await;
    let path = format!("/v1/audit-logs?project_id={}&action=key.created", owner.project);
    let entry = owner.get(&path).await.ok()["data"][0]["id"].as_str().unwrap().to_owned();
    let opens = async |id: &str, path: &str| {
        let reply = browser.post("/console/go", &[("q", id)]).await;
        assert_eq!((reply.status, reply.header("location")), (303, Some(path)), "{id}: {}", text(&reply));
    };
    opens(&format!(" {} ", owner.project), &browser.path("")).await;
    opens(&key.id, &browser.path(&format!("/keys/{}", key.id))).await;
    opens(&entry, &browser.path(&format!("/audit/{entry}"))).await;
    let user = owner.user_id.to_string();
    opens(&user, &browser.path(&format!("/members/{user}"))).await;
    let events = owner.get(&format!("/v1/events?project_id={}&type=key.created", owner.project)).await.ok();
    let event = events["data"][0]["id"].as_str().unwrap();
    opens(event, &browser.path(&format!("/events/{event}"))).await;
    let sessions = owner.get("/v1/sessions").await.ok();
    opens(sessions["data"][0]["id"].as_str().unwrap(), "/console/account").await;
    let (stranger, _) = Browser::owner(&app).await;
    for id in
        [key.id.as_str(), &entry, &user, event, &owner.id, "aud_1", "evt_1", "usr_1", "sess_1", "nonsense", "<script>"]
    {
        let reply = stranger.post("/console/go", &[("q", id)]).await;
        assert!(reply.status == 404 && text(&reply).contains("Nothing found"), "{id}: {}", text(&reply));
        assert!(!text(&reply).contains("<script>"));
    }
}

#[tokio::test]
async fn palette_lists_actions_of_the_role() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let commands = |page: &str| {
        page.split("<template id=\"commands\">").nth(1).unwrap().split("</template>").next().unwrap().to_owned()
    };
    let listed = commands(&text(&browser.get(&browser.path("")).await));
    for action in ["Create a key", "Create a token", "Create a project", "Invite a person", "Create a resource"] {
        assert!(listed.contains(action), "{action} in {listed}");
    }
    let viewer = Browser::member(&owner, Role::Viewer).await;
    let listed = commands(&text(&viewer.get(&viewer.path("")).await));
    assert!(
        !listed.contains("Create a key") && !listed.contains("Invite") && listed.contains("Create a project"),
        "{listed}"
    );
}

#[tokio::test]
async fn switcher_lists_projects_and_leads_to_a_new_one() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let other = owner.post("/v1/projects", json!({ "name": "<i>other</i>" })).await.created();
    let page = text(&browser.get(&browser.path("/keys")).await);
    assert!(page.contains("&#60;i&#62;other") && page.contains(other["id"].as_str().unwrap()), "{page}");
    assert!(page.contains("href=\"/console/projects/new\""), "{page}");
    let page = text(&browser.get("/console").await);
    assert!(page.contains("Create a project") && page.contains("&#60;i&#62;other"), "{page}");
}
