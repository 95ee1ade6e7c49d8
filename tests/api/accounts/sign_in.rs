//! Sign-in under attack and under load: its cost, delays after wrong passwords, and no delay for the right one.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version, password_hash::PasswordHasher};
use cloudapi::{
    auth::credentials::accounts,
    base::input::limit::{LimitSettings, RateLimit},
    server::state::AppOptions,
};
use serde_json::json;

use crate::support::{
    Identity, Reply, Session, TestApp,
    binary::{Deployment, Server},
    eventually,
};

const PASSWORD: &str = "correct horse battery staple";

async fn sign_in(app: &TestApp, email: &str, password: &str) -> Reply {
    app.anonymous().post("/v1/sessions", json!({ "email": email, "password": password })).await
}

async fn user_with_password(app: &TestApp) -> Session<'_> {
    let user = app.owner().await;
    app.set_password(&user, PASSWORD).await;
    user
}

async fn stored_hash(app: &TestApp, user: &Session<'_>) -> Option<String> {
    let mut db = app.db.acquire().await.unwrap();
    accounts::find(&mut db, user.user_id).await.unwrap().unwrap().password_hash
}

#[tokio::test]
async fn every_attempt_costs_one_verification_known_user_or_not() {
    let app = TestApp::start().await;
    let (user, without_password) = (user_with_password(&app).await, app.user().await);
    for (email, password, status) in [
        (user.email.as_str(), PASSWORD, 201),
        (user.email.as_str(), "wrong", 401),
        (without_password.email.as_str(), PASSWORD, 401),
        ("unknown@example.com", PASSWORD, 401),
        ("no address", PASSWORD, 401),
        ("", "", 401),
    ] {
        let before = app.passwords.verifications();
        assert_eq!(sign_in(&app, email, password).await.status, status, "{email:?}");
        assert_eq!(app.passwords.verifications() - before, 1, "{email:?}");
    }
}

#[tokio::test]
async fn hash_with_weaker_parameters_is_upgraded_at_the_next_sign_in() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(1024, 1, 1, None).unwrap());
    let weak = weak.hash_password(PASSWORD.as_bytes()).unwrap().to_string();
    let mut db = app.db.acquire().await.unwrap();
    accounts::set_password_hash(&mut db, user.user_id, &weak).await.unwrap();
    drop(db);

    sign_in(&app, &user.email, "wrong").await.problem(401, "invalid_credentials");
    assert_eq!(stored_hash(&app, &user).await, Some(weak));
    // Two concurrent sign-ins: one stores the new hash, and both succeed.
    let (one, other) = tokio::join!(sign_in(&app, &user.email, PASSWORD), sign_in(&app, &user.email, PASSWORD));
    assert_eq!((one.status, other.status), (201, 201));
    let upgraded = stored_hash(&app, &user).await.unwrap();
    assert!(upgraded.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{upgraded}");
    sign_in(&app, &user.email, PASSWORD).await.created();
    assert_eq!(stored_hash(&app, &user).await, Some(upgraded));
}

#[tokio::test]
async fn failures_are_counted_per_address_known_or_not_until_the_right_password() {
    let app = TestApp::start().await;
    app.passwords.attempts.set_delays(|_| Duration::ZERO);
    let user = user_with_password(&app).await;
    let failures = |email: &str| app.passwords.attempts.failure_count(email, app.clock.now());
    for n in 1..=5 {
        // Case and surrounding spaces of the address do not matter.
        for email in [user.email.to_uppercase().as_str(), " unknown@example.com", "no address"] {
            sign_in(&app, email, "wrong").await.problem(401, "invalid_credentials");
        }
        for email in [user.email.as_str(), "unknown@example.com", "no address"] {
            assert_eq!(failures(email), n, "{email:?}");
        }
    }
    sign_in(&app, &user.email, PASSWORD).await.created();
    assert_eq!((failures(&user.email), failures("unknown@example.com")), (0, 5));
    app.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(failures("unknown@example.com"), 0);
}

