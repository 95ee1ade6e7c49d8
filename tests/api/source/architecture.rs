//! Checks the direction of imports, and rules that the compiler cannot check.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cloudapi::server::routes;

use crate::support::document;

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

/// The node of the dependency graph that a module belongs to: a top-level module, or a slice of `api`.
fn component(module: &str) -> String {
    let parts = if module.starts_with("api::") { 2 } else { 1 };
    module.split("::").take(parts).collect::<Vec<_>>().join("::")
}

/// The imports between components, each with a file that has it. `lib` only declares modules, and `main` is the binary.
fn dependencies() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut graph: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (module, source) in sources().into_iter().filter(|(module, _)| !matches!(module.as_str(), "lib" | "main")) {
        let from = graph.entry(component(&module)).or_default();
        for import in imports(&source).iter().map(|import| component(import)) {
            from.entry(import).or_insert_with(|| module.clone());
        }
    }
    graph
}

/// Every set of nodes that can reach each other. Without cycles, each has one node.
fn strongly_connected(graph: &BTreeMap<String, BTreeMap<String, String>>) -> BTreeSet<BTreeSet<String>> {
    let reachable = |start: &String| {
        let (mut found, mut open) = (BTreeSet::from([start.clone()]), vec![start.clone()]);
        while let Some(next) = open.pop() {
            let targets = graph.get(&next).into_iter().flat_map(BTreeMap::keys);
            open.extend(targets.filter(|target| found.insert((*target).clone())).cloned());
        }
        found
    };
    let all: BTreeMap<_, _> = graph.keys().map(|node| (node, reachable(node))).collect();
    let are_mutual = |a: &String, b: &String| all[a].contains(b) && all.get(b).is_some_and(|of_b| of_b.contains(a));
    graph.keys().map(|a| graph.keys().filter(|b| are_mutual(a, b)).cloned().collect()).collect()
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
fn modules_and_slices_have_no_import_cycles() {
    let graph = dependencies();
    let components = strongly_connected(&graph);
    let cycles = components.iter().filter(|component| component.len() > 1);
    let edges = cycles.flat_map(|cycle| cycle.iter().map(move |from| (cycle, from))).flat_map(|(cycle, from)| {
        let to = graph[from].iter().filter(move |(to, _)| *to != from && cycle.contains(*to));
        to.map(move |(to, file)| format!("{from} imports {to} in {file}"))
    });
    let edges: Vec<String> = edges.collect();
    assert!(edges.is_empty(), "import cycle:\n{}", edges.join("\n"));
}

#[test]
fn every_handler_has_a_route_and_every_tag_a_description() {
    let table = routes::table();
    let routed: BTreeSet<&str> = table.operations().map(|operation| operation.handler).collect();
    let mut handlers = 0;
    for (module, source) in sources() {
        // A handler is an async function whose first argument states the access.
        for (at, _) in source.match_indices("pub async fn ").filter(|_| module.contains("api::")) {
            let (name, arguments) = source[at + "pub async fn ".len()..].split_once('(').unwrap();
            let access = arguments.trim_start().split_once(": ").map_or("", |(_, access)| access);
            if ["Grant<", "Session,", "SignInClient", "Public,"].iter().any(|kind| access.starts_with(kind)) {
                let handler = format!("cloudapi::{module}::{name}");
                assert!(
                    routed.contains(&*handler),
                    "{handler} has no route: add it to `table` in src/server/routes.rs"
                );
                handlers += 1;
            }
        }
    }
    assert!(handlers > 50, "{handlers}");
    for tag in document::published()["tags"].as_array().unwrap() {
        assert!(!tag["description"].as_str().unwrap().is_empty(), "{tag} has a description");
    }
    for operation in table.operations() {
        assert!(!operation.tag.is_empty(), "{} comes after no `tag`", operation.name());
    }
}

#[test]
fn every_slice_is_declared() {
    let declared = fs::read_to_string("src/api/mod.rs").unwrap();
    for folder in fs::read_dir("src/api").unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(declared.contains(&format!("pub mod {name};")), "src/api/mod.rs does not declare the slice {name}");
    }
}

