//! What became of each thing a verb was to change.

use serde::Serialize;

use crate::exit::{Error, ExitCode};
use crate::kafka::KafkaError;
use crate::output::{Block, Output, View};

/// One thing and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    name: String,
    /// What was done, e.g. `deleted`; `failed` if it was not.
    result: String,
    error: Option<String>,
}

/// The outcomes of one verb, in order.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Outcomes {
    list: Vec<Outcome>,
    #[serde(skip)]
    failures: Vec<KafkaError>,
}

impl View for Outcomes {
    fn blocks(&self) -> Vec<Block> {
        let rows = self
            .list
            .iter()
            .map(|outcome| vec![outcome.name.clone(), outcome.result.clone()])
            .collect();
        vec![Block::Table {
            columns: &["NAME", "RESULT"],
            rows,
        }]
    }
}

impl Outcomes {
    /// Notes that `name` was `done`, or why not.
    pub(super) fn add(&mut self, name: &str, done: &str, result: Result<(), KafkaError>) {
        let name = name.to_owned();
        match result {
            Ok(()) => self.list.push(Outcome {
                name,
                result: done.to_owned(),
                error: None,
            }),
            Err(error) => {
                self.list.push(Outcome {
                    name,
                    result: "failed".to_owned(),
                    error: Some(error.to_string()),
                });
                self.failures.push(error);
            }
        }
    }

    /// Shows the list and fails if anything did.
    pub(super) fn settle(self, output: &mut Output) -> Result<(), Error> {
        output.show(&self)?;
        settle(self.list.len(), self.failures, output)
    }
}

/// Tells each failure; the verb fails if there is one.
pub(super) fn settle(total: usize, failures: Vec<KafkaError>, output: &mut Output) -> Result<(), Error> {
    let failed = failures.len();
    if total == 1 || failed == 0 {
        return failures
            .into_iter()
            .next()
            .map_or(Ok(()), |failure| Err(failure.into()));
    }
    let code = if failures.iter().all(KafkaError::is_timeout) {
        ExitCode::Timeout
    } else {
        ExitCode::Failed
    };
    for failure in failures {
        output.complain(&failure.into());
    }
    Err(Error::Partly { failed, total, code })
}
