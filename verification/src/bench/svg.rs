//! Charts as SVG, readable on light and dark ground. The same numbers make the same bytes.

use std::fmt::Write;

/// Colours of series that can be told apart on both grounds, also by those who see red and green alike.
const COLOURS: [&str; 6] = ["#2f81f7", "#e8710a", "#8b8f98", "#1a9e77", "#a371f7", "#c9a400"];
/// Dashes tell lines apart where colours don't.
const DASHES: [&str; 6] = ["none", "7 3", "2 3", "9 3 2 3", "4 2", "1 2"];
/// Texts and axes follow the reader's ground.
const STYLE: &str = "text{font:12px sans-serif;fill:#24292f}.small{font-size:11px}.title{font-size:14px;font-weight:600}\
    .axis{stroke:#8b949e;fill:none}.grid{stroke:#8b949e;stroke-opacity:.25;fill:none}\
    @media(prefers-color-scheme:dark){text{fill:#d0d7de}}";

const PANEL_WIDTH: f64 = 300.0;
const PANEL_HEIGHT: f64 = 220.0;
const COLUMNS: usize = 3;
const MARGIN_LEFT: f64 = 54.0;
const MARGIN_RIGHT: f64 = 14.0;
const MARGIN_TOP: f64 = 28.0;
const MARGIN_BOTTOM: f64 = 40.0;
/// Room for the title and the legend above the panels.
const HEAD: f64 = 52.0;
const BAR_HEIGHT: f64 = 9.0;
const GROUP_GAP: f64 = 7.0;
const NAMES_WIDTH: f64 = 220.0;
const BARS_WIDTH: f64 = 600.0;
const VALUES_WIDTH: f64 = 60.0;

/// Curves of several series in panels beside each other, both axes logarithmic.
#[derive(Debug, Clone)]
pub(super) struct Curves {
    /// What all panels show.
    pub(super) title: String,
    /// Names, in the order of the legend.
    pub(super) series: Vec<String>,
    /// From left to right, then down.
    pub(super) panels: Vec<Panel>,
}

/// One pair of axes.
#[derive(Debug, Clone)]
pub(super) struct Panel {
    /// What it shows, with the unit.
    pub(super) title: String,
    /// What grows to the right.
    pub(super) across: String,
    /// The points of each series, in the order of x; all numbers are above zero.
    pub(super) lines: Vec<Vec<(f64, f64)>>,
}

/// Ratios as bars that begin at 1, on a logarithmic axis.
#[derive(Debug, Clone)]
pub(super) struct Bars {
    /// What they show.
    pub(super) title: String,
    /// Names, in the order of the legend and in each group.
    pub(super) series: Vec<String>,
    /// Name of each group and the ratio of each series, above zero.
    pub(super) groups: Vec<(String, Vec<Option<f64>>)>,
}

/// A logarithmic axis between powers of ten, which map to `start` and `end`.
#[derive(Debug, Clone, Copy)]
struct Axis {
    first: i32,
    last: i32,
    start: f64,
    end: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(0.0, f64::max);
        let (first, last) = match least <= most {
            true => (least.log10().floor() as i32, most.log10().ceil() as i32),
            false => (0, 1),
        };
        Self { first, last: last.max(first + 1), start, end }
    }

    fn at(self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        self.start + share * (self.end - self.start)
    }

    fn decades(self) -> impl Iterator<Item = f64> {
        (self.first..=self.last).map(|exponent| 10_f64.powi(exponent))
    }
}

impl Curves {
    /// The file's text.
    pub(super) fn svg(&self) -> String {
        let columns = self.panels.len().clamp(1, COLUMNS);
        let rows = self.panels.len().div_ceil(columns);
        let (width, height) = (columns as f64 * PANEL_WIDTH, HEAD + rows as f64 * PANEL_HEIGHT);
        let mut out = begin(width, height, &self.title);
        put_legend(&mut out, &self.series, true);
        for (position, panel) in self.panels.iter().enumerate() {
            let left = (position % columns) as f64 * PANEL_WIDTH;
            let top = HEAD + (position / columns) as f64 * PANEL_HEIGHT;
            panel.put(&mut out, left, top);
        }
        out.push_str("</svg>\n");
        out
    }
}

