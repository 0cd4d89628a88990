//! The pictures: the engine's speed over each peer's, and the share of the machine's limit that each reached.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

use crate::report::Report;

const CORELM: RGBColor = RGBColor(31, 119, 180);
const LLAMA: RGBColor = RGBColor(214, 118, 39);
const CANDLE: RGBColor = RGBColor(130, 130, 130);
const LABELS: i32 = 330;
const BARS: i32 = 520;
const BAR: i32 = 14;
const TITLE: i32 = 60;
/// What is written behind the longest bar.
const WORDS: i32 = 260;

/// A group of bars with one label.
struct Group {
    label: String,
    bars: Vec<(String, f64, RGBColor)>,
}

/// Writes `peers-ratio.svg` and `peers-limit.svg` into `folder`.
pub fn write(report: &Report, folder: &Path) -> Result<()> {
    let mut ratios = Vec::new();
    let mut shares = Vec::new();
    for row in &report.rows {
        let peers = row.best_peers();
        let bars = peers.iter().map(|peer| (peer.name(), row.ratio(peer), color(&peer.engine)));
        ratios.push(Group { label: row.name.clone(), bars: bars.collect() });
        if row.limit.is_none() {
            continue;
        }
        let sides = std::iter::once(&row.corelm).chain(peers.iter().copied());
        let bars = sides.filter_map(|side| Some((side.name(), row.share(side)?, color(&side.engine))));
        shares.push(Group { label: row.name.clone(), bars: bars.collect() });
    }
    let draw = |name: &str, title: &str, groups: &[Group]| {
        let path = folder.join(name);
        bars(&path, title, groups).with_context(|| format!("cannot draw {}", path.display()))
    };
    draw("peers-ratio.svg", "corelm's speed over the peer's (line: equal)", &ratios)?;
    draw("peers-limit.svg", "share of the machine's limit (line: all of it)", &shares)
}

fn color(engine: &str) -> RGBColor {
    match engine {
        "corelm" => CORELM,
        "llama.cpp" => LLAMA,
        _ => CANDLE,
    }
}

/// Horizontal bars in groups, and a line at 1.
fn bars(path: &Path, title: &str, groups: &[Group]) -> Result<()> {
    let most = groups.iter().flat_map(|group| &group.bars).map(|bar| bar.1).fold(1.2, f64::max);
    let x = |value: f64| LABELS + (value.max(0.0) / most * f64::from(BARS)) as i32;
    let n_bars: usize = groups.iter().map(|group| group.bars.len().max(1)).sum();
    let height = TITLE + (n_bars as i32) * BAR + (groups.len() as i32) * BAR / 2 + 10;
    let root = SVGBackend::new(path, ((LABELS + BARS + WORDS) as u32, height as u32)).into_drawing_area();
    let draw = || -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        root.fill(&WHITE)?;
        root.draw(&Text::new(title, (10, 12), ("sans-serif", 16)))?;
        for (n, (name, color)) in
            [("corelm", CORELM), ("llama.cpp", LLAMA), ("candle", CANDLE)].iter().enumerate()
        {
            let left = 10 + 100 * n as i32;
            root.draw(&Rectangle::new([(left, 38), (left + 10, 48)], color.filled()))?;
            root.draw(&Text::new(*name, (left + 15, 37), ("sans-serif", 12)))?;
        }
        let mut y = TITLE;
        for group in groups {
            root.draw(&Text::new(group.label.as_str(), (10, y), ("sans-serif", 12)))?;
            for (name, value, color) in &group.bars {
                root.draw(&Rectangle::new([(LABELS, y + 1), (x(*value), y + BAR - 1)], color.filled()))?;
                let text = format!("{value:.2}  {name}");
                root.draw(&Text::new(text, (x(*value) + 5, y + 1), ("sans-serif", 11)))?;
                y += BAR;
            }
            if group.bars.is_empty() {
                y += BAR;
            }
            y += BAR / 2;
        }
        root.draw(&PathElement::new([(x(1.0), TITLE - 5), (x(1.0), height - 5)], BLACK.stroke_width(1)))?;
        root.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow!("{error}"))
}