#[tokio::test]
async fn right_password_works_immediately_while_wrong_ones_wait() {
    let app = TestApp::start().await;
    app.passwords.attempts.set_delays(|failures| if failures > 9 { Duration::from_secs(3600) } else { Duration::ZERO });
    let user = user_with_password(&app).await;
    for _ in 0..9 {
        sign_in(&app, &user.email, "wrong").await.problem(401, "invalid_credentials");
    }
    let pausing = async |expected: usize| {
        eventually("the expected number of delayed responses", async || {
            (app.passwords.attempts.delayed() == expected).then_some(())
        })
        .await;
    };
    {
        // More than the server has database connections, and no more than one core accepts.
        let mut wrong = Vec::new();
        for _ in 0..9 {
            let (http, url) = (app.http.clone(), format!("{}/v1/sessions", app.url));
            let body = json!({ "email": user.email, "password": "wrong" });
            wrong.push(tokio::spawn(async move { http.post(url).json(&body).send().await }));
        }
        pausing(9).await;
        assert_eq!(app.passwords.cpu_pool.load().total, 0);
        sign_in(&app, &user.email, PASSWORD).await.created();
        assert_eq!(app.passwords.attempts.delayed(), 9);
        wrong.iter().for_each(tokio::task::JoinHandle::abort);
    }
    // Clients that disconnect leave nothing behind.
    pausing(0).await;
}

#[tokio::test]
async fn invitation_and_password_change_count_failures_like_a_sign_in() {
    let app = TestApp::start().await;
    let (owner, user) = (app.owner().await, user_with_password(&app).await);
    let failures = || app.passwords.attempts.failure_count(&user.email, app.clock.now());
    let body = json!({ "project_id": owner.project, "email": user.email, "role": "viewer" });
    let invitation = owner.post("/v1/users", body).await.created()["invitation"].clone();
    let accept = async |password: &str| {
        let body = json!({ "token": invitation, "password": password });
        app.anonymous().post("/v1/invitations/accept", body).await
    };
    accept("a wrong password").await.problem(401, "invalid_credentials");
    assert_eq!(failures(), 1);
    let change = json!({ "current_password": "wrong", "new_password": "a better password" });
    user.post("/v1/users/me/password", change).await.problem(422, "invalid_current_password");
    assert_eq!(failures(), 2);
    sign_in(&app, &user.email, "wrong").await.problem(401, "invalid_credentials");
    assert_eq!(failures(), 3);
    accept(PASSWORD).await.created();
    assert_eq!(failures(), 0);
}

#[tokio::test]
async fn two_hundred_concurrent_sign_ins_use_bounded_memory_and_all_get_a_response() {
    // All requests come from one address, so its limit is raised.
    let limits = LimitSettings { sign_ins: RateLimit::new(1000, 60), ..LimitSettings::default() };
    let app = TestApp::start_with(AppOptions { limits, ..AppOptions::default() }).await;
    app.passwords.attempts.set_delays(|_| Duration::ZERO);
    let user = user_with_password(&app).await;
    let sign_ins = (0..200).map(|n| {
        let (email, password) = match n % 4 {
            0 => ("unknown@example.com", PASSWORD),
            1 => (user.email.as_str(), "wrong"),
            _ => (user.email.as_str(), PASSWORD),
        };
        sign_in(&app, email, password)
    });
    let healthy = app.anonymous();
    let (answers, health) = tokio::join!(futures_util::future::join_all(sign_ins), healthy.get("/healthz"));
    health.ok();
    let mut seen = std::collections::BTreeMap::<u16, usize>::new();
    for answer in answers {
        *seen.entry(answer.status).or_default() += 1;
        match answer.status {
            201 => drop(answer.created()),
            401 => drop(answer.problem(401, "invalid_credentials")),
            _ => {
                assert_eq!(answer.header("retry-after"), Some("1"));
                answer.problem(503, "overloaded");
            }
        }
    }
    assert!(seen.contains_key(&201) && seen.contains_key(&401), "{seen:?}");
    let (peak, limits) = (app.passwords.cpu_pool.peak(), app.passwords.cpu_pool.limits());
    assert!(peak.running <= limits.running && peak.total <= limits.total, "{peak:?} of {limits:?}");
    assert_eq!(limits.total, 9 * limits.running);
    assert_eq!(app.passwords.cpu_pool.load().total, 0);
    // Afterwards, sign-in works as before.
    sign_in(&app, &user.email, PASSWORD).await.created();
}

