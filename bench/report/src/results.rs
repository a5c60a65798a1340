// SPDX-License-Identifier: Apache-2.0

//! What `bench.erl` has written, and the arithmetic on it: medians over the
//! rounds, and ratios of two numbers of the same round.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// A run of the benchmark.
#[derive(Deserialize)]
pub struct Results {
    pub mode: String,
    pub rounds: u32,
    pub machine: Machine,
    pub peers: Vec<Peer>,
    /// What was left out or failed, and why.
    pub skipped: Vec<String>,
    results: Vec<Measurement>,
}

#[derive(Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: u32,
    pub kernel: String,
    pub otp: String,
    pub erts: String,
    pub emulator: String,
    pub rust: String,
    pub commit: String,
    pub date: String,
}

#[derive(Clone, Deserialize)]
pub struct Peer {
    pub name: String,
    pub title: String,
}

#[derive(Deserialize)]
struct Measurement {
    case: String,
    peer: String,
    x: u64,
    round: u32,
    #[serde(flatten)]
    numbers: HashMap<String, f64>,
}

/// Which number: a case, a point of it, a peer, and the number's name.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    pub case: &'a str,
    pub x: u64,
    pub peer: &'a str,
    pub number: &'a str,
}

/// A number of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// None without numbers.
    pub fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let (low, high) = (*numbers.first()?, *numbers.last()?);
        let middle = numbers.len() / 2;
        let median = if numbers.len() % 2 == 1 {
            numbers[middle]
        } else {
            (numbers[middle - 1] + numbers[middle]) / 2.0
        };
        Some(Self { median, low, high })
    }
}

impl Results {
    pub fn read(file: &Path) -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Self::parse(&text).map_err(|e| format!("{}: {e}", file.display()).into())
    }

    pub fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    pub fn has_peer(&self, name: &str) -> bool {
        self.peers.iter().any(|peer| peer.name == name)
    }

    /// The points of a case that were measured, in order.
    pub fn points(&self, case: &str) -> Vec<u64> {
        let mut points: Vec<_> = self
            .results
            .iter()
            .filter(|m| m.case == case)
            .map(|m| m.x)
            .collect();
        points.sort_unstable();
        points.dedup();
        points
    }

    /// By round.
    fn rounds_of(&self, key: Key<'_>) -> HashMap<u32, f64> {
        self.results
            .iter()
            .filter(|m| m.case == key.case && m.x == key.x && m.peer == key.peer)
            .filter_map(|m| Some((m.round, *m.numbers.get(key.number)?)))
            .collect()
    }

    pub fn spread(&self, key: Key<'_>) -> Option<Spread> {
        Spread::of(self.rounds_of(key).into_values().collect())
    }

    /// The number over the largest of others, round by round. A round counts
    /// if it has all of them.
    pub fn ratio(&self, key: Key<'_>, to: &[Key<'_>]) -> Option<Spread> {
        let others: Vec<_> = to.iter().map(|other| self.rounds_of(*other)).collect();
        let ratios = self
            .rounds_of(key)
            .into_iter()
            .filter_map(|(round, number)| {
                let others: Option<Vec<f64>> =
                    others.iter().map(|o| o.get(&round).copied()).collect();
                let largest = others?.into_iter().reduce(f64::max)?;
                (largest > 0.0).then_some(number / largest)
            });
        Spread::of(ratios.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = r#"{
        "mode": "quick", "rounds": 3, "skipped": [],
        "machine": {"cpu": "", "cores": 2, "kernel": "", "otp": "", "erts": "", "emulator": "",
                    "rust": "", "commit": "", "date": ""},
        "peers": [{"name": "us", "title": "Us"}, {"name": "them", "title": "Them"}],
        "results": [
            {"case": "b", "x": 10, "peer": "us", "round": 1, "us": 10},
            {"case": "b", "x": 10, "peer": "us", "round": 2, "us": 40},
            {"case": "b", "x": 10, "peer": "us", "round": 3, "us": 11.0},
            {"case": "b", "x": 10, "peer": "them", "round": 1, "us": 20},
            {"case": "b", "x": 10, "peer": "them", "round": 2, "us": 100},
            {"case": "b", "x": 1, "peer": "us", "round": 1, "us": 5}
        ]}"#;

    fn key(x: u64, peer: &str) -> Key<'_> {
        Key {
            case: "b",
            x,
            peer,
            number: "us",
        }
    }

    #[test]
    fn medians_are_over_the_rounds() {
        let results = Results::parse(RUN).unwrap();
        let spread = results.spread(key(10, "us")).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (10.0, 11.0, 40.0));
        assert_eq!(results.spread(key(10, "them")).unwrap().median, 60.0);
        assert_eq!(results.spread(key(1, "them")), None);
        assert_eq!(results.points("b"), [1, 10]);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let results = Results::parse(RUN).unwrap();
        let ratio = results.ratio(key(10, "us"), &[key(10, "them")]).unwrap();
        assert_eq!((ratio.low, ratio.high), (0.4, 0.5));
        let best = [key(10, "us"), key(10, "them")];
        assert_eq!(results.ratio(key(10, "them"), &best).unwrap().median, 1.0);
        assert_eq!(results.ratio(key(1, "us"), &[key(1, "them")]), None);
    }
}
