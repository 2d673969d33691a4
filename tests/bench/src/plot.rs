//! Plots of the report.

use std::path::Path;

use anyhow::Context as _;
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::combinators::IntoLogRange as _,
    element::{Circle, Rectangle},
    prelude::{IntoDrawingArea as _, SVGBackend},
    series::LineSeries,
    style::{BLACK, Color as _, RGBColor, WHITE},
};

use crate::{
    contender::Contender,
    measurement::{Measurement, Metric},
};

const SIZE: (u32, u32) = (960, 480);
/// Height of the plot relative to the highest bar, with room for the legend.
const ROOM: f64 = 1.4;

/// Distinguishable with colour blindness.
const fn colour(contender: Contender) -> RGBColor {
    match contender {
        Contender::Floor => RGBColor(187, 187, 187),
        Contender::Redirect => RGBColor(160, 200, 220),
        Contender::Plain => RGBColor(136, 136, 136),
        Contender::IptablesLegacy => RGBColor(204, 121, 167),
        Contender::IptablesNft => RGBColor(213, 94, 0),
        Contender::NftMap => RGBColor(230, 159, 0),
        Contender::NftFlowtable => RGBColor(86, 180, 233),
        Contender::Causeway => RGBColor(0, 114, 178),
        Contender::CausewayXdp => RGBColor(0, 60, 110),
        Contender::CausewayBefore => RGBColor(120, 180, 220),
    }
}

/// A group of bars.
struct Group<'a> {
    title: &'a str,
    bars: Vec<(Contender, f64)>,
}

/// Draws all plots for which there are figures, and returns the file names.
pub fn draw(measurements: &[Measurement], folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut drawn = Vec::new();
    let packets: Vec<Group<'_>> = measurements
        .iter()
        .filter(|measurement| {
            measurement.metric == Metric::Packet && !is_of_many(&measurement.name)
        })
        .map(|measurement| group(measurement, |cost| 1e3 / cost))
        .collect();
    if !packets.is_empty() {
        bars(&folder.join("packets.svg"), "million packets per second (more is better)", &packets)?;
        drawn.push("packets.svg".to_owned());
    }
    let latency: Vec<Group<'_>> = measurements
        .iter()
        .filter(|measurement| measurement.metric == Metric::Median)
        .map(|measurement| group(measurement, |cost| cost))
        .collect();
    if !latency.is_empty() {
        bars(
            &folder.join("latency.svg"),
            "TCP, microseconds of half of the operations (less is better)",
            &latency,
        )?;
        drawn.push("latency.svg".to_owned());
    }
    let publishes: Vec<(f64, &Measurement)> = measurements
        .iter()
        .filter_map(|measurement| Some((publishes_of(&measurement.name)?, measurement)))
        .collect();
    if publishes.len() > 1 {
        lines(&folder.join("publishes.svg"), &publishes)?;
        drawn.push("publishes.svg".to_owned());
    }
    Ok(drawn)
}

fn is_of_many(name: &str) -> bool {
    name.contains("publishes") || name.contains("range")
}

/// Number of single published ports in the comparison of new flows.
fn publishes_of(name: &str) -> Option<f64> {
    match name.strip_prefix("published, new flows")? {
        "" => Some(1.0),
        rest => rest.strip_prefix(", ")?.strip_suffix(" publishes")?.replace(',', "").parse().ok(),
    }
}

fn group(measurement: &Measurement, shown: impl Fn(f64) -> f64) -> Group<'_> {
    let costs = measurement.figures.keys().filter(|contender| !contender.is_bound());
    let bars = costs
        .filter_map(|contender| Some((*contender, shown(measurement.cost(*contender)?.median))))
        .collect();
    Group { title: &measurement.name, bars }
}

fn bars(path: &Path, title: &str, groups: &[Group<'_>]) -> anyhow::Result<()> {
    let highest =
        groups.iter().flat_map(|group| &group.bars).map(|(_, value)| *value).fold(0.0, f64::max);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..groups.len() as f64, 0.0..highest * ROOM)?;
    let label = |place: &f64| {
        // Labels are centred below their groups.
        let at = (place - 0.5).round();
        let group =
            groups.get(at as usize).filter(|_| (place - 0.5 - at).abs() < 0.01 && at >= 0.0);
        group.map_or_else(String::new, |group| group.title.replace("TCP ", ""))
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(groups.len() * 2 + 1)
        .x_label_formatter(&label)
        .label_style(("sans-serif", 11))
        .draw()?;
    for contender in Contender::ALL {
        let style = colour(contender).filled();
        let mut own = Vec::new();
        for (place, group) in groups.iter().enumerate() {
            let Some(at) = group.bars.iter().position(|(of, _)| *of == contender) else { continue };
            let width = 0.84 / group.bars.len() as f64;
            let left = place as f64 + 0.08 + at as f64 * width;
            own.push(Rectangle::new([(left, 0.0), (left + width * 0.92, group.bars[at].1)], style));
        }
        if !own.is_empty() {
            chart
                .draw_series(own)?
                .label(contender.name())
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], style));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present().with_context(|| format!("cannot write {}", path.display()))
}

fn lines(path: &Path, publishes: &[(f64, &Measurement)]) -> anyhow::Result<()> {
    let costs = |contender: Contender| -> Vec<(f64, f64)> {
        let points = publishes
            .iter()
            .filter_map(|(ports, m)| Some((*ports, m.cost(contender)?.median / 1e3)));
        points.collect()
    };
    let all: Vec<f64> = Contender::ALL.into_iter().flat_map(costs).map(|(_, cost)| cost).collect();
    let (lowest, highest) =
        all.iter().fold((f64::MAX, 0.0_f64), |(low, high), cost| (low.min(*cost), high.max(*cost)));
    let most = publishes.iter().map(|(ports, _)| *ports).fold(1.0, f64::max);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "microseconds for a new flow, by the number of published ports (less is better)",
            ("sans-serif", 20),
        )
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(
            (1.0..most * 1.2).log_scale(),
            (lowest * 0.8..highest * 1.3).log_scale(),
        )?;
    chart.configure_mesh().label_style(("sans-serif", 12)).draw()?;
    for contender in Contender::ALL {
        let points = costs(contender);
        if points.is_empty() {
            continue;
        }
        let style = colour(contender).stroke_width(2);
        chart.draw_series(LineSeries::new(points.clone(), style))?.label(contender.name()).legend(
            move |(x, y)| Rectangle::new([(x, y - 2), (x + 14, y + 2)], colour(contender).filled()),
        );
        chart.draw_series(
            points.into_iter().map(|point| Circle::new(point, 3, colour(contender).filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present().with_context(|| format!("cannot write {}", path.display()))
}
