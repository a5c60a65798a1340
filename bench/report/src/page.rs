// SPDX-License-Identifier: Apache-2.0

//! performance.md: written anew by every full run, but for the notes.

use std::fmt::Write;

use crate::cases;
use crate::results::Results;
use crate::table::Table;
use crate::targets;

const NOTES: &str = "<!-- notes -->";
const NOTES_END: &str = "<!-- end of the notes -->";

/// What stands between the markers of an earlier page.
pub fn notes(page: &str) -> String {
    page.split_once(NOTES)
        .and_then(|(_, rest)| rest.split_once(NOTES_END))
        .map_or_else(|| "\n\n".into(), |(notes, _)| notes.into())
}

/// The tables of a run, for the terminal.
pub fn summary(results: &Results) -> String {
    let mut text = String::new();
    for case in cases::measured_cases(results) {
        let _ = writeln!(text, "{}", tables(results, case, false));
    }
    let _ = writeln!(text, "{}", verdicts(results));
    text
}

pub fn render(results: &Results, notes: &str, syscalls: Option<&str>) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "# Performance\n\n\
         <!-- Written by `make bench`. By hand: only between the markers of the notes. -->\n\n\
         What inert costs, beside everything else that a program on the BEAM can wait with. All numbers \
         are of one {mode} run on one machine, the medians of {rounds}; ratios are of two numbers of the same \
         round, and their medians. Compare numbers within this page, not with those of another machine.\n\n\
         ## The machine\n\n\
         {cores} cores of {cpu}; {kernel}; Erlang/OTP {otp} (ERTS {erts}, {emulator}); {rust}; \
         inert {commit}; {date}.\n\n\
         ## How to repeat it\n\n\
         `make bench` takes about 10 minutes and writes this page; `make bench-quick` has all cases with fewer \
         rounds, takes under 2 minutes and writes to `bench/results/` only. \
         `bench/run full cases=c peers=inert_epoll,socket rounds=3` runs a part. Nothing else should run \
         meanwhile: the load generator and the server share the machine's cores.\n\n\
         Every measurement has a VM of its own with default settings. In each round the peers take \
         turns at every point. Peers on raw fds read and write through the same NIF \
         (`examples/fdio`), each in the loop that is usual for it: with inert wait, then read, since a \
         poll looks at the fd itself; with enif_select read, and wait if there is nothing. All servers have one process per connection, handle \
         binaries and set `nodelay`; `socket` uses `nowait` and its select message.\n\n\
         ## Targets\n\n",
        rounds = if results.rounds == 1 {
            "1 round".into()
        } else {
            format!("{} rounds", results.rounds)
        },
        mode = results.mode,
        cores = machine.cores,
        cpu = machine.cpu,
        kernel = machine.kernel,
        otp = machine.otp,
        erts = machine.erts,
        emulator = machine.emulator,
        rust = machine.rust,
        commit = machine.commit,
        date = machine.date,
    );
    let _ = writeln!(text, "{}", verdicts(results));
    for case in cases::measured_cases(results) {
        let _ = writeln!(text, "## Case {case}\n\n{}\n", cases::description(case));
        let _ = writeln!(text, "{}", tables(results, case, true));
    }
    if let Some(syscalls) = syscalls {
        let _ = writeln!(text, "## System calls\n\n{}\n", syscalls.trim());
    }
    let _ = write!(text, "## Notes\n\n{NOTES}{notes}{NOTES_END}\n");
    text
}

fn tables(results: &Results, case: &str, charts: bool) -> String {
    if case == "a" {
        return cases::calls(results);
    }
    let mut parts = Vec::new();
    for view in cases::views(results)
        .iter()
        .filter(|view| view.case == case)
    {
        parts.push(view.table());
        if let Some(chart) = view.chart_name().filter(|_| charts) {
            parts.push(format!("![{}](charts/{chart})\n", view.title));
        }
    }
    parts.join("\n")
}

fn verdicts(results: &Results) -> String {
    let verdicts = targets::verdicts(results);
    let mut table =
        Table::new(&["case", "what", "target", "outcome", "measured", "rounds"]).text_columns(4);
    for verdict in &verdicts {
        table.row(vec![
            verdict.case.into(),
            verdict.what.clone(),
            verdict.limit_text(),
            verdict.outcome(),
            verdict.measured_text(),
            verdict.range_text(),
        ]);
    }
    let met = verdicts.iter().filter(|v| v.missed_by().is_none()).count();
    let mut text = format!(
        "{}\n{met} of {} targets met.\n",
        table.render(),
        verdicts.len()
    );
    for skipped in &results.skipped {
        let _ = writeln!(text, "\nLeft out: {skipped}.");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_outlive_a_run() {
        let page = format!("# Old\n{NOTES}\n\nWhy it is so.\n\n{NOTES_END}\n");
        assert_eq!(notes(&page), "\n\nWhy it is so.\n\n");
    }

    #[test]
    fn without_a_page_there_are_no_notes() {
        assert_eq!(notes("").trim(), "");
        assert_eq!(notes(NOTES).trim(), "");
    }
}
