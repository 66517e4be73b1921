//! Changes that go to the controllers: the client's time-out, what came of each item, and reading one's own writes.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use strom_client::{CallError, Effect, Transport};
use strom_kafka_codec::ByteStr;
use strom_metadata::Image;
use strom_proto::convert::error_code;
use strom_proto::v1::controller_client::ControllerClient;
use strom_proto::v1::{self, ServiceError};
use strom_types::{BrokerId, ErrorCode, MetadataOffset};
use tokio::time::{Instant, timeout};
use tonic::{Response, Status};

use super::Call;
use crate::codes::{client_code, error_text, kafka};

/// For requests without a time-out of their own.
pub(super) const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Stands for a time-out that is not positive: some clients mean "as soon as possible" by it.
const ADMIN_TIMEOUT_MIN: Duration = Duration::from_secs(1);
const ADMIN_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Leaders know of a new partition a moment after this gateway; a broker that is stuck is not waited for any longer.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(1);

/// When the client no longer waits.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        Deadline(Instant::now() + limit.min(ADMIN_TIMEOUT_MAX))
    }

    pub(super) fn of_request(timeout_ms: i32) -> Self {
        match u64::try_from(timeout_ms) {
            Ok(0) | Err(_) => Self::after(ADMIN_TIMEOUT_MIN),
            Ok(millis) => Self::after(Duration::from_millis(millis)),
        }
    }

    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// What came of one item of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    pub error: ErrorCode,
    pub message: Option<ByteStr>,
}

impl Verdict {
    pub(super) fn refused(error: ErrorCode, message: impl Into<String>) -> Self {
        Verdict {
            error,
            message: Some(error_text(message)),
        }
    }

    /// The outcome is not known, or not visible yet.
    pub(super) fn timed_out() -> Self {
        Self::refused(ErrorCode::RequestTimedOut, "The request timed out.")
    }

    pub(super) fn of_item(error: Option<&ServiceError>) -> Self {
        match error {
            None => Verdict {
                error: ErrorCode::None,
                message: None,
            },
            Some(error) => Verdict {
                error: client_code(error_code(error.code)),
                message: (!error.message.is_empty()).then(|| error_text(error.message.as_str())),
            },
        }
    }

    /// The call as a whole failed, and so did each of its items.
    pub(super) fn of_call(error: &CallError) -> Self {
        match error {
            CallError::Refused(error) => Self::of_item(Some(error)),
            _ => Self::refused(client_code(error.code()), error.to_string()),
        }
    }

    /// The item's own outcome where nothing went wrong.
    pub(super) fn ok<T>(self, outcome: T) -> Result<T, Self> {
        if self.is_ok() { Ok(outcome) } else { Err(self) }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.error.is_none()
    }

    pub(super) fn code(&self) -> i16 {
        kafka(self.error)
    }
}

/// The controllers' answer to a change.
pub(super) trait Committed {
    /// The index at which the change is visible.
    fn metadata_offset(&self) -> u64;
}

macro_rules! committed {
    ($($reply:ident),+ $(,)?) => {$(
        impl Committed for v1::$reply {
            fn metadata_offset(&self) -> u64 {
                self.metadata_offset
            }
        }
    )+};
}

committed!(
    AlterConfigsReply,
    ChangeReply,
    CreatePartitionsReply,
    CreateTopicsReply,
    DeleteTopicsReply,
    ElectLeadersReply,
);

/// A change that the controllers have answered.
pub(super) struct Changed<A> {
    pub reply: A,
    /// This gateway shows it, so the client's next request sees it.
    seen: bool,
}

impl<A> Changed<A> {
    /// What came of one item. A success that is not shown yet is not told as one: the next request might not see it.
    pub(super) fn verdict(&self, error: Option<&ServiceError>) -> Verdict {
        match Verdict::of_item(error) {
            verdict if verdict.is_ok() && !self.seen => Verdict::timed_out(),
            verdict => verdict,
        }
    }
}

/// Calls the controllers for a change, and waits until this gateway shows it. `Err` = the call as a whole failed.
pub(super) async fn change<Q, A, F, R>(
    call: &Call,
    deadline: Deadline,
    effect: Effect,
    request: Q,
    send: F,
) -> Result<Changed<A>, Verdict>
where
    Q: Clone,
    A: Committed,
    F: Fn(ControllerClient<Transport>, Q) -> R,
    R: Future<Output = Result<Response<A>, Status>>,
{
    let controller = call.gateway.controller();
    let reply = controller.call(deadline.left(), effect, request, send).await;
    let reply = reply.map_err(|error| Verdict::of_call(&error))?;
    let seen = visible(call, deadline, reply.metadata_offset()).await;
    Ok(Changed { reply, seen })
}

