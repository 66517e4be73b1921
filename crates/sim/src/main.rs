//! Runs seeds of the simulator: `strom-sim [--seeds N] [--first N] [--seed N] [--trace] [--without RULE] [--mutants]`.

use std::io::Write;
use std::process::ExitCode;

use strom_sim::mutants::CLAIMS;
use strom_sim::report::{replay, run_many};
use strom_sim::{Mutant, Settings, run};

const USAGE: &str =
    "strom-sim [--seeds N] [--first N] [--threads N] [--seed N [--trace]] [--without RULE] [--mutants]";

#[derive(Default)]
struct Arguments {
    seeds: u64,
    first: u64,
    threads: usize,
    seed: Option<u64>,
    trace: bool,
    without: Option<String>,
    mutants: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments {
        seeds: 500,
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        ..Arguments::default()
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seeds" => arguments.seeds = words.next()?.parse().ok()?,
            "--first" => arguments.first = words.next()?.parse().ok()?,
            "--threads" => arguments.threads = words.next()?.parse().ok()?,
            "--seed" => arguments.seed = Some(words.next()?.parse().ok()?),
            "--trace" => arguments.trace = true,
            "--without" => arguments.without = Some(words.next()?),
            "--mutants" => arguments.mutants = true,
            _ => return None,
        }
    }
    Some(arguments)
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let mut out = std::io::stdout();
    if arguments.mutants {
        return mutants(arguments.seeds, arguments.without.as_deref());
    }
    let mutant = match arguments.without.as_deref().map(Mutant::named) {
        Some(None) => {
            eprintln!(
                "no such rule; there are: {:?}",
                Mutant::names().collect::<Vec<_>>()
            );
            return ExitCode::FAILURE;
        }
        named => named.flatten(),
    };
    if let Some(seed) = arguments.seed {
        let settings = Settings {
            seed,
            mutant,
            print: arguments.trace,
        };
        return match run(settings) {
            Ok(outcome) => {
                println!("seed {seed}: {outcome:?}");
                ExitCode::SUCCESS
            }
            Err(what) => {
                println!("seed {seed}: {what}\nreplay: {}", replay(settings));
                ExitCode::FAILURE
            }
        };
    }
    let summary = run_many(arguments.first, arguments.seeds, arguments.threads, 20, &mut out);
    // The last line of a program whose output may be closed.
    let _ = writeln!(out, "{}", summary.line());
    if summary.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Looks for every mutant, or one, and tells which seed found it.
fn mutants(seeds: u64, only: Option<&str>) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = false;
    for name in Mutant::names().filter(|name| only.is_none_or(|only| only == *name)) {
        let Some(mutant) = Mutant::named(name) else {
            continue;
        };
        match mutant.found_within(seeds) {
            Some((seed, what)) => {
                println!("{name}: seed {seed}: {}", what.lines().next().unwrap_or_default());
            }
            None => {
                println!("{name}: not found within {seeds} seeds");
                missed |= CLAIMS.iter().any(|claim| claim.name == name);
            }
        }
    }
    if missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
