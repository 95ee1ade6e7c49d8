//! References between resources.

use cloudapi::resources::cloud::CloudOptions;
use serde_json::json;

use super::{RESOURCES, conflict, faults, instance, made, network, path, pipeline, start, volume};
use crate::support::{
    Identity, TestApp,
    cloud::{fast_timing, finish_and_wait, id_of, sim, stalled_provider, wait_until_succeeded},
};

#[tokio::test]
async fn reference_must_be_to_an_existing_resource_of_the_right_kind_and_project() {
    let app = TestApp::shared().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let (key, foreign) = (pipeline(&owner).await, pipeline(&stranger).await);
    let (own, theirs, disk) =
        (made(&key, network()).await, made(&foreign, network()).await, made(&key, volume(1)).await);
    let reported =
        async |network: &str| faults(key.post(RESOURCES, instance(Some(network), &[])).await, "validation_failed");
    let unknown = [("#/spec/network".to_owned(), "unknown_value".to_owned())];
    for network in ["res_1", &theirs, &disk] {
        assert_eq!(reported(network).await, unknown, "{network}");
    }
    let several = key.post(RESOURCES, instance(None, &[&disk, &own, "res_1"])).await;
    let places: Vec<String> = faults(several, "validation_failed").into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, ["#/spec/volumes/1", "#/spec/volumes/2"]);
    // Foreign and nonexistent resources get the same error.
    let detail = async |id: &str| {
        let reply = key.post(RESOURCES, instance(Some(id), &[])).await;
        reply["errors"][0]["detail"].as_str().unwrap().replace(id, "it")
    };
    assert_eq!(detail(&theirs).await, detail("res_1").await);
    let submitted = key.delete(&path(&own)).await.accepted();
    wait_until_succeeded(&key, &submitted).await;
    assert_eq!(reported(&own).await, unknown);
}

#[tokio::test]
async fn reference_must_be_to_a_resource_at_the_same_provider() {
    let app =
        start(CloudOptions { providers: vec![sim("east", 0, 5), sim("west", 0, 5)], timing: fast_timing() }).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let at = |provider: &str, mut body: serde_json::Value| {
        body["provider"] = json!(provider);
        body
    };
    let network = made(&key, at("east", network())).await;
    let reply = key.post(RESOURCES, at("west", instance(Some(&network), &[]))).await;
    assert!(reply["errors"][0]["detail"].as_str().unwrap().contains("at 'west'"), "{}", reply.json());
    assert_eq!(faults(reply, "validation_failed").len(), 1);
    made(&key, at("east", instance(Some(&network), &[]))).await;
}

#[tokio::test]
async fn resource_being_deleted_cannot_be_referenced() {
    let app = start(stalled_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(RESOURCES, network()).await.accepted();
    let network = id_of(&finish_and_wait(&key, &submitted).await);
    let deletion = key.delete(&path(&network)).await.accepted();
    let detail = conflict(key.post(RESOURCES, instance(Some(&network), &[])).await, "resource_locked");
    assert!(detail.contains(&id_of(&deletion["operation"])), "{detail}");
}

#[tokio::test]
async fn of_concurrent_create_in_a_network_and_delete_of_the_network_one_succeeds() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let mut won = [0, 0];
    for round in 0..12 {
        let network = made(&key, network()).await;
        let at = path(&network);
        let (mut into, deletion) = if round % 2 == 0 {
            tokio::join!(key.post(RESOURCES, instance(Some(&network), &[])), key.delete(&at))
        } else {
            let (deletion, into) = tokio::join!(key.delete(&at), key.post(RESOURCES, instance(Some(&network), &[])));
            (into, deletion)
        };
        match (into.status, deletion.status) {
            (202, 409) => {
                let submitted = std::mem::replace(&mut into, deletion);
                let instance = id_of(&submitted.accepted()["resource"]);
                assert!(conflict(into, "resource_in_use").contains(&instance));
                won[0] += 1;
            }
            // Being deleted, or already deleted.
            (409 | 422, 202) => {
                assert!(["resource_locked", "validation_failed"].contains(&into["code"].as_str().unwrap()));
                won[1] += 1;
            }
            both => panic!("{both:?}: {} {}", into.json(), deletion.json()),
        }
    }
    assert_eq!(won[0] + won[1], 12);
}

#[tokio::test]
async fn concurrent_instances_cannot_share_a_volume() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let volume = made(&key, volume(1)).await;
    let wanting = (0..4).map(|_| key.post(RESOURCES, instance(None, &[&volume])));
    let answers = futures_util::future::join_all(wanting).await;
    let (got, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 202);
    assert_eq!(got.len(), 1);
    for answer in refused {
        assert!(conflict(answer, "resource_in_use").contains(&id_of(&got[0]["resource"])));
    }
}
