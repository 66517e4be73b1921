//! `strom cluster`: health, doctor.

mod doctor;
mod health;

use clap::{Args, Subcommand};

use crate::args::Connect;
use crate::exit::Error;
use crate::output::Output;

/// The cluster as a whole: health, doctor
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    #[command(subcommand)]
    verb: ClusterVerb,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Subcommand, Clone, Debug)]
enum ClusterVerb {
    Health(health::HealthArgs),
    Doctor(doctor::DoctorArgs),
}

pub(crate) async fn run(args: ClusterArgs, output: &mut Output) -> Result<(), Error> {
    args.connect.apply(output);
    match args.verb {
        ClusterVerb::Health(verb) => health::run(&verb, &args.connect, output).await,
        ClusterVerb::Doctor(verb) => doctor::run(&verb, &args.connect, output).await,
    }
}

/// The topic config that health and doctor judge by.
const MIN_ISR: &str = "min.insync.replicas";
