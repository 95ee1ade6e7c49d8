//! All spellings of an email address belong to one account.

use cloudapi::{
    api::users::repo,
    auth::credentials::accounts,
    base::{
        id::UserId,
        input::{
            email::Email,
            limit::{LimitSettings, RateLimit},
        },
    },
    db,
    server::state::AppOptions,
};
use serde_json::json;

use crate::support::{Identity, Session, TestApp, binary::Deployment, cluster};

const PASSWORD: &str = "correct horse battery staple";

/// Groups of spellings of one address; the first is the stored one.
const SPELLINGS: &[&[&str]] = &[
    &[
        "ada@bücher.example",
        "ada@xn--bcher-kva.example",
        "ADA@XN--BCHER-KVA.EXAMPLE",
        "Ada@B\u{dc}CHER.example",
        "ada@bu\u{308}cher.example",
        "ada@ｂücher。example",
    ],
    &["straße@example.com", "strasse@example.com", "STRASSE@example.com", "STRA\u{1e9e}E@EXAMPLE.com"],
    &["jose\u{301}@example.com", "jos\u{e9}@example.com", "JOS\u{c9}@example.com"],
    &["ὈΔΥΣΣΕΎΣ@example.com", "ὀδυσσεύσ@example.com", "ὀδυσσεύς@example.com"],
    &["grace@xn--fa-hia.example", "grace@faß.example"],
];

/// A server with a very high limit for sign-ins.
async fn patient_app() -> TestApp {
    let limits = LimitSettings { sign_ins: RateLimit::new(1_000_000, 1), ..LimitSettings::default() };
    TestApp::start_with(AppOptions { limits, ..AppOptions::default() }).await
}

async fn sign_in(app: &TestApp, email: &str) -> crate::support::Reply {
    app.anonymous().post("/v1/sessions", json!({ "email": email, "password": PASSWORD })).await
}

async fn with_password<'a>(app: &'a TestApp, email: &str) -> Session<'a> {
    let user = app.sign_in_new(UserId::new(), email).await;
    app.set_password(&user, PASSWORD).await;
    user
}

#[tokio::test]
async fn user_signs_in_with_any_spelling_and_sees_the_stored_one() {
    let app = patient_app().await;
    for spellings in SPELLINGS {
        let user = with_password(&app, spellings[0]).await;
        for spelling in *spellings {
            let session = sign_in(&app, spelling).await.created();
            assert_eq!(session["user"]["id"], user.user_id.to_string(), "{spelling}");
            assert_eq!(session["user"]["email"], Email::normalize(spellings[0]), "{spelling}");
        }
    }
    sign_in(&app, "ada@buecher.example").await.problem(401, "invalid_credentials");
    // A dotless i is a different letter.
    with_password(&app, "ida@example.com").await;
    sign_in(&app, "ıda@example.com").await.problem(401, "invalid_credentials");
}

#[tokio::test]
async fn user_is_invited_only_once_with_any_spelling() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    for spellings in SPELLINGS {
        for (n, spelling) in spellings.iter().enumerate() {
            let body = json!({ "project_id": owner.project, "email": spelling, "role": "viewer" });
            let reply = owner.post("/v1/users", body).await;
            assert_eq!(reply.status, if n == 0 { 201 } else { 409 }, "{spelling}: {}", reply.json());
        }
    }
}

#[tokio::test]
async fn invitation_shows_its_own_spelling_and_does_not_reveal_the_account() {
    let app = patient_app().await;
    let owner = app.owner().await;
    with_password(&app, "ada@bücher.example").await;
    let body = json!({ "project_id": owner.project, "email": "ada@xn--bcher-kva.example", "role": "viewer" });
    let invited = owner.post("/v1/users", body).await.created();
    assert_eq!(invited["email"], "ada@xn--bcher-kva.example");
    let listed = owner.get(&format!("/v1/users?project_id={}&role=viewer", owner.project)).await.ok();
    assert_eq!(listed["data"][0]["email"], "ada@xn--bcher-kva.example");
    // A member has the spelling of the account.
    let accepted = json!({ "token": invited["invitation"], "password": PASSWORD });
    app.anonymous().post("/v1/invitations/accept", accepted).await.created();
    let listed = owner.get(&format!("/v1/users?project_id={}&role=viewer", owner.project)).await.ok();
    assert_eq!(listed["data"][0]["email"], "ada@bücher.example");
}

#[tokio::test]
async fn first_accepted_spelling_is_stored() {
    let app = patient_app().await;
    let (owner, other) = (app.owner().await, app.owner().await);
    let invite = async |owner: &Session<'_>, email: &str| {
        let body = json!({ "project_id": owner.project, "email": email, "role": "viewer" });
        owner.post("/v1/users", body).await.created()["invitation"].clone()
    };
    let never_accepted = invite(&owner, "straße@example.com").await;
    let accepted = invite(&other, "strasse@example.com").await;
    let body = json!({ "token": accepted, "password": PASSWORD });
    let session = app.anonymous().post("/v1/invitations/accept", body).await.created();
    assert_eq!(session["user"]["email"], "strasse@example.com");
    // Later spellings do not change the stored one.
    let body = json!({ "token": never_accepted, "password": PASSWORD });
    let session = app.anonymous().post("/v1/invitations/accept", body).await.created();
    assert_eq!(session["user"]["email"], "strasse@example.com");
    assert_eq!(sign_in(&app, "STRASSE@example.com").await.created()["user"]["id"], session["user"]["id"]);
}