#[test]
fn cycles_are_detected() {
    let edges = |of: &[&str]| of.iter().map(|to| ((*to).to_owned(), "file".to_owned())).collect::<BTreeMap<_, _>>();
    let graph: BTreeMap<String, _> =
        [("a", edges(&["b"])), ("b", edges(&["c"])), ("c", edges(&["a", "d"])), ("d", edges(&["d"]))]
            .map(|(from, to)| (from.to_owned(), to))
            .into();
    let found = strongly_connected(&graph);
    assert!(found.contains(&["a", "b", "c"].map(str::to_owned).into()), "{found:?}");
    assert!(found.contains(&["d".to_owned()].into()), "{found:?}");
    assert!(dependencies().len() > 15 && dependencies()["tx"].contains_key("auth"));
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
    let allowed = ["auth::grant", "cli::quick_start::demo", "cli::quick_start", "base::identity::tenant"];
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
        let may = matches!(module.as_str(), "tx" | "audit::sealing" | "db::email_keys");
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
fn console_is_a_client_of_the_api() {
    let mut checked = 0;
    for (module, source) in sources().into_iter().filter(|(module, _)| module.starts_with("console")) {
        let parts = |import: &str| import.split("::").map(str::to_owned).collect::<Vec<_>>();
        for import in imports(&source).iter().map(|import| parts(import)) {
            let is_internal = matches!(import[0].as_str(), "db" | "tx" | "audit" | "server")
                || import.iter().any(|part| matches!(part.as_str(), "repo" | "handlers" | "store" | "engine"));
            assert!(!is_internal, "{module} imports {}", import.join("::"));
        }
        assert!(!source.contains("sqlx"), "{module} uses sqlx");
        checked += 1;
    }
    assert!(checked > 20, "{checked} modules");
}

/// Every file and folder below these folders of the repository.
fn tree() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = ["src", "tests", "benches", "build"].map(|folder| root.join(folder)).into();
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
        found.push(folder);
    }
    found
}

#[test]
fn code_files_have_at_most_400_lines_and_folders_at_most_ten_files() {
    for path in tree() {
        if path.is_dir() {
            let files = fs::read_dir(&path).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count();
            assert!(files <= 10, "{} has {files} files; group them in folders", path.display());
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 400, "{} has {lines} lines; split it", path.display());
        }
    }
}

#[test]
fn crate_has_at_most_a_dozen_modules() {
    let modules: BTreeSet<_> =
        sources().iter().map(|(module, _)| module.split("::").next().unwrap().to_owned()).collect();
    let modules: Vec<_> = modules.iter().filter(|module| !matches!(module.as_str(), "lib" | "main")).collect();
    assert!(modules.len() <= 12, "{modules:?}");
}

#[test]
fn documents_name_only_paths_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents = ["CONTRIBUTING.md", "README.md", "SECURITY.md", "Cargo.toml"].map(|name| root.join(name));
    let mut checked = 0;
    let is_text = |path: &PathBuf| path.is_file() && path.extension().is_none_or(|extension| extension != "png");
    for document in docs.chain(documents).filter(is_text) {
        let text = fs::read_to_string(&document).unwrap();
        for folder in ["src/", "tests/", "benches/", "migrations/", "build/"] {
            for (at, _) in text.match_indices(folder) {
                let is_start =
                    !text[..at].ends_with(|before: char| before.is_alphanumeric() || "/._-".contains(before));
                let end =
                    text[at..].find(|c: char| !(c.is_alphanumeric() || "/._-".contains(c))).unwrap_or(text.len() - at);
                let path = text[at..at + end].trim_end_matches(['.', '/']);
                // A placeholder, such as `src/api/<slice>`, ends at the last known folder.
                if is_start {
                    assert!(root.join(path).exists(), "{} names {path}, which does not exist", document.display());
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 50, "{checked} paths");
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