impl Panel {
    fn put(&self, out: &mut String, left: f64, top: f64) {
        let points = || self.lines.iter().flatten();
        let (right, bottom) = (left + PANEL_WIDTH - MARGIN_RIGHT, top + PANEL_HEIGHT - MARGIN_BOTTOM);
        put_text(out, left + 8.0, top + MARGIN_TOP - 10.0, "", &self.title);
        let (left, top) = (left + MARGIN_LEFT, top + MARGIN_TOP);
        let across = Axis::over(points().map(|point| point.0), left, right);
        let up = Axis::over(points().map(|point| point.1), bottom, top);
        put_text(out, left, bottom + 32.0, "class=\"small\"", &self.across);
        for decade in across.decades() {
            let x = across.at(decade);
            put_line(out, "grid", x, top, x, bottom);
            put_text(out, x, bottom + 16.0, "class=\"small\" text-anchor=\"middle\"", &tick(decade));
        }
        for decade in up.decades() {
            let y = up.at(decade);
            put_line(out, "grid", left, y, right, y);
            put_text(out, left - 6.0, y + 4.0, "class=\"small\" text-anchor=\"end\"", &tick(decade));
        }
        put_line(out, "axis", left, bottom, right, bottom);
        put_line(out, "axis", left, top, left, bottom);
        for (series, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[series % COLOURS.len()];
            let places: Vec<_> = line.iter().map(|(x, y)| (across.at(*x), up.at(*y))).collect();
            let path: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            if places.len() > 1 {
                let dash = DASHES[series % DASHES.len()];
                let _ = writeln!(
                    out,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
                     stroke-dasharray=\"{dash}\"/>",
                    path.join(" ")
                );
            }
            for (x, y) in places {
                let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
        }
    }
}

impl Bars {
    /// The file's text.
    pub(super) fn svg(&self) -> String {
        let group_height = self.series.len() as f64 * BAR_HEIGHT + GROUP_GAP;
        let bottom = HEAD + 8.0 + self.groups.len() as f64 * group_height;
        let mut out = begin(NAMES_WIDTH + BARS_WIDTH + VALUES_WIDTH, bottom + 24.0, &self.title);
        put_legend(&mut out, &self.series, false);
        let values = self.groups.iter().flat_map(|(_, values)| values).flatten().copied();
        let axis = Axis::over(values.chain([1.0]), NAMES_WIDTH, NAMES_WIDTH + BARS_WIDTH);
        for decade in axis.decades() {
            let x = axis.at(decade);
            put_line(&mut out, "grid", x, HEAD, x, bottom);
            put_text(&mut out, x, bottom + 16.0, "class=\"small\" text-anchor=\"middle\"", &tick(decade));
        }
        let one = axis.at(1.0);
        for (position, (name, values)) in self.groups.iter().enumerate() {
            let top = HEAD + 8.0 + position as f64 * group_height;
            let middle = top + (group_height - GROUP_GAP) / 2.0 + 4.0;
            put_text(&mut out, NAMES_WIDTH - 8.0, middle, "class=\"small\" text-anchor=\"end\"", name);
            for (series, value) in values.iter().enumerate() {
                let Some(value) = value else { continue };
                let (x, y) = (axis.at(*value), top + series as f64 * BAR_HEIGHT);
                let _ = writeln!(
                    out,
                    "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                    one.min(x),
                    (x - one).abs(),
                    BAR_HEIGHT - 1.0,
                    COLOURS[series % COLOURS.len()]
                );
                let text = format!("{value:.1}");
                put_text(&mut out, one.max(x) + 4.0, y + BAR_HEIGHT - 1.0, "class=\"small\"", &text);
            }
        }
        put_line(&mut out, "axis", one, HEAD, one, bottom);
        out.push_str("</svg>\n");
        out
    }
}

fn begin(width: f64, height: f64, title: &str) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\">\n<title>{0}</title>\n<style>{STYLE}</style>\n",
        escaped(title)
    );
    put_text(&mut out, 8.0, 18.0, "class=\"title\"", title);
    out
}

fn put_legend(out: &mut String, series: &[String], lines: bool) {
    let mut x = 8.0;
    for (position, name) in series.iter().enumerate() {
        let colour = COLOURS[position % COLOURS.len()];
        let (width, dash) = match lines {
            true => (2, DASHES[position % DASHES.len()]),
            false => (8, "none"),
        };
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"36\" x2=\"{:.1}\" y2=\"36\" stroke=\"{colour}\" stroke-width=\"{width}\" \
             stroke-dasharray=\"{dash}\"/>",
            x + 26.0
        );
        put_text(out, x + 32.0, 40.0, "", name);
        // Wide enough for letters of this size.
        x += 52.0 + 7.0 * name.chars().count() as f64;
    }
}

