//! What is shown on the terminal.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use crate::{contender::Contender, measurement::Measurement};

/// One comparison as a table.
pub fn table(measurement: &Measurement) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    let has_floor = measurement.figures.contains_key(&Contender::Floor);
    let mut header = vec![measurement.name.as_str(), measurement.metric.unit(), "±", "rate", "causeway is"];
    if has_floor {
        header.extend(["net of the floor", "causeway is"]);
    }
    header.push("lost");
    table.set_header(header);
    for (contender, figure) in &measurement.figures {
        let Some(cost) = measurement.cost(*contender) else { continue };
        let times = |ratio: Option<f64>| match ratio {
            Some(ratio) if !matches!(contender, Contender::Causeway | Contender::Floor) => format!("{ratio:.2} x"),
            _ => String::new(),
        };
        let mut row = vec![
            contender.to_string(),
            format!("{:.1}", cost.median),
            format!("{:.1} %", cost.relative() * 100.0),
            measurement.metric.rate(cost.median).unwrap_or_default(),
            times(measurement.ratio(*contender).map(|ratio| ratio.median)),
        ];
        if has_floor {
            row.push(measurement.net(*contender).map_or_else(String::new, |net| format!("{:.1}", net.median)));
            row.push(times(measurement.net_ratio(*contender).map(|ratio| ratio.median)));
        }
        row.push(lost(figure.lost, figure.sent));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A round in which packets were lost says so.
pub fn lost(lost: u64, sent: u64) -> String {
    match (lost, sent) {
        (_, 0) => String::new(),
        (0, _) => "none".to_owned(),
        _ => format!("LOST {lost} of {sent} ({:.2} %)", lost as f64 * 100.0 / sent as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_said() {
        assert_eq!(lost(0, 100), "none");
        assert_eq!(lost(1, 100), "LOST 1 of 100 (1.00 %)");
    }
}
