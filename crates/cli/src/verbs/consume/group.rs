//! Consuming as a member of a group.

use std::time::Duration;

use strom_types::ErrorCode;
use tokio::time::{MissedTickBehavior, interval};

use super::{ConsumeArgs, Printer, ends_of, fetcher, start_over};
use crate::exit::Error;
use crate::interrupt::Interrupts;
use crate::kafka::fetch::Fetcher;
use crate::kafka::membership::{HEARTBEAT_INTERVAL, Member, is_out_of_step};
use crate::kafka::offsets::Offsets;
use crate::kafka::{Client, KafkaError};
use crate::output::Output;

/// As Kafka's `auto.commit.interval.ms`.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// A member at work.
struct Session<'a> {
    args: &'a ConsumeArgs,
    client: &'a Client,
    member: Member<'a>,
    fetcher: Fetcher<'a>,
    printer: Printer<'a>,
    committed: Offsets,
}

pub(super) async fn run(
    args: &ConsumeArgs,
    group: &str,
    client: &Client,
    output: &mut Output,
) -> Result<(), Error> {
    let topics = args.topics.list();
    client.topics(&topics).await?;
    let mut session = Session {
        args,
        client,
        member: Member::new(client, group, &topics),
        fetcher: fetcher(args, client),
        printer: Printer::new(args),
        committed: Offsets::new(),
    };
    session.join(output).await?;
    let worked = session.work(output).await;
    // Whatever has been printed is committed, also after an error.
    let committed = session.commit().await;
    let left = session.member.leave().await;
    worked?;
    match committed {
        Err(error) if is_out_of_step(&error) => {
            output.note("the group rebalanced at the end; the last records will be read again");
        }
        other => other?,
    }
    left?;
    output.flush()
}

impl Session<'_> {
    async fn join(&mut self, output: &mut Output) -> Result<(), Error> {
        let keys = self.member.join().await?;
        let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let shown = if names.is_empty() {
            "no partitions".to_owned()
        } else {
            names.join(", ")
        };
        output.note(&format!("group {}: {shown}", self.member.group()));
        let committed = self.client.committed(self.member.group()).await?;
        let (known, fresh): (Vec<_>, Vec<_>) =
            keys.iter().cloned().partition(|key| committed.contains_key(key));
        let mut positions = if fresh.is_empty() {
            Offsets::new()
        } else {
            self.args
                .begin()
                .resolve(&fresh, self.args.read_committed(), self.client)
                .await?
        };
        positions.extend(
            known
                .into_iter()
                .filter_map(|key| committed.get(&key).map(|&offset| (key, offset))),
        );
        self.committed = positions.clone();
        self.printer.printed.clear();
        self.printer.ends = ends_of(self.args, &keys, self.client).await?;
        self.fetcher.assign(positions);
        self.printer.drop_finished(&mut self.fetcher);
        Ok(())
    }

    async fn work(&mut self, output: &mut Output) -> Result<(), Error> {
        let mut interrupts = Interrupts::listen()?;
        let (mut heartbeat, mut commit) = (interval(HEARTBEAT_INTERVAL), interval(COMMIT_INTERVAL));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.printer.is_done() {
            let in_step = tokio::select! {
                _ = heartbeat.tick() => self.member.heartbeat().await?,
                _ = commit.tick() => self.commit_or_rejoin().await?,
                fetched = self.fetcher.next() => {
                    match fetched {
                        Ok(parts) => {
                            for part in &parts {
                                self.printer.print(part, output)?;
                            }
                            output.flush()?;
                            self.printer.drop_finished(&mut self.fetcher);
                        }
                        Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => {
                            start_over(self.args, self.client, &mut self.fetcher, output).await?;
                        }
                        Err(error) => return Err(error.into()),
                    }
                    true
                }
                () = interrupts.recv() => return Ok(()),
            };
            if !in_step {
                // Before the partitions go elsewhere; too late is no error, they are then read twice.
                self.commit_or_rejoin().await?;
                self.join(output).await?;
            }
        }
        Ok(())
    }

    /// `false` when the group has moved on.
    async fn commit_or_rejoin(&mut self) -> Result<bool, KafkaError> {
        match self.commit().await {
            Ok(()) => Ok(true),
            Err(error) if is_out_of_step(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn commit(&mut self) -> Result<(), KafkaError> {
        if self.args.no_commit {
            return Ok(());
        }
        let committed = &self.committed;
        let news = self
            .printer
            .printed
            .iter()
            .filter(|(key, offset)| committed.get(key) != Some(offset));
        let news: Offsets = news.map(|(key, &offset)| (key.clone(), offset)).collect();
        self.client
            .commit(self.member.group(), Some(self.member.generation()), &news)
            .await?;
        self.committed.extend(news);
        Ok(())
    }
}
