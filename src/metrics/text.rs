//! The Prometheus text format, version 0.0.4.
//!
//! Not from a library: maintained ones lock or hash at each observation, or keep metrics per process, whereas one test
//! runs many servers. What remains next to our own atomics is this file.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use super::histogram::Histogram;

/// Media type of the page.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Source of metrics.
pub trait Measured {
    /// Adds its metric families to the page. It must not wait for anything.
    fn tell(&self, page: &mut Page);
}

/// Page under construction.
#[derive(Debug, Default)]
pub struct Page(String);

/// Metric family: samples that share a name and differ in labels.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

/// Name and value of a label. The value is from a fixed set.
pub type Label<'a> = (&'static str, &'a str);

/// Value of a sample. Durations are in seconds.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Integer.
    Whole(u64),
    /// Floating-point number.
    Real(f64),
}

impl Page {
    /// Begins a counter, which only grows while the server runs. The name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family("counter", name, help)
    }

    /// Begins a gauge, which can go up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family("gauge", name, help)
    }

    /// Begins a histogram of durations. The name ends in `_seconds`.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family("histogram", name, help)
    }

    fn family(&mut self, kind: &str, name: &'static str, help: &str) -> Family<'_> {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        Family { page: self, name }
    }

    /// Returns the page.
    pub fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a `String` does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

impl Family<'_> {
    /// Adds the only sample, without labels.
    pub fn is(self, number: impl Into<Number>) {
        self.of(&[], number);
    }

    /// Adds a sample with these labels.
    pub fn of(self, labels: &[Label<'_>], number: impl Into<Number>) -> Self {
        self.sample("", labels, None, number.into())
    }

    /// Adds the samples of a histogram with these labels.
    pub fn shows(mut self, labels: &[Label<'_>], histogram: &Histogram) -> Self {
        let reading = histogram.read();
        for (bound, count) in &reading.up_to {
            self = self.sample("_bucket", labels, Some((*bound).into()), (*count).into());
        }
        let infinity = Number::Real(f64::INFINITY);
        self.sample("_bucket", labels, Some(infinity), reading.count.into())
            .sample("_sum", labels, None, reading.sum.into())
            .sample("_count", labels, None, reading.count.into())
    }

    fn sample(self, suffix: &str, labels: &[Label<'_>], bound: Option<Number>, number: Number) -> Self {
        let text = &mut self.page.0;
        text.push_str(self.name);
        text.push_str(suffix);
        let mut sign = '{';
        for (name, value) in labels {
            let _ = write!(text, "{sign}{name}=\"{}\"", Escaped(value));
            sign = ',';
        }
        if let Some(bound) = bound {
            let _ = write!(text, "{sign}le=\"{bound}\"");
            sign = ',';
        }
        text.push_str(if sign == ',' { "} " } else { " " });
        self.page.line(format_args!("{number}"));
        self
    }
}

/// Label value, escaped for quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str(r"\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str(r"\n"),
            other => f.write_char(other),
        })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Real(f64::INFINITY) => f.write_str("+Inf"),
            Self::Real(number) => number.fmt(f),
        }
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<bool> for Number {
    fn from(is_so: bool) -> Self {
        Self::Whole(is_so.into())
    }
}

impl From<Duration> for Number {
    fn from(time: Duration) -> Self {
        Self::Real(time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_follows_the_text_format() {
        static BOUNDS: [Duration; 2] = [Duration::from_micros(500), Duration::from_secs(1)];
        let times = Histogram::new(&BOUNDS);
        times.add(Duration::from_millis(2));
        times.add(Duration::from_secs(60));
        let mut page = Page::default();
        page.gauge("up", "Whether it runs.").is(true);
        page.counter("seen_total", "What was seen.").of(&[("a", "x"), ("b", "\"\\\n")], 7_u64);
        page.histogram("took_seconds", "How long.").shows(&[("a", "x")], &times);
        let expected = r#"# HELP up Whether it runs.
# TYPE up gauge
up 1
# HELP seen_total What was seen.
# TYPE seen_total counter
seen_total{a="x",b="\"\\\n"} 7
# HELP took_seconds How long.
# TYPE took_seconds histogram
took_seconds_bucket{a="x",le="0.0005"} 0
took_seconds_bucket{a="x",le="1"} 1
took_seconds_bucket{a="x",le="+Inf"} 2
took_seconds_sum{a="x"} 60.002
took_seconds_count{a="x"} 2
"#;
        assert_eq!(page.into_text(), expected);
    }
}
