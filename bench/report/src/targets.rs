// SPDX-License-Identifier: Apache-2.0

//! What inert wants to reach, as medians of ratios within a run, and whether
//! this run does.

use crate::results::{Key, Results, Spread};
use crate::table::{grouped, ratio};

/// The pollset that is judged, and the one that is taken where it is missing.
const SUBJECT: &str = "inert_epoll";
const FALLBACK: &str = "inert_erts";

/// Allowed where the target is `independent`: what is left is noise.
const INDEPENDENT: f64 = 1.2;

#[derive(Clone, Copy)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// A target, and what was measured.
pub struct Verdict {
    pub case: &'static str,
    pub what: String,
    pub limit: Limit,
    pub measured: Spread,
    /// Bytes and not a ratio.
    pub absolute: bool,
}

impl Verdict {
    /// By how much it was missed, in percent of the limit.
    pub fn missed_by(&self) -> Option<f64> {
        let over = match self.limit {
            Limit::AtMost(limit) => self.measured.median / limit - 1.0,
            Limit::AtLeast(limit) => 1.0 - self.measured.median / limit,
        };
        (over > 0.0).then_some(over * 100.0)
    }

    pub fn outcome(&self) -> String {
        match self.missed_by() {
            None => "ok".into(),
            Some(percent) => format!("MISSED by {percent:.1} %"),
        }
    }

    fn number(&self, number: f64) -> String {
        if self.absolute {
            format!("{number:.0}")
        } else {
            ratio(number)
        }
    }

    pub fn limit_text(&self) -> String {
        match self.limit {
            Limit::AtMost(limit) => format!("at most {}", self.number(limit)),
            Limit::AtLeast(limit) => format!("at least {}", self.number(limit)),
        }
    }

    pub fn measured_text(&self) -> String {
        self.number(self.measured.median)
    }

    pub fn range_text(&self) -> String {
        let (low, high) = (self.measured.low, self.measured.high);
        format!("{} to {}", self.number(low), self.number(high))
    }
}

/// The peer that the targets are about.
pub fn subject(results: &Results) -> &'static str {
    if results.has_peer(SUBJECT) {
        SUBJECT
    } else {
        FALLBACK
    }
}

/// Collects the targets whose numbers are there.
struct Judge<'a> {
    results: &'a Results,
    verdicts: Vec<Verdict>,
}

impl Judge<'_> {
    fn target(
        &mut self,
        case: &'static str,
        what: impl Into<String>,
        measured: Option<Spread>,
        limit: Limit,
    ) {
        if let Some(measured) = measured {
            self.verdicts.push(Verdict {
                case,
                what: what.into(),
                limit,
                measured,
                absolute: false,
            });
        }
    }

    /// Over another peer's number at the same point.
    fn versus(&mut self, key: Key<'static>, peers: &[&str], what: String, limit: Limit) {
        let others: Vec<_> = peers.iter().map(|peer| Key { peer, ..key }).collect();
        let measured = self.results.ratio(key, &others);
        self.target(key.case, what, measured, limit);
    }
}

