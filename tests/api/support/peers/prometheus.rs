//! A strict parser of the Prometheus text format (version 0.0.4), which also checks the conventions for names, units
//! and labels. A violation fails the test with its line.

use std::collections::{BTreeMap, BTreeSet};

/// A series: its name and its sorted labels.
pub type Series = (String, BTreeMap<String, String>);

/// A parsed page.
#[derive(Debug, Default)]
pub struct Exposition {
    pub text: String,
    pub families: BTreeMap<String, Kind>,
    pub series: BTreeMap<Series, f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Exposition {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "no newline at the end");
        let mut page = Self { text: text.to_owned(), ..Self::default() };
        let (mut helped, mut current) = (None, None);
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help text: {line}"));
                assert!(help.ends_with('.') && help.is_ascii() && !help.contains('\\'), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert_eq!(helped.take().as_deref(), Some(name), "TYPE without its HELP: {line}");
                let kind = match kind {
                    "counter" => Kind::Counter,
                    "gauge" => Kind::Gauge,
                    "histogram" => Kind::Histogram,
                    _ => panic!("unknown type: {line}"),
                };
                check_name(name, kind);
                assert!(page.families.insert(name.to_owned(), kind).is_none(), "duplicate family: {line}");
                current = Some((name.to_owned(), kind));
            } else {
                assert!(helped.is_none(), "HELP without a TYPE before {line}");
                let Some((family, kind)) = &current else { panic!("sample without a family: {line}") };
                page.add_sample(line, family, *kind);
            }
        }
        page.check_histograms();
        page
    }

    #[track_caller]
    fn add_sample(&mut self, line: &str, family: &str, kind: Kind) {
        let (series, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let number: f64 = match number {
            "+Inf" => f64::INFINITY,
            number => {
                assert!(number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-')), "{line}");
                number.parse().unwrap_or_else(|_| panic!("invalid value: {line}"))
            }
        };
        assert!(number >= 0.0 && number.is_finite(), "{line}");
        let (name, labels) = match series.split_once('{') {
            None => (series, BTreeMap::new()),
            Some((name, rest)) => (name, labels(rest, line)),
        };
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("not in {family}: {line}"));
        match kind {
            Kind::Histogram => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
            Kind::Counter | Kind::Gauge => assert_eq!(suffix, "", "{line}"),
        }
        assert_eq!(labels.contains_key("le"), suffix == "_bucket", "{line}");
        assert!(self.series.insert((name.to_owned(), labels), number).is_none(), "duplicate series: {line}");
    }

    /// Buckets are cumulative, and the last one equals the count.
    #[track_caller]
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<Series, Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), count) in &self.series {
            let Some(family) = name.strip_suffix("_bucket") else { continue };
            let mut labels = labels.clone();
            let bound = match labels.remove("le").unwrap().as_str() {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().unwrap(),
            };
            buckets.entry((family.to_owned(), labels)).or_default().push((bound, *count));
        }
        for ((family, labels), mut buckets) in buckets {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(
                buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1),
                "{family} {labels:?}"
            );
            let count = self.series.get(&(format!("{family}_count"), labels.clone()));
            assert_eq!(buckets.last(), count.map(|count| (f64::INFINITY, *count)).as_ref(), "{family} {labels:?}");
            assert!(self.series.contains_key(&(format!("{family}_sum"), labels)), "{family}");
        }
    }

    /// The value of a series; zero if it does not exist.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or(0.0)
    }

    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.series.get(&(name.to_owned(), labels)).copied()
    }

    /// The series of a family whose value has grown since `before`, with the difference.
    pub fn since(&self, before: &Self, name: &str) -> BTreeMap<BTreeMap<String, String>, f64> {
        let of_family = self.series.iter().filter(|((series, _), _)| series == name);
        let grown = of_family.map(|(series, now)| (series.1.clone(), now - before.series.get(series).unwrap_or(&0.0)));
        grown.filter(|(_, more)| *more != 0.0).collect()
    }

    /// All label values.
    pub fn label_values(&self) -> BTreeSet<&str> {
        self.series.keys().flat_map(|(_, labels)| labels.values().map(String::as_str)).collect()
    }
}

#[track_caller]
fn check_name(name: &str, kind: Kind) {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    assert!(is_plain && (name.starts_with("cloudapi_") || name.starts_with("process_")), "{name}");
    assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
    assert!(kind != Kind::Histogram || name.ends_with("_duration_seconds"), "{name}");
    for unit in ["milli", "micro", "minutes", "kilo", "percent", "_ms"] {
        assert!(!name.contains(unit), "{name} is not in a base unit");
    }
    for suffix in ["_bucket", "_sum", "_count"] {
        assert!(!name.ends_with(suffix), "{name} has a histogram suffix");
    }
}

/// `a="x",b="y"}` as a map.
#[track_caller]
fn labels(text: &str, line: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next() {
                Some((end, '"')) => break end,
                Some((_, '\\')) => value.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, escaped @ ('"' | '\\'))) => escaped,
                    _ => panic!("unknown escape: {line}"),
                }),
                Some((_, character)) => value.push(character),
                None => panic!("unterminated value: {line}"),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "duplicate label: {line}");
        match &after[end + 1..] {
            "}" => return labels,
            more => rest = more.strip_prefix(',').unwrap_or_else(|| panic!("unexpected text after a label: {line}")),
        }
    }
}
