//! moto's server, which plays AWS, as a child process: one for the test run, on a port of its own of this machine.

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

/// Which program it is; `.ci/moto` installs it and says so.
const PROGRAM: &str = "TEST_MOTO_SERVER";
/// Whether it is a failure that there is none.
const REQUIRED: &str = "TEST_MOTO_REQUIRED";

/// One that runs.
pub struct Moto {
    /// Where it is.
    pub url: String,
    /// As long as this is open, it runs. The system closes it when this process ends, however that comes about.
    _lifeline: ChildStdin,
}

static MOTO: OnceLock<Option<Moto>> = OnceLock::new();
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Each has a world of its own.
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

/// Where it is; none if there is none, which is said.
pub fn url() -> Option<&'static str> {
    MOTO.get_or_init(|| start(&[])).as_ref().map(|moto| moto.url.as_str())
}

/// A region that no other test uses, as long as there are enough of them.
pub fn region() -> &'static str {
    REGIONS[NEXT.fetch_add(1, Ordering::Relaxed) % REGIONS.len()]
}

/// Asks it past the driver, as somebody else would.
pub async fn ask(region: &str, form: &str) -> String {
    ask_at(url().unwrap(), &format!("{region}/ec2"), &format!("{form}&Version=2016-11-15")).await
}

/// Asks one for something of this `scope`, a region and a service. It reads of a signature where it is for, and no more,
/// unless it was told to mind.
pub async fn ask_at(url: &str, scope: &str, form: &str) -> String {
    let credential = format!("AWS4-HMAC-SHA256 Credential=somebody/20260101/{scope}/aws4_request");
    let request = reqwest::Client::new()
        .post(url)
        .header("authorization", credential)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned());
    request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
}

/// Starts one, with this in its environment; none if there is none, which is said.
pub fn start(variables: &[(&str, &str)]) -> Option<Moto> {
    let Some(program) = env::var_os(PROGRAM) else {
        assert!(env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, and {PROGRAM} names no program");
        // Past the test harness, which would keep it to itself.
        let _ = writeln!(
            io::stderr(),
            "############ SKIPPED: the tests of the aws driver, since {PROGRAM} names no moto_server; .ci/moto runs them"
        );
        return None;
    };
    // It ends when its standard input does; moto itself would not.
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
    // It is read to its end, lest moto should hang while it logs.
    thread::spawn(move || {
        for line in lines {
            if let Some((_, url)) = line.split_once("Running on ") {
                let _ = found.send(url.trim().to_owned());
            }
        }
        let _ = child.wait();
    });
    let url = url.recv_timeout(Duration::from_secs(60)).expect("moto_server did not say where it listens");
    Some(Moto { url, _lifeline: lifeline })
}
