//! Holds the direction of imports, and a few rules that the compiler cannot.

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

/// How high a module stands; it may import what stands lower.
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
        // What whoever verifies a trail needs, without a database.
        ("audit", "chain" | "checkpoint" | "figures" | "link" | "line" | "verdict" | "verify" | "view" | "csv") => 0,
        ("audit", "tally" | "reads" | "trail" | "trim") => 1,
        ("metrics", "text" | "histogram" | "queue_depth") => 0,
        ("workers", "fault") => 0,
        ("workers", "figures") => 1,
        ("workers", _) => 5,
        ("metrics", "requests" | "process") => 1,
        ("db" | "http", _) | (_, "repo" | "invitations" | "figures") => 1,
        ("usage", "journal" | "meter" | "quota" | "ledger" | "breakdown") => 1,
        // What a transaction must know of the others that share the database.
        ("auth", "lease" | "cache" | "janitor" | "node" | "verified") => 1,
        ("auth" | "tx", _) => 2,
        (_, "handlers" | "acceptance" | "introspection" | "record" | "flush" | "close" | "sealer" | "scrape") => 4,
        ("webhooks", "pace" | "sign" | "vet") => 0,
        ("webhooks", "queue" | "send" | "outbox") => 1,
        ("webhooks", "worker") => 4,
        ("audit", "export" | "stream" | "retention") => 4,
        ("resources", "kind" | "spec" | "lifecycle" | "driver" | "machine" | "finding" | "pace") => 0,
        ("resources", "rules") => 2,
        ("resources", "config" | "drivers" | "registry" | "cloud" | "queue" | "rows" | "sweeps") => 1,
        ("resources", "engine" | "reconcile" | "expiry" | "operations" | "providers" | "submit") => 4,
        ("docs", "assets" | "guides" | "pages" | "search") => 2,
        ("docs", "entry") => 4,
        // What readers and the tail share, and what the description says of each type.
        ("events", "hub" | "changes") => 1,
        ("events", "stream" | "tail") => 4,
        // A slice's own front page.
        (_, "") => 0,
        _ => panic!("{module} has no rank; give it one here"),
    }
}

/// The modules that a file's `use crate::…` lines name.
fn imports(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Tests within a module may look further.
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

/// Where a path with its braces ends.
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

/// `a::{b, c::d}` names `a::b` and `a::c::d`.
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
fn imports_run_one_way() {
    let slice = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let mut wrong = Vec::new();
    for (module, source) in sources() {
        for import in imports(&source) {
            let same = slice(&module) == slice(&import);
            let both_vocabulary = rank(&module) == 0 && rank(&import) == 0;
            // Repositories are written in the database's vocabulary.
            let on_db = rank(&module) == 1 && slice(&import) == "db";
            if rank(&import) > rank(&module) || !(same || both_vocabulary || on_db || rank(&import) < rank(&module)) {
                wrong.push(format!("{module} ({}) imports {import} ({})", rank(&module), rank(&import)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reader_of_imports_reads_them() {
    let source =
        "use crate::{auth::grant::{Grant, Session}, base::error::Result, users};\nfn f() -> crate::base::id::KeyId {}";
    let expected = ["auth::grant::Grant", "auth::grant::Session", "base::error::Result", "users", "base::id::KeyId"];
    assert_eq!(imports(source), expected);
    assert!(sources().len() > 40);
}

#[test]
fn only_what_establishes_a_callers_right_admits_to_a_project() {
    let allowed = ["auth::grant", "cli::demo", "cli::quick_start", "base::tenant"];
    for (module, source) in sources() {
        let admits = source.contains("Tenant::admitted(") || source.contains("fn admitted(");
        assert!(!admits || allowed.contains(&module.as_str()), "{module} makes a Tenant");
    }
}

#[test]
fn only_the_transaction_type_commits_a_clients_write() {
    for (module, source) in sources() {
        // In handlers, `tx` is a `Tx`, whose commit asks for the change. What the sealer writes is no client's,
        // and keys of addresses are filled in before there are clients.
        let begins = source.contains(".begin()") || source.contains(".begin_with(");
        let may = matches!(module.as_str(), "tx" | "audit::sealer" | "db::email_keys");
        assert!(!begins || may, "{module} begins a transaction of its own");
    }
}

#[test]
fn tokens_are_made_by_their_function_alone() {
    // It stands for the constraints that the table has not: one issuer, and no deeper than allowed.
    for (module, source) in sources() {
        assert!(!source.contains("INSERT INTO tokens"), "{module} makes a token by itself");
    }
}

#[test]
fn no_file_is_too_long_to_be_read_at_one_sitting() {
    for (module, source) in sources() {
        assert!(source.lines().count() <= 420, "{module} has {} lines; split it", source.lines().count());
    }
}

/// Whether SQL in this text names columns by an asterisk, or inserts into a table without naming its columns. The shape of
/// these changes with the table's, and a statement that was prepared before then fails.
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
fn sql_names_its_columns() {
    for (module, source) in sources() {
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        let sql: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        assert!(!has_asterisk(&sql.join("\n")), "{module} names columns by an asterisk, or not at all");
    }
}

#[test]
fn the_reader_of_asterisks_finds_them() {
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
