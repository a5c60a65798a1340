// SPDX-License-Identifier: Apache-2.0

//! From the benchmark's measurements to what people read: tables on the standard
//! output, a page, and its charts. The targets are judged here, and only here.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `results.rs` | what `bench.erl` has written, medians, ratios |
//! | `targets.rs` | what inert wants to reach, and whether it does |
//! | `cases.rs` | what there is to show of each case |
//! | `table.rs` | numbers and tables as text |
//! | `chart.rs` | charts as SVG |
//! | `page.rs` | performance.md |

#![forbid(unsafe_code)]

mod cases;
mod chart;
mod page;
mod results;
mod table;
mod targets;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::results::Results;

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// Where performance.md and charts/ go
    #[arg(long)]
    docs: PathBuf,
    /// A table of system calls, in Markdown, for the page
    #[arg(long)]
    syscalls: Option<PathBuf>,
    /// What bench.erl has written
    results: PathBuf,
}

fn main() -> ExitCode {
    match report(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let results = Results::read(&cli.results)?;
    let charts = cli.docs.join("charts");
    fs::create_dir_all(&charts)?;
    let page = cli.docs.join("performance.md");
    let notes = page::notes(&fs::read_to_string(&page).unwrap_or_default());
    let syscalls = match &cli.syscalls {
        Some(file) if file.exists() => Some(fs::read_to_string(file)?),
        _ => None,
    };

    println!("\n{}", page::summary(&results));
    for view in cases::views(&results) {
        if let Some(name) = view.chart_name() {
            fs::write(charts.join(name), chart::draw(&view)?)?;
        }
    }
    fs::write(&page, page::render(&results, &notes, syscalls.as_deref()))?;
    println!("wrote {} and its charts", page.display());
    Ok(())
}
