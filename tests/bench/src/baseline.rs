//! The baseline in the repository: ratios of an earlier run, which are about the same on any
//! machine, unlike times.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    contender::Contender,
    measurement::{Measurement, Metric},
};

/// The tolerated decrease of a ratio. Runs differ by about a tenth.
pub const TOLERANCE: f64 = 0.2;

/// Ratios by name: how many times as good causeway is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline(BTreeMap<String, f64>);

/// A ratio that has become too small.
#[derive(Clone, Debug, PartialEq)]
pub struct Worse {
    /// Measurement and contender.
    pub what: String,
    /// The ratio in the baseline.
    pub before: f64,
    /// The ratio now.
    pub now: f64,
}

impl Baseline {
    /// The ratios of measurements, without the tails of latencies, which depend on the machine.
    pub fn of(measurements: &[Measurement]) -> Self {
        let mut ratios = BTreeMap::new();
        for measurement in measurements {
            if matches!(measurement.metric, Metric::P99 | Metric::P999) {
                continue;
            }
            for against in
                measurement.figures.keys().filter(|other| !other.is_bound() && !other.is_causeway())
            {
                if let Some(ratio) = measurement.ratio(*against) {
                    let what = format!(
                        "{} ({}) against {against}",
                        measurement.name,
                        measurement.metric.unit()
                    );
                    ratios.insert(what, (ratio.median * 100.0).round() / 100.0);
                }
            }
        }
        Self(ratios)
    }

    /// Reads the baseline in the repository.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!("cannot read the baseline {}; make one with --save", path.display())
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is no baseline; make one with --save", path.display()))
    }

    /// Updates the baseline in the repository. Ratios that were not measured stay.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut all = if path.exists() { Self::load(path)? } else { Self::default() };
        all.0.extend(self.0.clone());
        fs::write(path, serde_json::to_string_pretty(&all)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Ratios of those measurements and contenders that the baseline has and this run has not.
    pub fn missing(&self, now: &Self, names: &[String], contenders: &[Contender]) -> Vec<String> {
        let is_asked_for = |what: &str| {
            names.iter().any(|name| what.starts_with(&format!("{name} (")))
                && contenders
                    .iter()
                    .any(|contender| what.ends_with(&format!(" against {contender}")))
        };
        self.0
            .keys()
            .filter(|what| is_asked_for(what) && !now.0.contains_key(*what))
            .cloned()
            .collect()
    }

    /// Number of ratios in both.
    pub fn in_common(&self, now: &Self) -> usize {
        self.0.keys().filter(|what| now.0.contains_key(*what)).count()
    }

    /// Ratios that have decreased more than tolerated.
    pub fn worse(&self, now: &Self) -> anyhow::Result<Vec<Worse>> {
        let both =
            self.0.iter().filter_map(|(what, before)| Some((what, *before, *now.0.get(what)?)));
        let both: Vec<_> = both.collect();
        ensure!(
            !both.is_empty(),
            "the baseline has none of the ratios that were measured: measure comparisons and \
             contenders that it has, or update it with --save"
        );
        let worse = both.into_iter().filter(|(_, before, now)| *now < before * (1.0 - TOLERANCE));
        Ok(worse.map(|(what, before, now)| Worse { what: what.clone(), before, now }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(ratio: f64) -> Baseline {
        Baseline(BTreeMap::from([("a".to_owned(), ratio)]))
    }

    #[test]
    fn ratio_may_be_slightly_smaller() {
        assert!(baseline(3.0).worse(&baseline(2.5)).unwrap().is_empty());
        let worse = baseline(3.0).worse(&baseline(2.3)).unwrap();
        assert_eq!(worse, [Worse { what: "a".to_owned(), before: 3.0, now: 2.3 }]);
    }

    #[test]
    fn unmeasured_rows_are_missing() {
        let what =
            |name: &str, contender: Contender| format!("{name} (ns/packet) against {contender}");
        let [of_plain, of_other, of_map] = [
            what("a", Contender::Plain),
            what("a, IPv6", Contender::Plain),
            what("a", Contender::NftMap),
        ];
        let saved = Baseline(
            [&of_plain, &of_other, &of_map].into_iter().map(|what| (what.clone(), 1.0)).collect(),
        );
        let missing = |now: &Baseline| {
            saved.missing(now, &["a".to_owned()], &[Contender::Plain, Contender::Floor])
        };
        assert_eq!(missing(&Baseline::default()), std::slice::from_ref(&of_plain));
        let now = Baseline(BTreeMap::from([(of_plain, 0.1)]));
        assert!(missing(&now).is_empty());
        assert_eq!(saved.in_common(&now), 1);
    }

    #[test]
    fn unreadable_baseline_is_not_overwritten() {
        let path = std::env::temp_dir().join(format!("causeway-baseline-{}", std::process::id()));
        fs::write(&path, "{\"a\": 1.0,}").unwrap();
        let saved = baseline(2.0).save(&path);
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(saved.is_err());
        assert_eq!(text, "{\"a\": 1.0,}");
    }

    #[test]
    fn disjoint_baseline_fails() {
        assert!(baseline(3.0).worse(&Baseline::default()).is_err());
    }
}
