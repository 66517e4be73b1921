//! Heartbeats: keep the session at the controllers and the lease here alive, and carry the wish to shut down.

use std::time::Duration;

use strom_client::{ControllerClient, is_refused};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_runtime::Shutdown;
use strom_types::{ErrorCode, MetadataOffset, Mono};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, info};

use crate::broker::Broker;
use crate::error::BrokerError;
use crate::life::leaderless::Leaderless;

/// While this broker waits for the controllers: to serve, or to be let go.
const WAITING_INTERVAL: Duration = Duration::from_millis(100);
/// Another broker's controlled shutdown waits until all have applied it: they say so after at most this time.
const APPLIED_DELAY: Duration = Duration::from_millis(50);
/// Heartbeats per session.
const PER_SESSION: u32 = 6;
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How the controllers see this broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Standing {
    /// May serve: registered and not fenced.
    pub unfenced: bool,
    /// Leads nothing any more and may stop.
    pub may_shut_down: bool,
}

/// Why a stream ended, and since when the controller asked surely leads nothing, where that is known.
struct Broke {
    reason: String,
    leaderless_at: Option<Mono>,
}

impl<T: Into<String>> From<T> for Broke {
    fn from(reason: T) -> Self {
        Broke {
            reason: reason.into(),
            leaderless_at: None,
        }
    }
}

pub(crate) struct Heartbeat {
    pub broker: Broker,
    pub controller: ControllerClient,
    /// The index that this broker's partitions have been brought to.
    pub applied: watch::Receiver<MetadataOffset>,
    /// Set to ask for a controlled shutdown.
    pub want_shutdown: watch::Receiver<bool>,
    pub standing: watch::Sender<Standing>,
}

impl Heartbeat {
    /// Runs until shutdown; the error tells that this life has been ended by the controllers.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), BrokerError> {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = self.beat() => Err(ended),
        }
    }

    async fn beat(self) -> BrokerError {
        let mut leaderless = Leaderless::new(self.controller.endpoints());
        loop {
            let target = self.controller.target();
            match self.stream().await {
                Ok(ended) => return ended,
                Err(Broke {
                    reason,
                    leaderless_at,
                }) => {
                    debug!(controller = %target, %reason, "heartbeat stream broke; trying another controller");
                    leaderless.note(&target, leaderless_at);
                }
            }
            if let Some(since) = leaderless.since() {
                self.broker.shared().extend_lease(since);
            }
            self.controller.turn(&target, "");
            sleep(RECONNECT_PAUSE).await;
        }
    }

    /// One stream of heartbeats. `Err` = it broke.
    async fn stream(&self) -> Result<BrokerError, Broke> {
        let asked = self.broker.clock().mono();
        let mut stub = self.controller.stub().map_err(|e| e.to_string())?;
        let (sender, requests) = mpsc::channel(4);
        sender.send(self.heartbeat()).await.map_err(|e| e.to_string())?;
        let open = timeout(ANSWER_MAX, stub.broker_heartbeat(ReceiverStream::new(requests))).await;
        let mut replies = open
            .map_err(|_| "no answer")?
            .map_err(|status| Broke {
                reason: status.to_string(),
                leaderless_at: is_refused(&status).then_some(asked),
            })?
            .into_inner();
        let mut every = WAITING_INTERVAL;
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut applied, mut want_shutdown) = (self.applied.clone(), self.want_shutdown.clone());
        let mut damaged = self.broker.shared().damaged_logs().found();
        let mut unanswered = Some(asked);
        let mut applied_due = None;
        loop {
            let waits = !self.standing.borrow().unfenced || *want_shutdown.borrow();
            tokio::select! {
                biased;
                reply = replies.message() => {
                    let reply = reply.map_err(|s| s.to_string())?.ok_or("the controller ended it")?;
                    unanswered = None;
                    let wanted = self.take(&reply)?;
                    if let Some(ended) = wanted.1 {
                        return Ok(ended);
                    }
                    if wanted.0 != every {
                        every = wanted.0;
                        tick = interval(every);
                        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
                    }
                    continue;
                }
                _ = tick.tick() => {}
                () = sleep_until(applied_due.unwrap_or_else(Instant::now)), if applied_due.is_some() => {}
                changed = applied.changed() => {
                    changed.map_err(|e| e.to_string())?;
                    // News that this broker waits for an answer to goes out at once.
                    if !waits {
                        applied_due.get_or_insert_with(|| Instant::now() + APPLIED_DELAY);
                        continue;
                    }
                }
                changed = want_shutdown.changed() => changed.map_err(|e| e.to_string())?,
                changed = damaged.changed() => changed.map_err(|e| e.to_string())?,
            }
            let now = self.broker.clock().mono();
            if now.since(*unanswered.get_or_insert(now)) > ANSWER_MAX {
                return Err("no answer for too long".into());
            }
            applied_due = None;
            sender.send(self.heartbeat()).await.map_err(|e| e.to_string())?;
        }
    }

    fn heartbeat(&self) -> v1::BrokerHeartbeatRequest {
        v1::BrokerHeartbeatRequest {
            broker_id: self.broker.id().get(),
            broker_epoch: self.broker.epoch().get(),
            sent_at: self.broker.clock().mono().0,
            metadata_offset: self.applied.borrow().get(),
            want_fence: false,
            want_shutdown: *self.want_shutdown.borrow(),
            offline_directories: Vec::new(),
            damaged: self.broker.shared().damaged_logs().report(),
            disk_full: self.broker.dir().is_full(),
        }
    }

    /// The interval from now on, and the end of this life if it has come. `Err` = this is not the leader.
    fn take(&self, reply: &v1::BrokerHeartbeatReply) -> Result<(Duration, Option<BrokerError>), Broke> {
        let session = Duration::from_millis(reply.session_timeout_ms.max(100));
        match error_code(reply.error) {
            ErrorCode::None => {}
            code @ (ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered) => {
                self.broker.shared().revoke_lease();
                let ended = match code {
                    ErrorCode::BrokerIdNotRegistered => BrokerError::Unregistered,
                    code => BrokerError::Superseded(code.to_string()),
                };
                return Ok((session, Some(ended)));
            }
            // Neither leads nor knows a leader.
            code @ ErrorCode::ControllerUnavailable => {
                return Err(Broke {
                    reason: code.to_string(),
                    leaderless_at: Some(Mono(reply.sent_at)),
                });
            }
            other => return Err(other.to_string().into()),
        }
        if reply.fenced {
            self.broker.shared().revoke_lease();
        } else {
            self.broker.shared().renew_lease(Mono(reply.sent_at), session);
        }
        let standing = Standing {
            unfenced: !reply.fenced,
            may_shut_down: reply.may_shut_down,
        };
        self.standing.send_if_modified(|known| {
            let changed = *known != standing;
            if known.unfenced != standing.unfenced {
                info!(
                    unfenced = standing.unfenced,
                    "the controllers changed this broker's standing"
                );
            }
            *known = standing;
            changed
        });
        let every = if reply.fenced || *self.want_shutdown.borrow() {
            WAITING_INTERVAL
        } else {
            session / PER_SESSION
        };
        Ok((every, None))
    }
}
