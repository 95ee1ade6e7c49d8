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
pub trait Collector {
    /// Adds its metric families to the page. It must not wait for anything.
    fn collect(&self, out: &mut Exposition);
}

/// Page under construction.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// Metric family: samples that share a name and differ in labels.
#[derive(Debug)]
pub struct Family<'a> {
    out: &'a mut Exposition,
    name: &'static str,
}

/// Name and value of a label. The value is from a fixed set.
pub type Label<'a> = (&'static str, &'a str);

/// Value of a sample. Durations are in seconds.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Integer.
    Integer(u64),
    /// Floating-point number.
    Float(f64),
}

impl Exposition {
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
        Family { out: self, name }
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
    pub fn value(self, number: impl Into<Number>) {
        self.sample(&[], number);
    }

    /// Adds a sample with these labels.
    pub fn sample(self, labels: &[Label<'_>], number: impl Into<Number>) -> Self {
        self.push_sample("", labels, None, number.into())
    }

    /// Adds the samples of a histogram with these labels.
    pub fn histogram_sample(mut self, labels: &[Label<'_>], histogram: &Histogram) -> Self {
        let snapshot = histogram.snapshot();
        for (bound, count) in &snapshot.cumulative {
            self = self.push_sample("_bucket", labels, Some((*bound).into()), (*count).into());
        }
        let infinity = Number::Float(f64::INFINITY);
        self.push_sample("_bucket", labels, Some(infinity), snapshot.count.into())
            .push_sample("_sum", labels, None, snapshot.sum.into())
            .push_sample("_count", labels, None, snapshot.count.into())
    }

    fn push_sample(self, suffix: &str, labels: &[Label<'_>], bound: Option<Number>, number: Number) -> Self {
        let text = &mut self.out.0;
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
        self.out.line(format_args!("{number}"));
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
            Self::Integer(number) => number.fmt(f),
            Self::Float(f64::INFINITY) => f.write_str("+Inf"),
            Self::Float(number) => number.fmt(f),
        }
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Integer(number as u64)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<Duration> for Number {
    fn from(time: Duration) -> Self {
        Self::Float(time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_follows_the_text_format() {
        static BOUNDS: [Duration; 2] = [Duration::from_micros(500), Duration::from_secs(1)];
        let times = Histogram::new(&BOUNDS);
        times.observe(Duration::from_millis(2));
        times.observe(Duration::from_secs(60));
        let mut out = Exposition::default();
        out.gauge("up", "Whether it runs.").value(true);
        out.counter("seen_total", "What was seen.").sample(&[("a", "x"), ("b", "\"\\\n")], 7_u64);
        out.histogram("took_seconds", "How long.").histogram_sample(&[("a", "x")], &times);
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
        assert_eq!(out.into_text(), expected);
    }
}