#[tokio::test]
async fn common_passwords_are_rejected() {
    let app = TestApp::start().await;
    let user = user_with_password(&app).await;
    let change = async |new: &str| {
        let body = json!({ "current_password": PASSWORD, "new_password": new });
        user.post("/v1/users/me/password", body).await
    };
    let before = app.passwords.verifications();
    let local_part = user.email.split('@').next().unwrap();
    for new in ["1q2w3e4r5t6y", "QWERTYUIOP123", "cloudapi-2026", "xyxyxyxyxyxyxy", "123456789012", local_part] {
        let problem = change(new).await.problem(422, "validation_failed");
        let error = &problem["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!("#/new_password"), &json!("invalid_format")), "{new}");
        assert!(error["detail"].as_str().unwrap().contains("; choose"), "{problem}");
    }
    assert_eq!(app.passwords.verifications(), before);
    change("a better password").await.ok();

    let owner = app.owner().await;
    let body = json!({ "project_id": owner.project, "email": "lovelace@example.com", "role": "viewer" });
    let invitation = owner.post("/v1/users", body).await.created()["invitation"].clone();
    let accept = async |password: &str| {
        let body = json!({ "token": invitation, "password": password });
        app.anonymous().post("/v1/invitations/accept", body).await
    };
    let refused = accept("Lovelace-1815").await.invalid_member();
    assert_eq!(refused, ("#/password".into(), "invalid_format".into()));
    // The invitation is still valid.
    accept("analytical engines").await.created();
}

#[tokio::test]
async fn sign_in_with_a_password_that_is_concurrently_changed_creates_no_session() {
    let app = TestApp::start().await;
    let user = user_with_password(&app).await;
    let new = app.passwords.hash("a better password".into()).await.unwrap();
    let mut change = app.db.begin().await.unwrap();
    accounts::set_password_hash(&mut change, user.user_id, &new).await.unwrap();
    let changed = async {
        // The old password was verified, and the insert of the session waits.
        let waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("the sign-in to wait for the change", async || {
            sqlx::query(waiting).fetch_optional(&app.db).await.unwrap().map(drop)
        })
        .await;
        change.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(sign_in(&app, &user.email, PASSWORD), changed);
    answer.problem(401, "invalid_credentials");
    sign_in(&app, &user.email, "a better password").await.created();
}

/// Resident memory of a process, in KiB.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn repeated_sign_ins_use_no_more_memory_than_one_hash_per_core() {
    let deployment = Deployment::prepared();
    let mut serve = deployment.command(&["serve"]);
    serve.env("CLOUDAPI_SIGN_IN_LIMIT", "100000/1");
    let server = Server::start(serve);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let before = resident(server.id());
    for round in 0..40 {
        let attempt = async |n: usize| {
            let body = json!({ "email": format!("{round}.{n}@example.com"), "password": "wrong" }).to_string();
            let request = http.post(format!("{}/v1/sessions", server.url)).header("content-type", "application/json");
            assert_eq!(request.body(body).send().await.unwrap().status(), 401);
        };
        futures_util::future::join_all((0..4).map(attempt)).await;
    }
    let grown = resident(server.id()).saturating_sub(before);
    let cores = u64::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    // 19 MiB per core, plus a margin.
    assert!(grown < (cores * 19 + 40) * 1024, "{grown} KiB more on {cores} cores");
}
