//! Charts: SVG that the server draws, with a title, a description and a table of the same numbers.

use std::iter;

use askama::Template;

use crate::console::components::html_safe;

/// Bars, such as the requests of each day.
#[derive(Clone, Debug, Template)]
#[template(path = "components/chart/chart.html")]
pub struct Bars {
    id: String,
    title: String,
    description: String,
    /// What a label is: "Day".
    label: String,
    bars: Vec<Bar>,
    lines: Vec<(i64, String)>,
    is_empty: bool,
}

/// One bar.
#[derive(Clone, Debug)]
struct Bar {
    label: String,
    value: String,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    /// Text below the axis, if the bar has one.
    tick: Option<String>,
}

/// Size of the drawing, in its own units. It is scaled to the width of the page.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 160.0;
/// Space for the numbers of the lines.
const LEFT: f64 = 44.0;
/// About this many bars have a text below the axis.
const TICKS: usize = 6;

impl Bars {
    /// Draws bars for these labels and values, with room for at least `slots` bars. `id` is unique on the page; `title`
    /// names the chart.
    pub fn new(id: &str, title: &str, label: &str, values: &[(String, i64)], slots: usize) -> Self {
        let top = round_up(values.iter().map(|(_, value)| *value).max().unwrap_or_default());
        let slots = values.len().max(slots).max(1);
        let step = (WIDTH - LEFT) / slots as f64;
        let every = slots.div_ceil(TICKS);
        let bar = |(index, (label, value)): (usize, &(String, i64))| {
            let height = (*value as f64 / top as f64 * HEIGHT).max(if *value > 0 { 1.5 } else { 0.0 });
            Bar {
                label: label.clone(),
                value: number(*value),
                x: LEFT + index as f64 * step + step * 0.15,
                y: HEIGHT - height,
                width: step * 0.7,
                height,
                // A day without its year.
                tick: index.is_multiple_of(every).then(|| label.get(5..).unwrap_or(label).to_owned()),
            }
        };
        let total: i64 = values.iter().map(|(_, value)| *value).sum();
        let most = values.iter().max_by_key(|(_, value)| *value).filter(|(_, value)| *value > 0);
        let description = match most {
            Some((label, value)) => format!("{} in total. The most are {} on {label}.", number(total), number(*value)),
            None => "None so far.".to_owned(),
        };
        let line = |part: i64| ((HEIGHT - HEIGHT * part as f64 / 2.0) as i64, short(top * part / 2));
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            description,
            label: label.to_owned(),
            bars: values.iter().enumerate().map(bar).collect(),
            lines: (0..=2).map(line).collect(),
            is_empty: total == 0,
        }
    }

    fn view_box(&self) -> String {
        format!("0 -8 {WIDTH} {}", HEIGHT + 32.0)
    }
}

/// The next number above `value` that is easy to read, and whose half is easy to read too: 12, 16, 20, … times a power of
/// ten.
fn round_up(value: i64) -> i64 {
    const SMALL: [i64; 5] = [2, 4, 6, 8, 10];
    const FACTORS: [i64; 9] = [12, 16, 20, 30, 40, 50, 60, 80, 100];
    if let Some(top) = SMALL.into_iter().find(|top| *top >= value) {
        return top;
    }
    let powers = iter::successors(Some(1_i64), |power| power.checked_mul(10));
    let mut tops = powers.flat_map(|power| FACTORS.map(|factor| power.checked_mul(factor)));
    tops.find_map(|top| top.is_none_or(|top| top >= value).then_some(top.unwrap_or(i64::MAX))).unwrap_or(i64::MAX)
}

/// A number with a separator between thousands.
pub fn number(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A round number in few characters: 400, 20k, 2.5M.
fn short(value: i64) -> String {
    let (unit, suffix) = match value {
        0..10_000 => return number(value),
        10_000..1_000_000 => (1000, "k"),
        1_000_000..1_000_000_000 => (1_000_000, "M"),
        _ => (1_000_000_000, "G"),
    };
    let (whole, tenths) = (value / unit, value % unit * 10 / unit);
    if tenths == 0 { format!("{whole}{suffix}") } else { format!("{whole}.{tenths}{suffix}") }
}

/// A share of a limit, as a bar.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<div class="meter"><div class="meter-text"><span>{{ label }}</span><span>{{ text }}</span></div><svg viewBox="0 0 100 2" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="2"/><rect class="{{ tone }}" width="{{ percent }}" height="2"/></svg></div>"#,
    ext = "html"
)]
pub struct Meter {
    label: String,
    text: String,
    percent: i64,
    tone: &'static str,
}

impl Meter {
    /// Draws `value` of `limit`.
    pub fn new(label: impl Into<String>, value: i64, limit: i64) -> Self {
        let percent =
            if limit > 0 { (i128::from(value) * 100 / i128::from(limit)).clamp(0, 1_000_000) as i64 } else { 100 };
        let tone = match percent {
            0..80 => "fill",
            80..100 => "fill warn",
            _ => "fill bad",
        };
        let text = format!("{} of {} ({percent} %)", number(value), number(limit));
        Self { label: label.into(), text, percent: percent.min(100), tone }
    }
}

/// A share of all, as a bar.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<span class="share-bar"><svg viewBox="0 0 100 2" preserveAspectRatio="none" aria-hidden="true"><rect class="fill" width="{{ width }}" height="2"/></svg><span class="muted">{{ text }}</span></span>"#,
    ext = "html"
)]
pub struct Share {
    width: String,
    text: String,
}

impl Share {
    /// Draws `value` of `total`.
    pub fn new(value: i64, total: i64) -> Self {
        let percent = value as f64 * 100.0 / total.max(1) as f64;
        let text = if percent > 0.0 && percent < 1.0 { "< 1 %".to_owned() } else { format!("{percent:.0} %") };
        Self { width: format!("{:.1}", percent.clamp(0.0, 100.0)), text }
    }
}

html_safe!(Bars, Meter, Share);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_ends_at_a_round_number() {
        let tops = [(0, 2), (1, 2), (3, 4), (5, 6), (11, 12), (41, 50), (999, 1000), (1108, 1200), (12_345, 16_000)];
        for (value, top) in tops {
            assert_eq!(round_up(value), top, "{value}");
        }
        assert_eq!(round_up(i64::MAX), i64::MAX);
        assert_eq!(
            (number(1_234_567), number(-1000), number(999)),
            ("1,234,567".into(), "-1,000".into(), "999".into())
        );
        assert_eq!((short(20_000), short(2_500_000)), ("20k".into(), "2.5M".into()));
    }

    #[test]
    fn labels_are_escaped() {
        let chart = Bars::new("c", "<Requests>", "Day", &[("<script>".into(), 3)], 1).to_string();
        assert!(!chart.contains("<script>") && !chart.contains("<Requests>"), "{chart}");
    }
}