#[tokio::test]
async fn failed_attempts_of_all_spellings_are_counted_together() {
    let app = patient_app().await;
    app.passwords.attempts.set_delays(|_| std::time::Duration::ZERO);
    let spellings = SPELLINGS[0];
    with_password(&app, spellings[0]).await;
    for spelling in spellings {
        let body = json!({ "email": spelling, "password": "wrong" });
        app.anonymous().post("/v1/sessions", body).await.problem(401, "invalid_credentials");
    }
    let key = spellings[0].parse::<Email>().unwrap().key();
    let failures = app.passwords.attempts.failure_count(key.as_str(), app.clock.now());
    assert_eq!(failures as usize, spellings.len());
}

#[tokio::test]
async fn address_with_invalid_domain_is_rejected() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    for email in ["a@b..c", "a@.b", "a@b.", "a@xn--\u{e9}", "a@b/c", "a@b?c", "a@"] {
        let body = json!({ "project_id": owner.project, "email": email, "role": "viewer" });
        let fault = owner.post("/v1/users", body).await.invalid_member();
        assert_eq!(fault, ("#/email".into(), "invalid_format".into()), "{email}");
    }
}

/// Inserts a user as stored by an older version, without `email_key`.
async fn insert_old(db: &sqlx::PgPool, id: u128, email: &str) -> UserId {
    let id = UserId::from_u128(id);
    sqlx::query("INSERT INTO users (id, email, created_at) VALUES ($1, $2, now())")
        .bind(id)
        .bind(email)
        .execute(db)
        .await
        .unwrap();
    id
}

async fn keys(db: &sqlx::PgPool) -> Vec<(UserId, Option<String>)> {
    sqlx::query_as("SELECT id, email_key FROM users ORDER BY id").fetch_all(db).await.unwrap()
}

#[tokio::test]
async fn startup_fills_email_keys_and_duplicate_accounts_both_keep_working() {
    let database = cluster::fresh_database().await;
    let pool = db::pool(database.clone(), 2);
    let first = insert_old(&pool, 1, "ada@xn--bcher-kva.example").await;
    let second = insert_old(&pool, 2, "ada@bücher.example").await;
    let alone = insert_old(&pool, 3, "grace@example.com").await;
    // Of two accounts with the same address, the one with a password gets the key.
    sqlx::query("UPDATE users SET password_hash = 'x' WHERE id = $1").bind(second).execute(&*pool).await.unwrap();
    let expected = vec![
        (first, None),
        (second, Some("ada@xn--bcher-kva.example".to_owned())),
        (alone, Some("grace@example.com".to_owned())),
    ];
    // Several servers start concurrently, and later starts change nothing.
    let (one, other) = tokio::join!(db::prepare(&pool), db::prepare(&pool));
    one.unwrap();
    other.unwrap();
    assert_eq!(keys(&pool).await, expected);
    db::prepare(&pool).await.unwrap();
    assert_eq!(keys(&pool).await, expected);

    let mut connection = pool.acquire().await.unwrap();
    for (spelling, found) in [
        ("ada@xn--bcher-kva.example", first),
        ("ada@bücher.example", second),
        ("ada@BÜCHER.example", second),
        ("grace@example.com", alone),
    ] {
        let account = accounts::find_by_email(&mut connection, spelling).await.unwrap().unwrap();
        assert_eq!(account.id, found, "{spelling}");
        let email: Email = spelling.parse().unwrap();
        let now = cloudapi::base::runtime::clock::Clock::system().now();
        let account = repo::find_or_insert(&mut connection, UserId::new(), &email, now).await.unwrap();
        assert_eq!(account.id, found, "{spelling}");
    }
    assert_eq!(keys(&pool).await.len(), 3, "account created");
}

#[tokio::test]
async fn startup_reports_accounts_that_share_an_address_with_remedy() {
    let database = cluster::fresh_database().await;
    let pool = db::pool(database.clone(), 1);
    insert_old(&pool, 1, "ada@xn--bcher-kva.example").await;
    insert_old(&pool, 2, "ada@bücher.example").await;
    pool.close().await;
    let (is_ok, _, error_text) = Deployment::new().run_on(&database, &["migrate"]);
    assert!(is_ok, "{error_text}");
    for word in ["usr_1", "usr_2", "ada@xn--bcher-kva.example", "two accounts have the same email address", "remove"] {
        assert!(error_text.contains(word), "{word} in {error_text}");
    }
}

#[tokio::test]
async fn admin_commands_find_a_user_by_any_spelling() {
    let database = cluster::fresh_database().await;
    let deployment = Deployment::new();
    let bootstrap = |email: &str| {
        let arguments = ["admin", "bootstrap", "--email", email, "--project", "P", "--json"];
        let (is_ok, printed, error_text) = deployment.run_on(&database, &arguments);
        assert!(is_ok, "{error_text}");
        serde_json::from_str::<serde_json::Value>(&printed).unwrap()["user"].clone()
    };
    let user = bootstrap("ada@bücher.example");
    assert_eq!(bootstrap("ADA@xn--bcher-kva.example"), user);
    let (is_ok, _, error_text) =
        deployment.run_on(&database, &["admin", "session", "--email", "ada@XN--BCHER-KVA.example", "--json"]);
    assert!(is_ok, "{error_text}");
}