/// Every target of which this run has the numbers.
pub fn verdicts(results: &Results) -> Vec<Verdict> {
    let peer = subject(results);
    let key = |case, x, number| Key {
        case,
        x,
        peer,
        number,
    };
    let mut judge = Judge {
        results,
        verdicts: Vec::new(),
    };
    use Limit::{AtLeast, AtMost};

    let empty = key("a", 0, "empty_ns");
    for (number, what, limit) in [
        ("poll_ns", "poll of a ready fd / empty port_control", 2.0),
        (
            "pair_ns",
            "fdset and fdclr of an idle fd / empty port_control",
            3.5,
        ),
    ] {
        let measured = results.ratio(key("a", 0, number), &[empty]);
        judge.target("a", what, measured, AtMost(limit));
    }

    for x in results.points("b") {
        let time = key("b", x, "us");
        let pairs = format!("{}: time", counted(x, "pair"));
        let limit = if x == 1 { 0.5 } else { 0.9 };
        judge.versus(
            time,
            &["enif_select"],
            format!("{pairs} / enif_select"),
            AtMost(limit),
        );
        if x > 1 && peer != FALLBACK {
            judge.versus(
                time,
                &[FALLBACK],
                format!("{pairs} / inert erts"),
                AtMost(0.6),
            );
        }
    }

    for x in results.points("c") {
        let rps = key("c", x, "rps");
        let to = |whom: &str| format!("{}: requests/s / {whom}", counted(x, "connection"));
        if x == 1 {
            let both = ["gen_tcp_passive", "socket"];
            let what = to("the better of gen_tcp passive and socket");
            judge.versus(rps, &both, what, AtLeast(0.95));
        } else {
            judge.versus(
                rps,
                &["gen_tcp_passive"],
                to("gen_tcp passive"),
                AtLeast(1.2),
            );
            judge.versus(rps, &["socket"], to("socket"), AtLeast(1.2));
            judge.versus(
                rps,
                &["gen_tcp_active"],
                to("gen_tcp {active, true}"),
                AtLeast(0.95),
            );
            judge.versus(rps, &["rust"], to("Rust epoll"), AtLeast(0.65));
        }
        if peer != FALLBACK {
            judge.versus(rps, &[FALLBACK], to("inert erts"), AtLeast(1.0));
        }
    }

    for x in results.points("d").into_iter().filter(|x| *x > 0) {
        let measured = results.ratio(key("d", x, "us"), &[key("d", 0, "us")]);
        let what = format!("{} idle fds: time / without", grouped(x as f64));
        judge.target("d", what, measured, AtMost(1.1));
        if let Some(measured) = results.spread(key("d", x, "system_bytes")) {
            judge.verdicts.push(Verdict {
                case: "d",
                what: format!(
                    "{} idle fds: bytes of VM memory for each",
                    grouped(x as f64)
                ),
                limit: AtMost(200.0),
                measured,
                absolute: true,
            });
        }
    }

    for x in results.points("e").into_iter().filter(|x| *x >= 100_000) {
        let measured = results.ratio(key("e", x, "us"), &[key("e", 0, "us")]);
        let what = format!("{} messages: time / without", grouped(x as f64));
        judge.target("e", what, measured, AtMost(1.3));
    }

    if peer != FALLBACK {
        for x in results.points("f") {
            let what = format!("{x} busy processes: p50 / inert erts");
            judge.versus(key("f", x, "p50"), &[FALLBACK], what, AtMost(1.0));
        }
    }

    for x in results.points("g").into_iter().filter(|x| *x > 0) {
        let measured = results.ratio(key("g", x, "p50"), &[key("g", 0, "p50")]);
        let what = format!(
            "others hold {} fds: time / they hold none",
            grouped(x as f64)
        );
        judge.target("g", what, measured, AtMost(INDEPENDENT));
    }
    judge.verdicts
}

fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(median: f64, limit: Limit) -> Verdict {
        Verdict {
            case: "a",
            what: String::new(),
            limit,
            measured: Spread {
                median,
                low: median,
                high: median,
            },
            absolute: false,
        }
    }

    #[test]
    fn a_limit_itself_is_met() {
        assert_eq!(verdict(2.0, Limit::AtMost(2.0)).outcome(), "ok");
        assert_eq!(verdict(1.2, Limit::AtLeast(1.2)).outcome(), "ok");
    }

    #[test]
    fn a_miss_is_in_percent_of_the_limit() {
        assert_eq!(
            verdict(2.5, Limit::AtMost(2.0)).outcome(),
            "MISSED by 25.0 %"
        );
        assert_eq!(
            verdict(0.6, Limit::AtLeast(1.2)).outcome(),
            "MISSED by 50.0 %"
        );
    }
}
