// SPDX-License-Identifier: Apache-2.0

//! The load of inert's benchmark. `client` opens connections to an echo server
//! on this machine and keeps one request in flight on each; `server` is the
//! server to compare with, as little as one thread with epoll(7) needs to do.
//!
//! Both are bounded in time, stay on the loopback interface, and know nothing of
//! Erlang.

#![forbid(unsafe_code)]

mod client;
mod server;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load an echo server; prints one line of JSON
    Client {
        /// The server's port on 127.0.0.1
        #[arg(long)]
        port: u16,
        /// How many connections, each with one request in flight
        #[arg(long, default_value = "1")]
        connections: NonZeroUsize,
        /// Bytes of a request
        #[arg(long, default_value = "64")]
        size: NonZeroUsize,
        /// Seconds from an echo to the connection's next request
        #[arg(long, default_value = "0", value_parser = seconds)]
        pause: Duration,
        /// Seconds before the measurement begins
        #[arg(long, default_value = "0.5", value_parser = seconds)]
        warmup: Duration,
        /// Seconds to measure
        #[arg(long, default_value = "2", value_parser = seconds)]
        seconds: Duration,
    },
    /// Echo; prints `port N`, and ends with its standard input
    Server {
        /// The port to listen on at 127.0.0.1; 0 lets the kernel choose
        #[arg(long, default_value = "0")]
        port: u16,
        /// Seconds after which it ends whatever happens
        #[arg(long, default_value = "60", value_parser = seconds)]
        seconds: Duration,
    },
}

/// No run is longer than this, whatever the command line says.
const LONGEST: f64 = 600.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=LONGEST).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("not a number of seconds from 0 to {LONGEST}")),
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Client {
            port,
            connections,
            size,
            pause,
            warmup,
            seconds,
        } => client::run(&client::Load {
            port,
            connections,
            size,
            pause,
            warmup,
            seconds,
        })
        .and_then(|report| {
            println!("{}", serde_json::to_string(&report)?);
            Ok(())
        }),
        Command::Server { port, seconds } => server::run(port, seconds),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_load: {error}");
            ExitCode::FAILURE
        }
    }
}
