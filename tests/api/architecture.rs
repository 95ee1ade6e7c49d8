//! Checks the direction of imports, and rules that the compiler cannot check.

use std::{
    fs,
    path::{Path, PathBuf},
};

pub fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().trim_end_matches(".rs");
            (name.trim_end_matches("/mod").replace('/', "::"), fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// The rank of a module. A module may import modules of a lower rank.
fn rank(module: &str) -> u8 {
    let mut parts = module.split("::");
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match (first, second) {
        ("main" | "lib" | "cli", _) => 7,
        ("server", _) => 6,
        ("routes", _) => 5,
        ("state", _) => 3,
        ("health" | "openapi", _) => 4,
        ("base" | "config", _) | (_, "model" | "input") => 0,
        // Verification of an audit trail, which works without a database.
        ("audit", "chain" | "checkpoint" | "metrics" | "link" | "line" | "report" | "verify" | "view" | "csv") => 0,
        ("audit", "denial_counts" | "read_counts" | "trail" | "prune") => 1,
        ("metrics", "exposition" | "histogram" | "queue_depth") => 0,
        ("workers", "fault") => 0,
        ("workers", "status") => 1,
        ("workers", _) => 5,
        ("metrics", "requests" | "process") => 1,
        ("db" | "http", _) | (_, "repo" | "invitations" | "metrics") => 1,
        ("usage", "journal" | "meter" | "quota" | "ledger" | "breakdown") => 1,
        // Transactions check the lease and heartbeats of the other nodes.
        ("auth", "lease" | "cache" | "janitor" | "node" | "verified") => 1,
        ("auth" | "tx", _) => 2,
        (_, "handlers" | "acceptance" | "introspection" | "record" | "flush" | "finalize" | "sealer" | "scrape") => 4,
        ("webhooks", "backoff" | "sign" | "url_policy") => 0,
        ("webhooks", "queue" | "send" | "outbox") => 1,
        ("webhooks", "worker") => 4,
        ("audit", "export" | "stream" | "retention") => 4,
        ("resources", "kind" | "spec" | "lifecycle" | "driver" | "machine" | "drift" | "timing") => 0,
        ("resources", "rules") => 2,
        ("resources", "config" | "drivers" | "registry" | "cloud" | "queue" | "rows" | "sweeps") => 1,
        ("resources", "engine" | "reconcile" | "expiry" | "operations" | "providers" | "submit") => 4,
        ("docs", "assets" | "guides" | "pages" | "search") => 2,
        ("docs", "entry") => 4,
        // Shared by readers and the tail, and the OpenAPI text of each event type.
        ("events", "hub" | "changes") => 1,
        ("events", "stream" | "tail") => 4,
        // The root module of a slice.
        (_, "") => 0,
        _ => panic!("{module} has no rank: add it here"),
    }
}

/// The modules that a file imports from this crate.
fn imports(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Unit tests may import more.
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    for (at, _) in source.match_indices("crate::") {
        let rest = &source[at + "crate::".len()..];
        let before = source[..at].trim_end();
        if before.ends_with("use") || !rest.starts_with('{') {
            expand(&mut String::new(), &rest[..end_of_path(rest)], &mut found);
        }
    }
    found
}

/// The end of a path, including its braces.
fn end_of_path(text: &str) -> usize {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ if depth > 0 || character.is_alphanumeric() || matches!(character, '_' | ':') => {}
            _ => return at,
        }
    }
    text.len()
}

