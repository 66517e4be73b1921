//! The operator's verbs of the `strom` binary: topics, records, groups, configs, the quorum, measurements, health.
//!
//! They speak Kafka's wire protocol to `--bootstrap-server`, so they work against any Kafka. A caller parses
//! [`Verb`] (and [`BrokerVerb`] under its own `broker` role) with clap and hands it to [`execute`]:
//!
//! ```no_run
//! use clap::Parser;
//!
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(subcommand)]
//!     verb: strom_cli::Verb,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     strom_cli::execute(Cli::parse().verb).into()
//! }
//! ```

mod args;
mod base64;
mod datetime;
mod exit;
mod interrupt;
mod kafka;
mod output;
mod progress;
mod verbs;

#[cfg(test)]
mod tests;

use clap::Subcommand;

pub use exit::ExitCode;
pub use output::{Format, Output};
pub use verbs::api_versions::ApiVersionsArgs;
pub use verbs::bench::BenchArgs;
pub use verbs::broker::{BrokerDescribeArgs, BrokerListArgs, BrokerVerb};
pub use verbs::cluster::ClusterArgs;
pub use verbs::config::ConfigArgs;
pub use verbs::consume::ConsumeArgs;
pub use verbs::group::GroupArgs;
pub use verbs::healthcheck::HealthcheckArgs;
pub use verbs::produce::ProduceArgs;
pub use verbs::quorum::QuorumArgs;
pub use verbs::topic::TopicArgs;

use exit::Error;

/// What an operator can ask for.
#[derive(Subcommand, Clone, Debug)]
pub enum Verb {
    Topic(TopicArgs),
    Produce(Box<ProduceArgs>),
    Consume(Box<ConsumeArgs>),
    Group(GroupArgs),
    Config(ConfigArgs),
    /// Not parsed here: `strom broker` is also a role, so the binary parses [`BrokerVerb`] beneath it.
    #[command(skip)]
    Broker(BrokerVerb),
    Cluster(ClusterArgs),
    Quorum(QuorumArgs),
    Bench(Box<BenchArgs>),
    Healthcheck(HealthcheckArgs),
    ApiVersions(ApiVersionsArgs),
}

/// Runs a verb on the process's own streams, with the runtime it needs: none for `healthcheck`, several threads for
/// `bench`, one otherwise.
pub fn execute(verb: Verb) -> ExitCode {
    let mut output = Output::standard();
    let mut builder = match &verb {
        Verb::Healthcheck(args) => {
            let result = verbs::healthcheck::run(args, &mut output);
            return conclude(result, &mut output);
        }
        Verb::Bench(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    match builder.enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(run(verb, &mut output));
            // A thread may still be waiting for standard input.
            runtime.shutdown_background();
            code
        }
        Err(source) => {
            let error = Error::Input {
                what: "cannot start the runtime".to_owned(),
                source,
            };
            conclude(Err(error), &mut output)
        }
    }
}

/// Runs a verb inside a tokio runtime with IO, time and signals (the future is not `Send`: block on it). Errors are
/// told on `output`'s second stream.
pub async fn run(verb: Verb, output: &mut Output) -> ExitCode {
    let result = match verb {
        Verb::Topic(args) => verbs::topic::run(args, output).await,
        Verb::Produce(args) => Box::pin(verbs::produce::run(*args, output)).await,
        Verb::Consume(args) => Box::pin(verbs::consume::run(*args, output)).await,
        Verb::Group(args) => verbs::group::run(args, output).await,
        Verb::Config(args) => verbs::config::run(args, output).await,
        Verb::Broker(verb) => verbs::broker::run(verb, output).await,
        Verb::Cluster(args) => Box::pin(verbs::cluster::run(args, output)).await,
        Verb::Quorum(args) => verbs::quorum::run(args, output).await,
        Verb::Bench(args) => Box::pin(verbs::bench::run(*args, output)).await,
        Verb::Healthcheck(args) => verbs::healthcheck::run(&args, output),
        Verb::ApiVersions(args) => verbs::api_versions::run(args, output).await,
    };
    conclude(result, output)
}

fn conclude(result: Result<(), Error>, output: &mut Output) -> ExitCode {
    match result {
        Ok(()) => ExitCode::Ok,
        Err(error) if error.is_closed_pipe() => ExitCode::Ok,
        Err(error) => {
            output.complain(&error);
            error.exit_code()
        }
    }
}
