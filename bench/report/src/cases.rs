// SPDX-License-Identifier: Apache-2.0

//! What there is to show of each case: which numbers, of which peers, over
//! what.

use crate::results::{Key, Peer, Results};
use crate::table::{Table, grouped, measured};

/// A number of all peers over a case's points: a table, and perhaps a chart.
pub struct View {
    pub case: &'static str,
    /// What a cell says, with its unit.
    pub title: &'static str,
    /// What the points count.
    pub axis: &'static str,
    /// The chart's file, without `.svg`.
    chart: Option<&'static str>,
    pub log: bool,
    pub points: Vec<u64>,
    pub lines: Vec<Line>,
}

/// A peer's medians, point by point.
pub struct Line {
    pub peer: Peer,
    pub values: Vec<Option<f64>>,
}

/// What a case is, in a sentence or two.
pub fn description(case: &str) -> &'static str {
    match case {
        "a" => {
            "Nobody waits. `poll` of a fd that is ready, and `fdset` followed by `fdclr` of one \
             that is not, beside a call to the same port that does nothing \
             (`erlang:port_control/3` with an unknown command)."
        }
        "b" => {
            "Ping-pong inside one VM: pairs of processes with a socketpair each, 64 bytes to and \
             fro, everybody waits for everything. The time is the run's divided by all round trips."
        }
        "c" => {
            "An echo server for TCP on the loopback interface, one process per connection, loaded \
             by another program: on every connection one request of 64 bytes at a time, the \
             next as soon as the echo is there. A connection without an answer had none in the whole measured \
             time, because others were served again and again. The limit is a server in Rust with one thread, \
             epoll, and nothing else."
        }
        "d" => {
            "Ping-pong of one pair while other fds are armed and stay idle, and what such \
             a fd takes of the VM's memory (`erlang:memory(system)`; the kernel's own memory comes on top)."
        }
        "e" => {
            "Ping-pong of one pair while messages that nobody asks for lie in the mailbox of one of the two."
        }
        "f" => "Ping-pong of one pair while other processes of the VM do nothing but compute.",
        "g" => {
            "A process that waits for a fd ends: the time until another process can arm the same fd, \
             while 8 further processes hold none or 8,000 armed."
        }
        _ => "",
    }
}

/// The cases that were measured, in order.
pub fn measured_cases(results: &Results) -> Vec<&'static str> {
    ["a", "b", "c", "d", "e", "f", "g"]
        .into_iter()
        .filter(|case| !results.points(case).is_empty())
        .collect()
}

/// Everything there is to show.
pub fn views(results: &Results) -> Vec<View> {
    let all: [(_, _, _, _, _, _); 10] = [
        (
            "b",
            "us",
            "Time of a round trip, µs",
            "pairs",
            Some("pingpong"),
            false,
        ),
        (
            "c",
            "rps",
            "Requests per second",
            "connections",
            Some("requests"),
            false,
        ),
        (
            "c",
            "p50",
            "Median latency, µs",
            "connections",
            Some("latency-p50"),
            true,
        ),
        (
            "c",
            "p99",
            "Latency, 99th percentile, µs",
            "connections",
            Some("latency-p99"),
            true,
        ),
        (
            "c",
            "silent",
            "Connections without an answer",
            "connections",
            None,
            false,
        ),
        (
            "d",
            "us",
            "Time of a round trip, µs",
            "idle fds",
            Some("idle"),
            false,
        ),
        (
            "d",
            "system_bytes",
            "Memory of an armed fd, bytes",
            "idle fds",
            None,
            false,
        ),
        (
            "e",
            "us",
            "Time of a round trip, µs",
            "messages",
            Some("mailbox"),
            false,
        ),
        (
            "f",
            "p50",
            "Median time of a round trip, µs",
            "busy processes",
            Some("busy"),
            false,
        ),
        (
            "g",
            "p50",
            "Until the fd is free, µs",
            "fds of others",
            None,
            false,
        ),
    ];
    all.into_iter()
        .map(|(case, number, title, axis, chart, log)| {
            let points = results.points(case);
            let lines = results
                .peers
                .iter()
                .map(|peer| Line {
                    peer: peer.clone(),
                    values: medians(results, case, number, &peer.name, &points),
                })
                .filter(|line| line.values.iter().any(Option::is_some))
                .collect();
            View {
                case,
                title,
                axis,
                chart,
                log,
                points,
                lines,
            }
        })
        .filter(View::is_worth_showing)
        .collect()
}

fn medians(
    results: &Results,
    case: &str,
    number: &str,
    peer: &str,
    points: &[u64],
) -> Vec<Option<f64>> {
    points
        .iter()
        .map(|&x| {
            let key = Key {
                case,
                x,
                peer,
                number,
            };
            results.spread(key).map(|spread| spread.median)
        })
        .collect()
}

impl View {
    /// Nothing, or nothing but zeros, is no news.
    fn is_worth_showing(&self) -> bool {
        let mut values = self.lines.iter().flat_map(|l| l.values.iter().flatten());
        values.any(|value| *value > 0.0)
    }

    /// A chart of one point would say nothing.
    pub fn chart_name(&self) -> Option<String> {
        let name = self.chart?;
        (self.points.len() > 1).then(|| format!("{name}.svg"))
    }

    pub fn table(&self) -> String {
        let points: Vec<String> = self.points.iter().map(|x| grouped(*x as f64)).collect();
        let last = points.len().saturating_sub(1);
        let head: Vec<String> = points
            .iter()
            .enumerate()
            .map(|(at, x)| {
                if at == last {
                    format!("{x} {}", self.axis)
                } else {
                    x.clone()
                }
            })
            .collect();
        let head: Vec<&str> = [self.title]
            .into_iter()
            .chain(head.iter().map(String::as_str))
            .collect();
        let mut table = Table::new(&head);
        for line in &self.lines {
            let mut cells = vec![line.peer.title.clone()];
            cells.extend(line.values.iter().map(|value| cell(*value)));
            table.row(cells);
        }
        table.render()
    }
}

fn cell(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(count) if count.fract() == 0.0 => grouped(count),
        Some(value) => measured(value),
    }
}

/// Case a's table: it has no points, but several numbers.
pub fn calls(results: &Results) -> String {
    let mut table = Table::new(&["nanoseconds", "empty call", "poll", "fdset + fdclr"]);
    for peer in &results.peers {
        let numbers = ["empty_ns", "poll_ns", "pair_ns"].map(|number| {
            let key = Key {
                case: "a",
                x: 0,
                peer: &peer.name,
                number,
            };
            results.spread(key).map(|spread| spread.median)
        });
        if numbers.iter().any(Option::is_some) {
            let mut cells = vec![peer.title.clone()];
            cells.extend(numbers.map(cell));
            table.row(cells);
        }
    }
    table.render()
}
