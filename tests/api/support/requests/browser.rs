//! A browser in front of the console: it keeps cookies, follows no redirects, and runs no scripts.

use std::{collections::BTreeMap, sync::Mutex};

use cloudapi::base::identity::role::Role;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::{Session, TestApp, reply::Reply};

/// Password of users who sign in at the console.
pub const PASSWORD: &str = "correct horse battery staple";

/// A browser.
pub struct Browser<'a> {
    pub app: &'a TestApp,
    pub cookies: Mutex<BTreeMap<String, String>>,
    /// Project of the person.
    pub project: String,
}

impl<'a> Browser<'a> {
    /// A browser without cookies.
    pub fn new(app: &'a TestApp) -> Self {
        Self { app, cookies: Mutex::default(), project: String::new() }
    }

    /// A browser in which the owner of a new project has signed in.
    pub async fn owner(app: &'a TestApp) -> (Self, Session<'a>) {
        let owner = app.owner().await;
        (Self::of(&owner).await, owner)
    }

    /// A browser in which a new member of the owner's project has signed in.
    pub async fn member(owner: &Session<'a>, role: Role) -> Self {
        Self::of(&owner.app.member(owner, role).await).await
    }

    /// A browser in which this user has signed in, with a password.
    pub async fn of(user: &Session<'a>) -> Self {
        user.app.set_password(user, PASSWORD).await;
        let browser = Self { project: user.project.clone(), ..Self::new(user.app) };
        let reply = browser.sign_in(&user.email, PASSWORD).await;
        assert_eq!(reply.status, 303, "{}", text(&reply));
        browser
    }

    pub async fn sign_in(&self, email: &str, password: &str) -> Reply {
        self.post("/console/sign-in", &[("email", email), ("password", password)]).await
    }

    /// Path of a page of the person's project.
    pub fn path(&self, rest: &str) -> String {
        format!("/console/projects/{}{rest}", self.project)
    }

    /// A request with the cookies, as a browser sends it to open a page.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        let cookies = self.cookies.lock().unwrap();
        let cookies: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = self.app.http.request(method, format!("{}{path}", self.app.url));
        if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) }
    }

    /// Sends a request and keeps the cookies of the response.
    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let reply = Reply::read(request.send().await.unwrap()).await;
        for line in reply.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            self.app.leak_detector.record_secrets(&json!(value));
            let mut cookies = self.cookies.lock().unwrap();
            if value.is_empty() {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        // Secrets that the page shows.
        for word in text(&reply).split(['"', '<', '>', ' ', '=', '\n']) {
            self.app.leak_detector.record_secrets(&json!(word));
        }
        reply
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request("GET", path)).await
    }

    /// Submits a form of this site.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.send(self.request("POST", path).header("sec-fetch-site", "same-origin").body(encoded(fields))).await
    }

    /// Opens a page, and submits its form with these fields in addition to the hidden ones.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let page = text(&self.get(path).await);
        let hidden = hidden(&page);
        let named = |name: &str| fields.iter().any(|(given, _)| *given == name);
        let all: Vec<(&str, &str)> = hidden
            .iter()
            .filter(|(name, _)| !named(name) && name != "return")
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(fields.iter().copied())
            .collect();
        self.post(path, &all).await
    }

    /// The session cookie: name and value.
    pub fn session_cookie(&self) -> Option<(String, String)> {
        let cookies = self.cookies.lock().unwrap();
        let found = cookies.iter().find(|(_, value)| value.starts_with("cbs_"));
        found.map(|(name, value)| (name.clone(), value.clone()))
    }
}

/// Body of a form.
pub fn encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The page as text.
pub fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

/// Hidden fields of a page: names and values, without escapes.
pub fn hidden(page: &str) -> Vec<(String, String)> {
    let inputs = page.split("<input type=\"hidden\" name=\"").skip(1);
    let field = |input: &str| {
        let (name, rest) = input.split_once('"').unwrap();
        let value = rest.split_once("value=\"").unwrap().1.split('"').next().unwrap();
        (name.to_owned(), unescaped(value))
    };
    inputs.map(field).collect()
}

/// Text of HTML.
pub fn unescaped(html: &str) -> String {
    let mut text = html.to_owned();
    for (escape, character) in
        [("&#34;", "\""), ("&#38;", "&"), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&amp;", "&")]
    {
        text = text.replace(escape, character);
    }
    text
}
