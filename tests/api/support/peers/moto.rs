//! moto's server, which emulates AWS, as a child process: one for the test run, on a free local port.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    process::{ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// The path of the program. `.ci/moto` installs it and sets this.
const PROGRAM: &str = "TEST_MOTO_SERVER";
/// If set, a missing program is a failure.
const REQUIRED: &str = "TEST_MOTO_REQUIRED";

/// A running server.
pub struct Moto {
    /// Its base URL.
    pub url: String,
    /// The server runs as long as this pipe is open. The system closes it when this process ends for any reason.
    _lifeline: ChildStdin,
}

static MOTO: OnceLock<Option<Moto>> = OnceLock::new();
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Each region has separate resources.
const REGIONS: [&str; 16] = [
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "sa-east-1",
];

/// The URL of the shared server. None, with a message on stderr, if moto is not installed.
pub fn url() -> Option<&'static str> {
    MOTO.get_or_init(|| start(&[])).as_ref().map(|moto| moto.url.as_str())
}

/// A region that no other test uses, as long as there are enough regions.
pub fn region() -> &'static str {
    REGIONS[NEXT.fetch_add(1, Ordering::Relaxed) % REGIONS.len()]
}

/// Sends a request to the shared server without the driver.
pub async fn call(region: &str, form: &str) -> String {
    call_at(url().unwrap(), &format!("{region}/ec2"), &format!("{form}&Version=2016-11-15")).await
}

/// Sends a request to a server for `scope`, a region and a service. moto reads only this part of a signature, unless it
/// is configured to verify signatures.
pub async fn call_at(url: &str, scope: &str, form: &str) -> String {
    let credential = format!("AWS4-HMAC-SHA256 Credential=somebody/20260101/{scope}/aws4_request");
    let request = reqwest::Client::new()
        .post(url)
        .header("authorization", credential)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned());
    request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
}

/// Starts a server with these environment variables. None, with a message on stderr, if moto is not installed.
pub fn start(variables: &[(&str, &str)]) -> Option<Moto> {
    let Some(program) = env::var_os(PROGRAM) else {
        assert!(env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, but {PROGRAM} is not");
        // Written directly to stderr, because the test harness captures `eprintln!`.
        let _ = writeln!(
            io::stderr(),
            "############ SKIPPED: the tests of the aws driver, because {PROGRAM} is not set; .ci/moto runs them"
        );
        return None;
    };
    // The script ends when its standard input is closed; moto itself would not.
    let script = r#""$0" -H 127.0.0.1 -p 0 & child=$!; read -r _; kill "$child""#;
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(&program)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lifeline = child.stdin.take().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let (found, url) = mpsc::channel();
    // Read until the end, because moto would block on a full pipe.
    thread::spawn(move || {
        for line in lines {
            if let Some((_, url)) = line.split_once("Running on ") {
                let _ = found.send(url.trim().to_owned());
            }
        }
        let _ = child.wait();
    });
    let url = url.recv_timeout(Duration::from_secs(60)).expect("moto_server did not print its address");
    Some(Moto { url, _lifeline: lifeline })
}