fn put_line(out: &mut String, class: &str, x1: f64, y1: f64, x2: f64, y2: f64) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn put_text(out: &mut String, x: f64, y: f64, attributes: &str, text: &str) {
    let space = if attributes.is_empty() { "" } else { " " };
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\"{space}{attributes}>{}</text>", escaped(text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A power of ten, short.
fn tick(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0} M", value / 1e6),
        value if value >= 1e3 => format!("{:.0} k", value / 1e3),
        value if value >= 1.0 => format!("{value:.0}"),
        value => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether every element that begins ends, in order, and attributes are in quotes.
    fn check_well_formed(text: &str) {
        let mut open = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            assert!(!before.contains('>'), "a stray > in {before:?}");
            let (tag, after) = after.split_once('>').expect("a tag that doesn't end");
            rest = after;
            assert!(!tag.contains('<'), "a < in <{tag}>");
            assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
            let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name), "</{name}> ends something else"),
                (false, true) => {}
                (false, false) => open.push(name),
            }
        }
        assert!(open.is_empty(), "not ended: {open:?}");
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|known| entity.starts_with(known)));
        }
    }

    fn curves() -> Curves {
        Curves {
            title: "cost & \"size\" <log>".into(),
            series: vec!["one".into(), "two".into()],
            panels: vec![Panel {
                title: "µs".into(),
                across: "files".into(),
                lines: vec![vec![(1.0, 10.0), (100.0, 1000.0)], vec![(10.0, 100.0)]],
            }],
        }
    }

    #[test]
    fn points_lie_where_their_logarithms_belong() {
        let text = curves().svg();
        check_well_formed(&text);
        let (left, right) = (MARGIN_LEFT, PANEL_WIDTH - MARGIN_RIGHT);
        let (top, bottom) = (HEAD + MARGIN_TOP, HEAD + PANEL_HEIGHT - MARGIN_BOTTOM);
        assert!(text.contains(&format!("points=\"{left:.1},{bottom:.1} {right:.1},{top:.1}\"")), "{text}");
        let middle = format!("cx=\"{:.1}\" cy=\"{:.1}\"", (left + right) / 2.0, (top + bottom) / 2.0);
        assert!(text.contains(&middle), "{text}");
        assert_eq!(text.matches("<circle").count(), 3);
        // A single point is no line.
        assert_eq!(text.matches("<polyline").count(), 1);
        assert_eq!(text, curves().svg());
    }

    #[test]
    fn bars_begin_at_one_and_go_both_ways() {
        let bars = Bars {
            title: "ratios".into(),
            series: vec!["one".into(), "two".into()],
            groups: vec![("a<b".into(), vec![Some(10.0), Some(0.1)]), ("none".into(), vec![None, None])],
        };
        let text = bars.svg();
        check_well_formed(&text);
        let one = NAMES_WIDTH + BARS_WIDTH / 2.0;
        let half = BARS_WIDTH / 2.0;
        assert!(text.contains(&format!("<rect x=\"{one:.1}\" y=\"60.0\" width=\"{half:.1}\"")), "{text}");
        assert!(text.contains(&format!("<rect x=\"{NAMES_WIDTH:.1}\" y=\"69.0\" width=\"{half:.1}\"")));
        assert_eq!(text.matches("<rect").count(), 2);
        assert!(text.contains("a&lt;b"));
    }

    #[test]
    fn charts_without_numbers_are_still_charts() {
        let mut empty = curves();
        empty.panels[0].lines.clear();
        check_well_formed(&empty.svg());
        empty.panels.clear();
        check_well_formed(&empty.svg());
        check_well_formed(&Bars { title: String::new(), series: Vec::new(), groups: Vec::new() }.svg());
    }

    #[test]
    fn the_checker_knows_what_is_wrong() {
        for wrong in ["<a><b></a></b>", "<a>", "<a b=\"c/>", "<a>&</a>", "<a>></a>"] {
            assert!(std::panic::catch_unwind(|| check_well_formed(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ticks_are_short() {
        let shown = [0.01, 0.1, 1.0, 10.0, 1000.0, 100_000.0, 1e6].map(tick);
        assert_eq!(shown, ["0.01", "0.1", "1", "10", "1 k", "100 k", "1 M"]);
    }
}