/// Sends those items that are in order; their answers stand where the items stood. What got no answer has timed out.
pub(super) async fn send_valid<T, A, F>(
    items: impl IntoIterator<Item = Result<T, Verdict>>,
    send: impl FnOnce(Vec<T>) -> F,
) -> Vec<Result<A, Verdict>>
where
    F: Future<Output = Result<Vec<Result<A, Verdict>>, Verdict>>,
{
    let mut sent = Vec::new();
    let mut refusals = Vec::new();
    for item in items {
        refusals.push(item.map(|item| sent.push(item)).err());
    }
    let answers = if sent.is_empty() {
        Ok(Vec::new())
    } else {
        send(sent).await
    };
    let (answers, missing) = match answers {
        Ok(answers) => (answers, Verdict::timed_out()),
        Err(failed) => (Vec::new(), failed),
    };
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or_else(|| Err(missing.clone()));
    refusals
        .into_iter()
        .map(|refused| refused.map_or_else(&mut next, Err))
        .collect()
}

/// Waits a moment for the leaders of new partitions: the brokers that lead these topics have applied the metadata up
/// to `offset`, so what is told as created can be written at once.
pub(super) async fn led(call: &Call, deadline: Deadline, offset: u64, topics: &[&str]) {
    let limit = Deadline::after(deadline.left().min(LEADERS_TIMEOUT));
    let states = |image: &Image| -> Vec<Option<BrokerId>> {
        let named = topics.iter().filter_map(|name| image.topic_by_name(name));
        named
            .flat_map(|topic| topic.partitions.values().map(|state| state.leader))
            .collect()
    };
    let all_led = |image: &Image| states(image).iter().all(Option::is_some);
    wait_until(call, limit.left(), all_led).await;
    let image = call.gateway.metadata().image();
    let leaders: BTreeSet<BrokerId> = states(&image).into_iter().flatten().collect();
    let waits = leaders.into_iter().map(|id| {
        let broker = call.gateway.brokers().get(&image, id);
        async move {
            let request = v1::AwaitMetadataRequest {
                metadata_offset: offset,
            };
            if let Some(broker) = broker {
                // One that does not answer costs the client a retry at most.
                let _ = broker
                    .control(limit.left(), |mut stub| async move {
                        stub.await_metadata(request).await
                    })
                    .await;
            }
        }
    });
    join_all(waits).await;
}

/// Waits until this gateway shows what was committed at `offset`, so that the client's next request sees it.
pub(super) async fn visible(call: &Call, deadline: Deadline, offset: u64) -> bool {
    let metadata = call.gateway.metadata();
    metadata.wait_for(MetadataOffset(offset), deadline.left()).await
}

/// Waits until the metadata has what `holds` looks for.
pub(super) async fn wait_until(call: &Call, limit: Duration, holds: impl Fn(&Image) -> bool) -> bool {
    let metadata = call.gateway.metadata();
    let mut changes = metadata.changes();
    let wait = async {
        while !holds(&metadata.image()) {
            if changes.changed().await.is_err() {
                return false;
            }
        }
        true
    };
    timeout(limit, wait).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use strom_proto::convert::service_error;

    use super::*;

    #[test]
    fn what_a_failed_call_means() {
        let lost = CallError::Indeterminate {
            target: "controller".into(),
            reason: "gone".into(),
        };
        assert_eq!(Verdict::of_call(&lost).error, ErrorCode::RequestTimedOut);
        let unsent = CallError::Unreachable {
            target: "controller".into(),
            reason: "refused".into(),
        };
        assert_eq!(Verdict::of_call(&unsent).error, ErrorCode::NotController);
        let refused = CallError::Refused(service_error(ErrorCode::PolicyViolation, "no"));
        assert_eq!(
            Verdict::of_call(&refused),
            Verdict::refused(ErrorCode::PolicyViolation, "no")
        );
        assert!(Verdict::of_item(None).is_ok());
    }

    #[test]
    fn any_timeout_gives_a_deadline() {
        for (asked, least, most) in [
            (i32::MIN, 0, 1),
            (-1, 0, 1),
            (0, 0, 1),
            (5_000, 4, 5),
            (i32::MAX, 299, 300),
        ] {
            let left = Deadline::of_request(asked).left();
            assert!(
                left >= Duration::from_secs(least) && left <= Duration::from_secs(most),
                "{asked}"
            );
        }
    }
}