/// Expands `a::{b, c::d}` to `a::b` and `a::c::d`.
fn expand(prefix: &mut String, path: &str, found: &mut Vec<String>) {
    let Some(open) = path.find('{') else {
        let path = path.trim();
        let path = path.split(" as ").next().unwrap_or(path);
        if path == "self" {
            found.push(prefix.trim_end_matches("::").to_owned());
        } else if !path.is_empty() {
            found.push(format!("{prefix}{path}"));
        }
        return;
    };
    let length = prefix.len();
    prefix.push_str(path[..open].trim());
    let inner = &path[open + 1..path.rfind('}').unwrap_or(path.len())];
    let (mut depth, mut start) = (0, 0);
    for (at, character) in inner.char_indices().chain([(inner.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(prefix, &inner[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    prefix.truncate(length);
}

#[test]
fn imports_go_in_one_direction() {
    let slice = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let mut wrong = Vec::new();
    for (module, source) in sources() {
        for import in imports(&source) {
            let same = slice(&module) == slice(&import);
            let both_vocabulary = rank(&module) == 0 && rank(&import) == 0;
            // Repositories may import `db` at the same rank.
            let on_db = rank(&module) == 1 && slice(&import) == "db";
            if rank(&import) > rank(&module) || !(same || both_vocabulary || on_db || rank(&import) < rank(&module)) {
                wrong.push(format!("{module} ({}) imports {import} ({})", rank(&module), rank(&import)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn imports_are_parsed() {
    let source =
        "use crate::{auth::grant::{Grant, Session}, base::error::Result, users};\nfn f() -> crate::base::id::KeyId {}";
    let expected = ["auth::grant::Grant", "auth::grant::Session", "base::error::Result", "users", "base::id::KeyId"];
    assert_eq!(imports(source), expected);
    assert!(sources().len() > 40);
}

#[test]
fn only_authorization_code_creates_tenants() {
    let allowed = ["auth::grant", "cli::demo", "cli::quick_start", "base::tenant"];
    for (module, source) in sources() {
        let admits = source.contains("Tenant::from_credential(") || source.contains("fn from_credential(");
        assert!(!admits || allowed.contains(&module.as_str()), "{module} creates a Tenant");
    }
}

#[test]
fn only_the_transaction_type_commits_client_writes() {
    for (module, source) in sources() {
        // In handlers, `tx` is a `Tx`, and its commit requires the change. The sealer's writes are not client writes,
        // and `email_keys` runs before the server accepts clients.
        let begins = source.contains(".begin()") || source.contains(".begin_with(");
        let may = matches!(module.as_str(), "tx" | "audit::sealer" | "db::email_keys");
        assert!(!begins || may, "{module} begins its own transaction");
    }
}

#[test]
fn tokens_are_inserted_only_by_their_database_function() {
    // The function enforces rules that the table has no constraints for: one issuer, and a maximum depth.
    for (module, source) in sources() {
        assert!(!source.contains("INSERT INTO tokens"), "{module} inserts into tokens directly");
    }
}

#[test]
fn source_files_have_at_most_420_lines() {
    for (module, source) in sources() {
        assert!(source.lines().count() <= 420, "{module} has {} lines; split it", source.lines().count());
    }
}

/// Whether SQL in this text selects columns by an asterisk, or inserts without a column list. The columns of such a
/// statement change with the table, and then statements that were prepared earlier fail.
pub fn has_asterisk(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_list = |word: &str| {
        let word = word.trim_matches(['"', ',', ';', '(', ')', '`']);
        word == "*" || word.ends_with(".*")
    };
    let starts = ["SELECT", "RETURNING", "DISTINCT"];
    let named = words.windows(2).any(|pair| {
        let before = pair[0].trim_start_matches(['"', '(', '`']).to_uppercase();
        is_list(pair[1]) && (starts.contains(&before.as_str()) || before.ends_with(','))
    });
    let inserted = words.windows(4).any(|part| {
        part[0].trim_start_matches(['"', '(']).eq_ignore_ascii_case("insert")
            && part[1].eq_ignore_ascii_case("into")
            && matches!(part[3].to_uppercase().as_str(), "VALUES" | "SELECT")
    });
    named || inserted
}

#[test]
fn sql_names_its_columns_explicitly() {
    for (module, source) in sources() {
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        let sql: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        assert!(!has_asterisk(&sql.join("\n")), "{module} uses an asterisk or omits the column list");
    }
}

#[test]
fn asterisks_in_sql_are_detected() {
    for bad in [
        "\"SELECT * FROM keys\"",
        "SELECT t.*, 0 AS distance FROM tokens t",
        "INSERT INTO x (a) VALUES ($1) RETURNING *\"",
        "SELECT $1, * FROM unnest($2)",
        "(SELECT k.id, k.*\n FROM keys k)",
        "\"INSERT INTO keys VALUES ($1)",
    ] {
        assert!(has_asterisk(bad), "{bad}");
    }
    for good in ["SELECT count(*) FROM keys", "jsonb_path_query_array(conditions, '$[*] ? (@.x)')", "let x = a * b;"] {
        assert!(!has_asterisk(good), "{good}");
    }
}
